"""Mends a local workspace: what ``check`` finds, and nothing that was made or begun since.

Nothing anybody computed is deleted: what is damaged is set aside under ``damaged/``, and the step is computed
again. The plan is a value; each of its actions looks again at its place before it does anything.
"""

from __future__ import annotations

import contextlib
import enum
import os
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch.errors import WorkspaceError
from dispatch.info import StepRecord
from dispatch.workspace import manifest as manifests
from dispatch.workspace import records
from dispatch.workspace.attempts import DRAFT, Ports
from dispatch.workspace.check import Examiner, Kind, link_to, links_of, split
from dispatch.workspace.layout import MARKER
from dispatch.workspace.manifest import Manifest
from dispatch.workspace.names import is_name, is_unique_id
from dispatch.workspace.runs import RECORD, RunRecord, Runs
from dispatch.workspace.shelf import Shelf

if TYPE_CHECKING:
    from dispatch.workspace.local import LocalWorkspace


class Action(enum.Enum):
    """What is done about a finding."""

    SET_ASIDE = "set aside"
    PUT_BACK = "put back"
    END = "end"
    REBUILD = "rebuild"
    LINK = "link"
    REMOVE = "remove"


@dataclass(frozen=True)
class Repair:
    """One thing to do. ``place`` is a path in the workspace, ``reason`` what is wrong with it."""

    action: Action
    place: str
    unique_id: str | None
    reason: str


@dataclass(frozen=True)
class Repairs:
    """What is to be done, in this order."""

    actions: tuple[Repair, ...] = ()


_ACTIONS = {
    Kind.RESULT: Action.SET_ASIDE,
    Kind.ASIDE: Action.PUT_BACK,
    Kind.ATTEMPT: Action.END,
    Kind.RECORD: Action.REBUILD,
    Kind.RUN: Action.REBUILD,
    Kind.LINK: Action.LINK,
    Kind.LEFTOVER: Action.REMOVE,
    Kind.MARKER: Action.REBUILD,
}


def plan(workspace: LocalWorkspace, *, deep: bool = True) -> Repairs:
    """Find what is to be done, and do nothing. WorkspaceError as by ``check.examine``."""
    examiner = Examiner(workspace.dir, workspace.ports, deep)
    findings = list(examiner.all())
    # Where a damaged result goes, an older one that it replaced is the step's only one again.
    damaged = {finding.unique_id for finding in findings if finding.kind is Kind.RESULT}
    for name in sorted(os.listdir(examiner.layout.attempts)) if damaged else ():  # noqa: PTH208
        if split(name)[0] in damaged:
            findings += examiner.asides(name)
    repairs = [
        Repair(_ACTIONS[finding.kind], finding.place, finding.unique_id, finding.fact)
        for finding in findings
        if finding.kind in _ACTIONS
    ]
    return Repairs(tuple(sorted(dict.fromkeys(repairs), key=_order)))


def apply(workspace: LocalWorkspace, repairs: Repairs) -> tuple[Repair, ...]:
    """Do what is still to be done, and return it. WorkspaceError where the disk refuses."""
    mender = _Mender(workspace.dir, workspace.ports)
    done = []
    for repair in repairs.actions:
        try:
            if mender.mend(repair):
                done.append(repair)
        except OSError as error:
            raise WorkspaceError(
                f"{workspace.dir}/{repair.place}: cannot be repaired ({error.strerror})",
                "see who may write there, and whether the disk has room",
            ) from error
    return tuple(done)


def _order(repair: Repair) -> tuple[int, int]:
    """First make room, then put back the newest of what may be put back; the rest as it was found."""
    if repair.action is Action.PUT_BACK:
        return 1, -split(Path(repair.place).parts[1])[1]
    return (0 if repair.action is Action.SET_ASIDE else 2), 0


