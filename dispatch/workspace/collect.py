"""Finds what a local workspace no longer needs, and removes it: the plan is a value, and shows every byte.

Never removed: what a run refers to, what somebody alive works at, the last word on an attempt
(``attempt.json``), and leases, whose numbers are not to be used again. An age is that of the newest
thing that tells one, and a drive's clock may differ from ours: do not ask for ages of minutes.
"""

from __future__ import annotations

import contextlib
import enum
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch.errors import WorkspaceError
from dispatch.workspace import manifest as manifests
from dispatch.workspace.attempts import DRAFT, END, Attempts, Ports
from dispatch.workspace.check import links_of, split
from dispatch.workspace.layout import Layout
from dispatch.workspace.manifest import Manifest
from dispatch.workspace.names import is_unique_id
from dispatch.workspace.runs import RunRecord
from dispatch.workspace.shelf import DISPLACED, REPLACED, Shelf

if TYPE_CHECKING:
    from dispatch.workspace.local import LocalWorkspace

_LOG = "out.log"


class Kind(enum.Enum):
    """What would go."""

    RESULT = "result"
    ATTEMPT = "attempt"
    WORK = "work"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class Item:
    """One thing that would go. ``place`` is a path in the workspace, ``size`` is in bytes."""

    kind: Kind
    place: str
    unique_id: str | None
    size: int
    reason: str


@dataclass(frozen=True)
class Collection:
    """What would go, at an age of more than ``older_than`` at the time ``now``."""

    items: tuple[Item, ...]
    older_than: timedelta
    now: datetime

    @property
    def size(self) -> int:
        """All bytes together."""
        return sum(item.size for item in self.items)


def plan(workspace: LocalWorkspace, older_than: timedelta, now: datetime) -> Collection:
    """Find what is not needed and older than that at the time ``now``, and remove nothing."""
    judge = _Judge(workspace.dir, workspace.ports, (now - older_than).timestamp())
    return Collection(tuple(judge.all()), older_than, now)


def apply(workspace: LocalWorkspace, collection: Collection) -> tuple[Item, ...]:
    """Remove what is still not needed, and return it. WorkspaceError where the disk refuses."""
    bound = (collection.now - collection.older_than).timestamp()
    judge = _Judge(workspace.dir, workspace.ports, bound)
    gone = []
    for item in collection.items:
        try:
            if judge.remove(item):
                gone.append(item)
        except OSError as error:
            raise WorkspaceError(
                f"{error.filename or workspace.dir / item.place}: cannot be removed ({error.strerror})",
                "see who may write there",
            ) from error
    return tuple(gone)


