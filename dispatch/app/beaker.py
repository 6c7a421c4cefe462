"""A local Beaker as a process: started, found again, ended, removed.

Owns the child, what it is told and what it hears of it; the server itself is :mod:`dispatch.beakerd`, which
nobody here imports. One server has one state directory. What it is called with holds nothing secret.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dispatch.app import beakercalls
from dispatch.app.beakercalls import Endpoint, Status
from dispatch.errors import ConfigurationError, DispatchError, EngineError

if TYPE_CHECKING:
    from dispatch._docker import Door
    from dispatch._docker.machine import Machine

LABEL = "dispatch.beaker"
START_LIMIT = 60.0
STOP_LIMIT = 30.0
JOBS_LIMIT = 300.0
LOOK_EVERY = 0.2
# What the server sees of the caller's environment: programs, certificates, proxies, the user's docker files.
_PASSED_ON = (
    *("HOME", "LANG", "LC_ALL", "PATH", "PYTHONPATH", "TMPDIR", "TZ", "USER", "LOGNAME", "DOCKER_CONFIG"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
)

Images = Callable[[], Mapping[str, str]]


@dataclass(frozen=True)
class Start:
    """How to start: a configuration to take (None: the one that is there, else the default), the endpoint for
    faults, and who provides the images that the server offers by name (None: nobody)."""

    config: Path | None = None
    control: bool = False
    images: Images | None = None


class LocalBeaker:
    """The server of one state directory, which need not exist."""

    def __init__(
        self,
        state: Path,
        door: Callable[[], Door],
        machine: Machine,
        environ: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        self.state = Path(os.path.abspath(state))  # noqa: PTH100, nothing is resolved
        self._door = door
        self._machine = machine
        self._environ = environ
        self._say = say

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.state / "server.log"

    @property
    def exists(self) -> bool:
        """Whether there is anything of it."""
        return (self.state / "lock").exists()

    def running(self) -> Endpoint | None:
        """The server that runs; None where it does not, whatever it left behind."""
        endpoint = beakercalls.read_endpoint(self.state / "endpoint.json")
        if endpoint is None or endpoint.boot != self._machine.boot():
            return None
        lives = self._machine.start_time(endpoint.pid) == str(endpoint.started)
        return endpoint if lives else None

    def status(self) -> Status | None:
        """What the running server says of itself; None where none runs. Raises EngineError."""
        endpoint = self.running()
        return beakercalls.ask_status(endpoint) if endpoint is not None else None

    def up(self, start: Start) -> Endpoint:
        """Have it run as is wanted, and return how to reach it. One that runs so already is left alone.

        :raises ConfigurationError: when the configuration cannot be; what ran goes on
        :raises EngineError: when the engine cannot serve it, or it does not start
        """
        with self._alone():
            endpoint = self._keep_or_end(start)
            if endpoint is None:
                self._prepare(start)
                process = self._spawn(start, foreground=False)
                # It is meant to outlive us: without this the interpreter warns of a child not waited for.
                self._await(process)
                process.returncode = 0
                endpoint = self.running()
            if endpoint is None:
                raise EngineError("the local Beaker ended at once", f"look into {self.log}")
            return endpoint

    def attend(self, start: Start, ready: Callable[[Endpoint], None]) -> int:
        """Have it run as our own child, and stay until it ends; return its exit code.

        An interrupt, or SIGTERM, ends it. ``ready`` is called once it answers.
        """
        with self._alone():
            if self._keep_or_end(start) is not None:
                raise EngineError(f"{self.state}: a local Beaker runs here already", "`dispatch beaker down`")
            self._prepare(start)
            process = self._spawn(start, foreground=True)
            try:
                self._await(process)
            except BaseException:
                process.terminate()
                raise
        endpoint = self.running()
        if endpoint is not None:
            ready(endpoint)
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                process.terminate()

    def down(self, *, stop_jobs: bool = False) -> str:
        """End it, and say in one sentence what was done. Jobs go on, unless they are to be stopped first.

        :raises EngineError: when it does not end, or jobs do not
        """
        with self._alone():
            return self._end(stop_jobs=stop_jobs)

    def reset(self) -> str:
        """End it, and remove all that is of it: containers, volumes, state. Say what was removed.

        :raises EngineError: when the engine does not answer, so that containers would be left
        """
        with self._alone():
            if self.running() is not None:
                self._end(stop_jobs=False)
            containers, volumes = self._remove_from_engine()
            if self.state.exists():
                # Under another name first: what is half removed is no state.
                gone = self.state.with_name(f".{self.state.name}.removed-{os.getpid()}")
                self.state.rename(gone)
                shutil.rmtree(gone)
        return f"{self.state}: removed, with {containers} containers and {volumes} volumes"

    def _remove_from_engine(self) -> tuple[int, int]:
        door = self._door()
        owner = hashlib.sha256(os.fsencode(self.state.resolve())).hexdigest()[:16]
        containers = door.containers.labelled(LABEL, owner)
        for container in containers:
            door.containers.remove(container.id)
        volumes = door.files.volumes(LABEL, owner)
        for volume in volumes:
            door.files.remove_volume(volume)
        return len(containers), len(volumes)

    def _keep_or_end(self, start: Start) -> Endpoint | None:
        """The server that runs, if it is as wanted; else it is ended, once the new one can be."""
        endpoint = self.running()
        if endpoint is None:
            return None
        changed = start.config is not None and _content(start.config) != _content(self.state / "config.yml")
        if not changed and (endpoint.control or not start.control):
            return endpoint
        if start.config is not None:
            self._check(start.config)
        self._say(self._end(stop_jobs=False))
        return None

    def _end(self, *, stop_jobs: bool) -> str:
        endpoint = self.running()
        if endpoint is None:
            return f"no local Beaker runs in {self.state}"
        left: int | None = None
        if stop_jobs:
            self._stop_jobs(endpoint)
        with contextlib.suppress(EngineError):
            left = beakercalls.ask_status(endpoint).unfinished
        if not self._machine.terminate(endpoint.pid, str(endpoint.started), STOP_LIMIT):
            raise EngineError(
                f"the local Beaker (process {endpoint.pid}) has not ended after {STOP_LIMIT:g} s",
                f"look into {self.log}, and end the process by hand",
            )
        what = f"the local Beaker in {self.state} (process {endpoint.pid}) has ended"
        if not left:
            return what
        return f"{what}; {left} jobs are unfinished: those that run go on, and `up` looks after them again"

    def _stop_jobs(self, endpoint: Endpoint) -> None:
        number = beakercalls.stop_jobs(endpoint)
        self._say(f"stopping {number} jobs")
        deadline = self._machine.monotonic() + JOBS_LIMIT
        while beakercalls.ask_status(endpoint).unfinished:
            if self._machine.monotonic() >= deadline:
                raise EngineError(
                    f"some jobs have not stopped after {JOBS_LIMIT:g} s", "`dispatch beaker down` leaves them"
                )
            self._machine.sleep(LOOK_EVERY)

    def _prepare(self, start: Start) -> None:
        """See that the engine can serve it, and provide what it offers."""
        if start.config is not None:
            self._check(start.config)
        door = self._door()
        door.ping()
        if door.address.tls is not None:
            raise EngineError(
                f"the engine at {door.address}: the local Beaker speaks to engines without TLS only",
                "use an engine of this machine, by its socket",
            )
        self.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        obstacle = door.sight.obstacle([self.state])
        if obstacle:
            raise EngineError(
                f"the engine at {door.address}: {obstacle}, and jobs mount what is in {self.state}",
                "use an engine of this machine, or choose a directory that the engine sees with --state",
            )
        if start.images is not None:
            text = json.dumps(dict(start.images()), indent=2)
            path = self.state / "images.json"
            partial = path.with_suffix(".part")
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)

    def configuration(self) -> str:
        """The configuration that holds, or the default one, as a file with comments."""
        return str(self._ask("--show", self.state / "config.yml")["text"])

    def _check(self, config: Path) -> None:
        """Refuse a configuration that the server would refuse."""
        self._ask("--check", config)

    def _ask(self, word: str, path: Path) -> Mapping[str, Any]:
        """Have the server's program look at a configuration."""
        process = self._popen([word, os.path.abspath(path)], stderr=subprocess.PIPE)  # noqa: PTH100
        out, err = process.communicate()
        return _judge(out, err.decode("utf-8", "replace").strip())

    def _spawn(self, start: Start, *, foreground: bool) -> subprocess.Popen[bytes]:
        words = ["--state", str(self.state), "--engine", self._door().address.url]
        if start.config is not None:
            words += ["--config", os.path.abspath(start.config)]  # noqa: PTH100
        words += ["--control"] if start.control else []
        if foreground:
            return self._popen([*words, "--foreground"], stderr=None)
        log_file = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(log_file, "ab") as log:
            return self._popen(words, stderr=log, new_session=True)

    def _popen(
        self, words: Sequence[str], stderr: Any, *, new_session: bool = False
    ) -> subprocess.Popen[bytes]:
        environ = {name: value for name, value in self._environ.items() if name.upper() in _PASSED_ON}
        # Whatever a stranger writes to its port, gRPC would put a line of its own into the log.
        environ.update(GRPC_VERBOSITY="NONE", PYTHONSAFEPATH="1")
        process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-m", "dispatch.beakerd", *words],
            env=environ,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=new_session,
        )
        return process

    def _await(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until it says that it is ready."""
        assert process.stdout is not None
        deadline = self._machine.monotonic() + START_LIMIT
        told = b""
        with process.stdout as pipe:
            while not told.endswith(b"\n"):
                left = deadline - self._machine.monotonic()
                if left <= 0 or not select.select([pipe], [], [], left)[0]:
                    process.terminate()
                    raise EngineError(
                        f"the local Beaker does not answer after {START_LIMIT:g} s", f"look into {self.log}"
                    )
                piece = os.read(pipe.fileno(), 65536)
                if not piece:
                    break
                told += piece
        _judge(told, f"look into {self.log}")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other commands about the same server out; its file is beside the state, which may go."""
        self.state.parent.mkdir(parents=True, exist_ok=True)
        with self.state.with_name(f".{self.state.name}.command").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _judge(told: bytes, otherwise: str) -> Mapping[str, Any]:
    """Return what the child said, or raise what it cannot do; ``otherwise``: the remedy for no word."""
    try:
        document: dict[str, Any] = json.loads(told)
    except ValueError:
        raise EngineError("the local Beaker ended before it answered", otherwise) from None
    if "error" not in document:
        return document
    kind: type[DispatchError] = ConfigurationError if document["code"] == 2 else EngineError
    raise kind(document["error"], document["remedy"])


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