class _Mender:
    """Carries repairs out in one workspace; each method says whether there was still anything to do."""

    def __init__(self, root: Path, ports: Ports) -> None:
        self._ports = ports
        self._disk = ports.disk
        self._examiner = Examiner(root, ports)
        self._layout = self._examiner.layout
        self._shelf = Shelf(self._layout, ports.disk)

    def mend(self, repair: Repair) -> bool:
        """Carry one repair out, if it is still due."""
        folder, *rest = Path(repair.place).parts
        if repair.action is Action.REMOVE:
            return self._remove(self._layout.root / repair.place)
        if repair.action is Action.SET_ASIDE:
            cached = folder == self._layout.results.name
            return self._set_result_aside(rest[0]) if cached else self._set_kept_aside(rest[0])
        if repair.action is Action.END:
            return self._end(*split(rest[0]))
        if repair.action is Action.PUT_BACK:
            return self._put_back(rest[0], repair.place, split(rest[0])[0])
        if folder == MARKER:
            return self._mark()
        if folder == self._layout.latest.name:
            return self._link_latest()
        if folder == self._layout.steps.name:
            return self._rebuild_record(rest[0])
        return self._rebuild_run(rest[0]) if len(rest) == 1 else self._link(rest[0], repair.place)

    def _mark(self) -> bool:
        due = bool(list(self._examiner.marker()))
        if due:
            self._layout.mark()
        return due

    def _set_result_aside(self, name: str) -> bool:
        if not any(finding.kind is Kind.RESULT for finding in self._examiner.result(name)):
            return False
        number = self._shelf.number(name) or 0
        directory = self._layout.results / name
        aside = self._set_aside(directory, f"{name}.{number}" if is_unique_id(name) else "stray")
        # Somebody may have put a sound one there since we looked.
        with contextlib.suppress(WorkspaceError):
            self._examiner.hold(aside, name, Manifest.read(aside / manifests.NAME))
            self._shelf.put_back(aside, directory)
            return False
        return True

    def _set_kept_aside(self, attempt: str) -> bool:
        due = any(finding.kind is Kind.RESULT for finding in self._examiner.kept(attempt))
        if due:
            self._set_aside(self._layout.attempts / attempt / DRAFT, attempt)
        return due

    def _set_aside(self, path: Path, name: str) -> Path:
        self._disk.make_dir(self._layout.damaged)
        aside = self._layout.damaged / f"{name}.{os.urandom(6).hex()}"
        self._disk.rename(path, aside)
        return aside

    def _put_back(self, attempt: str, place: str, unique_id: str) -> bool:
        if self._shelf.has_result(unique_id):
            return False
        due = any(finding.place == place for finding in self._examiner.asides(attempt))
        return due and self._shelf.put_back(self._layout.root / place, self._layout.cache(unique_id))

    def _end(self, unique_id: str, number: int) -> bool:
        if self._examiner.attempts.abandoned(unique_id) != number:
            return False
        self._examiner.attempts.abandon(unique_id, number)
        return True

    def _remove(self, path: Path) -> bool:
        if not list(self._examiner.leftover(path, self._examiner.clock())):
            return False
        self._disk.remove(path)
        return True

    def _rebuild_record(self, name: str) -> bool:
        """Write a step's record again as its result has it; without a result it is set aside."""
        unique_id = name.removesuffix(".json")
        due = [*self._examiner.record(name), *self._examiner.missing_record(unique_id)]
        if not any(finding.kind is Kind.RECORD for finding in due):
            return False
        path = self._layout.steps / name
        data = self._record_in_result(unique_id)
        if os.path.lexists(path):
            self._set_aside(path, name if is_unique_id(unique_id) else "stray")
        if data is not None:
            self._disk.write(path, data)
        return True

    def _record_in_result(self, unique_id: str) -> bytes | None:
        if not is_unique_id(unique_id):
            return None
        with contextlib.suppress(WorkspaceError):
            manifest = Manifest.read(self._layout.cache(unique_id) / manifests.NAME)
            if manifest is not None:
                return records.to_bytes(StepRecord.from_json(manifest.record))
        return None

    def _rebuild_run(self, name: str) -> bool:
        """Make a run's record again from its links, its date from its directory; set aside what is no run."""
        if not any(finding.kind is Kind.RUN for finding in self._examiner.run(name)):
            return False
        directory = self._layout.runs / name
        links = links_of(directory) if is_name(name) else {}
        if not links:
            self._set_aside(directory, name if is_name(name) else "stray")
            return True
        began = datetime.fromtimestamp(directory.stat().st_mtime, timezone.utc)
        if (directory / RECORD).exists():
            self._set_aside(directory / RECORD, f"{name}{RECORD}")
        self._disk.write(directory / RECORD, RunRecord(name, began, links).to_bytes(), durable=True)
        return True

    def _link(self, run: str, place: str) -> bool:
        for finding in self._examiner.run(run):
            if finding.kind is Kind.LINK and finding.place == place and finding.unique_id is not None:
                self._disk.link(self._layout.root / place, link_to(finding.unique_id))
                return True
        return False

    def _link_latest(self) -> bool:
        due = [finding for finding in self._examiner.latest() if finding.kind is Kind.LINK]
        runs = Runs(self._layout.runs, self._layout.latest, self._disk).all() if due else []
        if runs:
            self._disk.link(self._layout.latest, f"{self._layout.runs.name}/{runs[-1].name}")
        elif due and self._layout.latest.is_symlink():
            self._disk.remove(self._layout.latest)
        return bool(due)
