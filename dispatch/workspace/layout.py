"""Where a local workspace keeps what, and the marker that says in which layout.

::

    settings.json .gitignore latest -> runs/<name>
    cache/<unique id>/{manifest.json,result/}        results
    runs/<name>/{.run.json,.out.log,<step> -> ../../cache/<unique id>}, and what ``drives`` keeps
    steps/<unique id>.json                           what is known of a step
    leases/<unique id>.<n>                           who works, or worked, at it
    attempts/<unique id>.<n>/{attempt.json,out.log,output/,commit/,replaced/}, and a job's own files
    work/<unique id>/                                what a step keeps between attempts
    damaged/                                         what `repair` set aside

Nothing stored is an absolute path, so the whole can be moved. ``cache`` is the truth; all else explains it.
"""

from __future__ import annotations

import json
from pathlib import Path

from dispatch.errors import WorkspaceError
from dispatch.workspace.disk import Disk

VERSION = 1
MARKER = "settings.json"
_FOLDERS = ("cache", "runs", "steps", "leases", "attempts", "work")
# What every attempt has; the engine adds what it needs.
ATTEMPT_FOLDERS = ("output",)


class Layout:
    """The paths of a workspace in the directory ``root``."""

    def __init__(self, root: Path, disk: Disk) -> None:
        self.root = root
        self.latest = root / "latest"
        self.runs = root / "runs"
        self.leases = root / "leases"
        self.results = root / "cache"
        self.steps = root / "steps"
        self.attempts = root / "attempts"
        self.works = root / "work"
        self.damaged = root / "damaged"
        self._disk = disk
        self._checked = False
        self._prepared = False

    def cache(self, unique_id: str) -> Path:
        """The directory of a step's committed result and manifest."""
        return self.results / unique_id

    def step(self, unique_id: str) -> Path:
        """The file with a step's record."""
        return self.steps / f"{unique_id}.json"

    def attempt(self, unique_id: str, number: int) -> Path:
        """The directory of one attempt."""
        return self.attempts / f"{unique_id}.{number}"

    def work(self, unique_id: str) -> Path:
        """The directory a step keeps between attempts."""
        return self.works / unique_id

    def run(self, name: str) -> Path:
        """The directory of a run."""
        return self.runs / name

    def check(self) -> None:
        """Raise WorkspaceError where the directory is in a layout we do not know. Asks the disk once."""
        if self._checked:
            return
        settings = self.root / MARKER
        try:
            data = json.loads(settings.read_bytes())
            version = data["layout"]
        except FileNotFoundError:
            return
        except OSError as error:
            raise WorkspaceError(
                f"{self.root}: cannot be a workspace: {error.strerror}", "name a directory of yours"
            ) from error
        except (KeyError, TypeError, ValueError) as error:
            raise WorkspaceError(
                f"{self.root}: is not a workspace of dispatch (settings.json has no layout)",
                "choose another directory for the workspace",
            ) from error
        if version != VERSION:
            raise WorkspaceError(
                f"{self.root}: is in layout {version}, this dispatch knows layout {VERSION}",
                "use the version of dispatch that wrote it, or another directory",
            )
        self._checked = True

    def prepare(self) -> None:
        """Make the directory a workspace if it is none yet; WorkspaceError if it holds something else."""
        self.check()
        if self._prepared:
            return
        try:
            if not self._checked:
                self._found()
            for folder in _FOLDERS:
                self._disk.make_dir(self.root / folder)
            ignore = self.root / ".gitignore"
            if not ignore.exists():
                self._disk.write(ignore, b"*\n")
        except OSError as error:
            raise WorkspaceError(
                f"{self.root}: cannot be made a workspace: {error.strerror}",
                "name a directory that you may write to, on a disk with room",
            ) from error
        self._prepared = True

    def _found(self) -> None:
        """Write the marker first: what follows may be cut short, and is made up for at the next time."""
        self._disk.make_dir(self.root)
        strange = [path.name for path in self.root.iterdir() if not path.name.startswith(f".{MARKER}.")]
        if strange:
            # Another process may be founding it: the marker is there before anything else of a workspace is.
            self.check()
            if self._checked:
                return
            raise WorkspaceError(
                f"{self.root}: is not a workspace and not empty (there is {sorted(strange)[0]!r})",
                "choose an empty or a new directory for the workspace",
            )
        self.mark()

    def mark(self) -> None:
        """Write down that the directory is a workspace, and in which layout."""
        self._disk.write(self.root / MARKER, json.dumps({"layout": VERSION}).encode() + b"\n")