class _References:
    """The unique ids that runs name. A run never comes to name others, so each is read once."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._seen: dict[str, frozenset[str]] = {}

    def __contains__(self, unique_id: str) -> bool:
        """Look for runs that are new since, and say whether any names the step."""
        for name in _names(self._layout.runs):
            # A run in the making is hidden, and names its steps already.
            if name not in self._seen:
                self._seen[name] = self._named_by(self._layout.runs / name)
        return any(unique_id in named for named in self._seen.values())

    def _named_by(self, directory: Path) -> frozenset[str]:
        try:
            run = RunRecord.read(directory)
        except (KeyError, WorkspaceError):
            return frozenset(links_of(directory).values())
        return frozenset((*run.targets.values(), *run.jobs.values()))


class _Judge:
    """Says of each thing whether it is needed. Things younger than ``bound`` (seconds of the epoch) are."""

    def __init__(self, root: Path, ports: Ports, bound: float) -> None:
        self._disk = ports.disk
        self._layout = Layout(root, ports.disk)
        self._attempts = Attempts(self._layout, ports)
        self._bound = bound
        self._references = _References(self._layout)
        self._shelf = Shelf(self._layout, ports.disk)
        # Results last: what is left of an attempt depends on whether its step has one.
        self._ways: dict[Kind, tuple[Path, Callable[[str], str | None]]] = {
            Kind.ATTEMPT: (self._layout.attempts, self._attempt),
            Kind.WORK: (self._layout.works, self._work),
            Kind.DAMAGED: (self._layout.damaged, self._damaged),
            Kind.RESULT: (self._layout.results, self._result),
        }

    def all(self) -> Iterator[Item]:
        """Find all that is not needed."""
        self._layout.check()
        for kind, (folder, reason_for) in self._ways.items():
            for name in _names(folder):
                reason = reason_for(name)
                if reason is not None:
                    yield self._item(kind, name, reason)

    def remove(self, item: Item) -> bool:
        """Remove one thing if it is not needed now, either."""
        folder, reason_for = self._ways[item.kind]
        name = Path(item.place).name
        if reason_for(name) is None:
            return False
        if item.kind is Kind.RESULT:
            return self._remove_result(name)
        if item.kind is not Kind.ATTEMPT:
            self._disk.remove(folder / name)
            return True
        for path in self._leftovers(name):
            self._disk.remove(path)
        return True

    def _item(self, kind: Kind, name: str, reason: str) -> Item:
        path = self._ways[kind][0] / name
        going = self._leftovers(name) if kind is Kind.ATTEMPT else [path]
        unique_id = {Kind.ATTEMPT: split(name)[0], Kind.DAMAGED: None}.get(kind, name)
        place = str(path.relative_to(self._layout.root))
        return Item(kind, place, unique_id, sum(map(_size, going)), reason)

    def _result(self, name: str) -> str | None:
        """Say why a result is not needed, or None where it is."""
        if not is_unique_id(name) or name in self._references or self._attempts.holder(name) is not None:
            return None
        made = self._made(name)
        return None if made is None or made > self._bound else f"no run names it; it is from {_day(made)}"

    def _made(self, unique_id: str) -> float | None:
        """Return when a result was committed, by what it says and by its file; None where nobody can tell."""
        path = self._layout.cache(unique_id) / manifests.NAME
        try:
            manifest = Manifest.read(path)
            if manifest is None:
                return None
            ended = manifest.facts.get("ended")
            said = datetime.fromisoformat(ended).timestamp() if ended else 0.0
            return max(said, path.stat().st_mtime)
        except (WorkspaceError, OSError, TypeError, ValueError):
            return None

    def _attempt(self, name: str) -> str | None:
        """Say why what is left of an attempt is not needed, or None where it is."""
        unique_id, number = split(name)
        if not number or self._attempts.looks_after(unique_id, number):
            return None
        directory = self._layout.attempts / name
        ended = directory / END
        if _changed(ended if ended.exists() else directory) > self._bound or not self._leftovers(name):
            return None
        return "has ended" if ended.exists() else "was broken off"

    def _leftovers(self, name: str) -> list[Path]:
        """Return what of an attempt nobody needs: all but its end, its log, and what may still be wanted.

        The log goes when no run names the step any more. The end of the latest attempt stays: without it the
        process that made it would count as still at work.
        """
        unique_id, _ = split(name)
        directory = self._layout.attempts / name
        named = unique_id in self._references
        kept = {END}
        if named or (self._attempts.has_result(unique_id) and not self._result(unique_id)):
            kept.add(_LOG)
        draft = directory / DRAFT
        # Of a barred attempt this is the file that bars it; of one that is not to be cached it is the result.
        if draft.is_file() or (named and self._keeps_result(unique_id, draft)):
            kept.add(DRAFT)
        spare = () if self._attempts.has_result(unique_id) else (REPLACED, DISPLACED)
        entries = [
            entry for entry in _names(directory) if entry not in kept and entry.split(".")[0] not in spare
        ]
        return [directory / entry for entry in entries]

    def _keeps_result(self, unique_id: str, draft: Path) -> bool:
        try:
            return self._attempts.standing(unique_id).directory == draft
        except WorkspaceError:
            return True

    def _work(self, name: str) -> str | None:
        """Say why a work directory is not needed, or None where it is."""
        if not is_unique_id(name) or self._attempts.holder(name) is not None:
            return None
        with contextlib.suppress(WorkspaceError):
            if _changed(self._layout.work(name)) <= self._bound and self._attempts.standing(name).manifest:
                return "its step is completed"
        return None

    def _damaged(self, name: str) -> str | None:
        """Say why something that was set aside is not needed, or None where it is."""
        since = _changed(self._layout.damaged / name)
        return None if since > self._bound else f"was set aside on {_day(since)}"

    def _remove_result(self, name: str) -> bool:
        """Take a result away in one rename; a run that was registered in that very moment gets it back."""
        aside = self._layout.results / f".{name[:100]}.{os.urandom(6).hex()}"
        self._disk.rename(self._layout.cache(name), aside)
        if name in self._references:
            self._shelf.put_back(aside, self._layout.cache(name))
            return False
        self._disk.remove(aside)
        return True


def _names(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []


def _changed(path: Path) -> float:
    """Return when a thing was last changed or moved; for what is not there, the far future."""
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return float("inf")
    return max(facts.st_mtime, facts.st_ctime)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).date().isoformat()


def _size(path: Path) -> int:
    """Return the bytes of all files below; what disappears meanwhile counts nothing."""
    total = 0
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if not path.is_dir() or path.is_symlink():
            return path.lstat().st_size
        with os.scandir(path) as entries:
            total = sum(_size(Path(entry.path)) for entry in entries)
    return total
