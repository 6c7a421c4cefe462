"""Where the server keeps what: the directory of its state.

Owns the names in it. ``endpoint.json`` is the one file that others read (``dispatch beaker`` and tests): it
is written when the server answers and removed when it goes, and holds what :class:`Endpoint` says.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

LABEL = "dispatch.beaker"


@dataclass(frozen=True)
class Endpoint:
    """How to reach a running server. ``pid``, ``started`` (its start time in clock ticks) and the machine's
    ``boot`` name the process.

    ``rpc`` and ``rest`` are ``host:port``; ``bridge`` is the host by which containers reach the same ports,
    None where they do not. ``admin_token`` opens the routes under ``/local/``: status, and faults where they
    are on (``control``). ``proxy`` answers for another host, see ``intercept``; None where that is off.
    """

    pid: int
    started: int
    rpc: str
    rest: str
    ca: str
    admin_token: str
    boot: str = ""
    bridge: str | None = None
    control: bool = False
    rest_tls: bool = False
    proxy: str | None = None


@dataclass(frozen=True)
class Layout:
    """The paths of one server's state, which belongs to its user alone (0700)."""

    root: Path

    @property
    def owner(self) -> str:
        """What the label ``dispatch.beaker`` says of this server's containers and volumes."""
        return hashlib.sha256(os.fsencode(self.root.resolve())).hexdigest()[:16]

    @property
    def lock(self) -> Path:
        """Locked (flock) by the running server."""
        return self.root / "lock"

    @property
    def endpoint(self) -> Path:
        """See :class:`Endpoint`."""
        return self.root / "endpoint.json"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.root / "server.log"

    @property
    def config(self) -> Path:
        """The configuration that holds; a copy, so that ``up`` without one starts the same server again."""
        return self.root / "config.yml"

    @property
    def images(self) -> Path:
        """Images that whoever starts the server has made, as JSON: name to the engine's reference."""
        return self.root / "images.json"

    @property
    def default_user(self) -> Path:
        """The name of the user that a shell becomes which names none: the first of the configuration."""
        return self.root / "default-user"

    @property
    def database(self) -> Path:
        """SQLite: everything but files."""
        return self.root / "beaker.db"

    @property
    def authority(self) -> Path:
        """The local certificate authority and the server's certificate."""
        return self.root / "tls"

    @property
    def roots(self) -> Path:
        """The authorities that public programs trust, and ours: for clients that are told one file."""
        return self.authority / "roots.pem"

    @property
    def users(self) -> Path:
        """One directory a user: ``config.yml`` for beaker-py, with the user's token (0600)."""
        return self.root / "users"

    @property
    def uploads(self) -> Path:
        """What is being uploaded; on the same file system as all the rest."""
        return self.root / "uploads"

    @property
    def blobs(self) -> Path:
        """The registry's blobs, by digest."""
        return self.root / "blobs"

    def files(self, dataset: str) -> Path:
        """The tree of a dataset's files, which is mounted into jobs as it is."""
        return self.root / "datasets" / dataset / "files"

    def dataset(self, dataset: str) -> Path:
        """Everything of a dataset."""
        return self.root / "datasets" / dataset

    def job(self, job: str) -> Path:
        """A job's own directory: its log, its configuration, the secrets mounted into it."""
        return self.root / "jobs" / job

    def job_log(self, job: str) -> Path:
        """What a job printed; see :mod:`dispatch.beakerd.joblog`."""
        return self.job(job) / "log"

    def make(self) -> None:
        """Make the directories that are always there."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.root.chmod(0o700)
        for path in (self.users, self.uploads, self.blobs, self.root / "datasets", self.root / "jobs"):
            path.mkdir(exist_ok=True, mode=0o700)

    def write_endpoint(self, endpoint: Endpoint) -> None:
        """Say that the server answers now; the file is there whole or not at all, and for its owner alone."""
        text = json.dumps(asdict(endpoint), indent=2) + "\n"
        write_private(self.endpoint, text.encode())


def write_private(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, for its owner alone."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        # Else a loss of power may leave an empty file under the name: a key that is none.
        os.fsync(file.fileno())
    new.replace(path)
