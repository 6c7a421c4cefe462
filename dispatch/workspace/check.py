"""What is wrong with a local workspace: results against their manifests, and all else against the results.

Changes nothing, and waits for nobody: what is at work meanwhile is no damage. What is to be done about a
finding is decided by ``repair``, which looks again first.
"""

from __future__ import annotations

import contextlib
import enum
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch.errors import WorkspaceError
from dispatch.workspace import manifest as manifests
from dispatch.workspace import records
from dispatch.workspace.attempts import DRAFT, END, Attempts, Ports
from dispatch.workspace.drives import REQUESTS
from dispatch.workspace.layout import MARKER, Layout
from dispatch.workspace.manifest import DamagedError, Manifest
from dispatch.workspace.names import is_name, is_unique_id
from dispatch.workspace.runs import RunRecord
from dispatch.workspace.shelf import DISPLACED, REPLACED

if TYPE_CHECKING:
    from dispatch.workspace.local import LocalWorkspace

# Nothing that is written under a temporary name takes as long as this.
LEFTOVER_SECONDS = 3600.0
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}")
_ATTEMPT = re.compile(r"(.+)\.([1-9][0-9]*)")
_REPAIR = "run `dispatch repair`"
_RETRIES = 10


class Kind(enum.Enum):
    """What is wrong."""

    RESULT = "damaged result"
    UNREADABLE = "unreadable"
    ASIDE = "result put aside"
    ATTEMPT = "broken-off attempt"
    RECORD = "damaged record"
    RUN = "damaged run"
    LINK = "wrong link"
    STRAY = "in the way"
    LEFTOVER = "leftover"
    MARKER = "missing marker"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. ``place`` is a path in the workspace, and ``unique_id`` the step it is of."""

    place: str
    unique_id: str | None
    kind: Kind
    fact: str
    remedy: str = _REPAIR


def examine(workspace: LocalWorkspace, *, deep: bool = True) -> Iterator[Finding]:
    """Find everything that is wrong, each result hashed whole unless not ``deep``.

    WorkspaceError where the directory is no workspace, or one that this version does not know.
    """
    return Examiner(workspace.dir, workspace.ports, deep).all()


class Examiner:
    """Looks at one workspace; each method yields or returns what it finds wrong with one thing."""

    def __init__(self, root: Path, ports: Ports, deep: bool = True) -> None:
        self.layout = Layout(root, ports.disk)
        self.attempts = Attempts(self.layout, ports)
        self._ports = ports
        self._deep = deep

    def all(self) -> Iterator[Finding]:
        """Find everything that is wrong."""
        self.layout.check()
        yield from self.marker()
        for name in _names(self.layout.results):
            if not name.startswith("."):
                yield from self.result(name)
        for name in _names(self.layout.steps):
            if not name.startswith("."):
                yield from self.record(name)
        for name in _names(self.layout.results):
            yield from self.missing_record(name)
        for name in _names(self.layout.attempts):
            yield from self.attempt(name)
        for name in _names(self.layout.runs):
            if not name.startswith("."):
                yield from self.run(name)
        yield from self.latest()
        yield from self.leftovers()

    def marker(self) -> Iterator[Finding]:
        """Find whether the workspace does not say that it is one."""
        path = self.layout.root / MARKER
        if not path.exists() and self.layout.results.is_dir() and self.layout.leases.is_dir():
            yield Finding(MARKER, None, Kind.MARKER, "is missing, but this has been a workspace")

    def result(self, name: str) -> Iterator[Finding]:
        """Hold one directory of the cache against its manifest; one that vanishes meanwhile is fine."""
        directory = self.layout.results / name
        step = name if is_unique_id(name) else None
        # A result may be replaced while we read it; then we read the new one.
        for _ in range(_RETRIES):
            if not os.path.lexists(directory):
                return
            before: Manifest | None = None
            try:
                before = Manifest.read(directory / manifests.NAME)
                self.hold(directory, name, before)
                return
            except DamagedError as error:
                if _reread(directory) != before:
                    continue
                place = self._place(Path(error.path))
                yield Finding(place, step, Kind.RESULT, error.fact, error.remedy)
            except WorkspaceError as error:
                yield Finding(self._place(directory), step, Kind.UNREADABLE, error.message, error.remedy)
            return

    def hold(self, directory: Path, unique_id: str, manifest: Manifest | None) -> None:
        """Raise DamagedError unless a directory holds the result of this step, as its manifest says."""
        if manifest is None:
            raise DamagedError(str(directory), "has no manifest, so it is no result")
        if manifest.unique_id != unique_id:
            raise DamagedError(str(directory), f"holds the result of {manifest.unique_id}")
        manifests.verify(directory / "result", manifest, deep=self._deep)

    def record(self, name: str) -> Iterator[Finding]:
        """Read one step's record."""
        path = self.layout.steps / name
        unique_id = name[: -len(".json")] if name.endswith(".json") else ""
        try:
            if records.from_bytes(path.read_bytes()).unique_id == unique_id:
                return
            fact = "is not the record of this step"
        except FileNotFoundError:
            return
        except OSError as error:
            fact = f"cannot be read ({error.strerror})"
            yield Finding(self._place(path), unique_id, Kind.UNREADABLE, fact, "see who may read it")
            return
        except WorkspaceError as error:
            fact = error.message
        yield Finding(self._place(path), unique_id or None, Kind.RECORD, fact)

    def missing_record(self, unique_id: str) -> Iterator[Finding]:
        """Find whether a step with a result has no record."""
        path = self.layout.step(unique_id)
        if is_unique_id(unique_id) and self.attempts.has_result(unique_id) and not path.exists():
            yield Finding(self._place(path), unique_id, Kind.RECORD, "is missing, but the step has a result")

    def attempt(self, name: str) -> Iterator[Finding]:
        """Find an attempt whose holder is gone without an end, and the only result of a step put aside."""
        unique_id, number = split(name)
        if not number:
            return
        directory = self.layout.attempts / name
        yield from self.kept(name)
        if self.attempts.has_result(unique_id):
            return
        if self.attempts.abandoned(unique_id) == number:
            fact = "has no end, and the process that made it is gone"
            yield Finding(self._place(directory), unique_id, Kind.ATTEMPT, fact)
        yield from self.asides(name)

    def kept(self, name: str) -> Iterator[Finding]:
        """Hold a result that is not to be cached, and stays with its attempt, against its manifest."""
        unique_id, _ = split(name)
        directory = self.layout.attempts / name / DRAFT
        try:
            manifest = Manifest.read(directory / manifests.NAME)
            # Any other was about to be committed, and is nothing to anybody.
            kept = manifest is not None and not manifest.record.get("cacheable")
            if kept and directory.with_name(END).exists():
                self.hold(directory, unique_id, manifest)
        except DamagedError as error:
            yield Finding(self._place(Path(error.path)), unique_id, Kind.RESULT, error.fact, error.remedy)
        except WorkspaceError as error:
            yield Finding(self._place(directory), unique_id, Kind.UNREADABLE, error.message, error.remedy)

    def asides(self, name: str) -> Iterator[Finding]:
        """Find sound results that were put aside in an attempt, while nobody works at its step."""
        unique_id, number = split(name)
        if number and self.attempts.holder(unique_id) is None:
            for entry in _names(self.layout.attempts / name):
                if entry.split(".")[0] in (REPLACED, DISPLACED):
                    yield from self._aside(self.layout.attempts / name / entry, unique_id)

    def _aside(self, directory: Path, unique_id: str) -> Iterator[Finding]:
        with contextlib.suppress(WorkspaceError):
            self.hold(directory, unique_id, Manifest.read(directory / manifests.NAME))
            fact = "is a sound result, and the step has no other"
            yield Finding(self._place(directory), unique_id, Kind.ASIDE, fact)

    def run(self, name: str) -> Iterator[Finding]:
        """Read one run's record, and hold its links against it."""
        directory = self.layout.runs / name
        try:
            run = RunRecord.read(directory)
        except KeyError:
            if os.path.lexists(directory):
                yield Finding(self._place(directory), None, Kind.RUN, "has no record, so it is no run")
            return
        except WorkspaceError as error:
            yield Finding(self._place(directory), None, Kind.RUN, error.message, _REPAIR)
            return
        for step, unique_id in {**run.jobs, **run.targets}.items():
            path = directory / step
            if is_name(step) or step == unique_id:
                yield from self._link(path, link_to(unique_id), unique_id)

    def latest(self) -> Iterator[Finding]:
        """Find whether ``latest`` leads to no run though there are some."""
        path = self.layout.latest
        leads = _target(path)
        if not any(not name.startswith(".") for name in _names(self.layout.runs)):
            return
        if leads is None and os.path.lexists(path):
            yield self._stray(path)
        elif leads is None:
            yield Finding(self._place(path), None, Kind.LINK, "is missing")
        elif Path(leads).parent != Path(self.layout.runs.name) or not (self.layout.root / leads).is_dir():
            yield Finding(self._place(path), None, Kind.LINK, f"leads to {leads!r}, where there is no run")

    def leftovers(self) -> Iterator[Finding]:
        """Find what was begun under a temporary name so long ago that nobody finishes it."""
        layout = self.layout
        folders = [layout.root, layout.results, layout.runs, layout.steps, layout.leases, layout.works]
        folders.append(layout.attempts)
        for name in _names(layout.attempts):
            folders += [layout.attempts / name, layout.attempts / name / DRAFT]
        for name in _names(layout.runs):
            if not TEMPORARY.fullmatch(name):
                folders += [layout.runs / name, layout.runs / name / REQUESTS]
        found = [folder / name for folder in folders for name in _names(folder) if TEMPORARY.fullmatch(name)]
        clock = self.clock() if found else 0.0
        for path in found:
            yield from self.leftover(path, clock)

    def leftover(self, path: Path, clock: float) -> Iterator[Finding]:
        """Say whether a temporary file or directory is old enough, by the drive's clock."""
        with contextlib.suppress(OSError):
            if clock - path.lstat().st_ctime > LEFTOVER_SECONDS:
                fact = "was left by a process that was cut off"
                yield Finding(self._place(path), None, Kind.LEFTOVER, fact)

    def clock(self) -> float:
        """Return the time by the drive's clock, or by ours where the drive cannot be written to."""
        try:
            return self._ports.disk.clock(self.layout.root)
        except OSError:
            return self._ports.now().timestamp()

    def _link(self, path: Path, wanted: str, unique_id: str) -> Iterator[Finding]:
        leads = _target(path)
        # The whole run may have been removed since its record was read.
        if leads == wanted or not path.parent.exists():
            return
        if leads is not None:
            yield Finding(self._place(path), unique_id, Kind.LINK, f"leads to {leads!r}, not to {wanted!r}")
        elif os.path.lexists(path):
            yield self._stray(path, unique_id)
        else:
            yield Finding(self._place(path), unique_id, Kind.LINK, "is missing")

    def _stray(self, path: Path, unique_id: str | None = None) -> Finding:
        return Finding(
            self._place(path), unique_id, Kind.STRAY, "is not the link it should be", "move it away"
        )

    def _place(self, path: Path) -> str:
        return str(path.relative_to(self.layout.root))


def split(name: str) -> tuple[str, int]:
    """Take the name of an attempt's directory apart; the number is 0 where it is none."""
    found = _ATTEMPT.fullmatch(name)
    return (found[1], int(found[2])) if found and is_unique_id(found[1]) else (name, 0)


def link_to(unique_id: str) -> str:
    """Return what a run's link to a step's result holds."""
    return f"../../cache/{unique_id}"


def links_of(run: Path) -> dict[str, str]:
    """Return the unique ids that the links in a run's directory lead to, by step."""
    found = {}
    for name in _names(run):
        leads = _target(run / name) or ""
        unique_id = leads.rpartition("/")[2]
        if leads == link_to(unique_id) and is_unique_id(unique_id):
            found[name] = unique_id
    return found


def _reread(directory: Path) -> Manifest | None:
    try:
        return Manifest.read(directory / manifests.NAME)
    except WorkspaceError:
        return None


def _names(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []


def _target(path: Path) -> str | None:
    try:
        return os.readlink(path)  # noqa: PTH115
    except OSError:
        return None
