"""Looks after a workspace on Beaker: what is damaged in it, and what nothing needs any more.

Results are held against the digests that Beaker keeps: no byte of them is fetched. Never removed: what a run
names, what somebody alive works at, another author's things, the newest attempt at a step (numbers are not to
be used again). Plans are values, and each of their actions is taken only if it would still be planned.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch._beaker import BeakerDamagedError, BeakerDeniedError, BeakerNotFoundError
from dispatch.errors import WorkspaceError
from dispatch.workspace.beaker.lookup import Lookup, Tried
from dispatch.workspace.beaker.runs import Runs
from dispatch.workspace.beaker.taking import discard
from dispatch.workspace.check import Finding
from dispatch.workspace.check import Kind as Wrong
from dispatch.workspace.claims import StepHeldError
from dispatch.workspace.collect import Collection, Item, Kind
from dispatch.workspace.repair import Action, Repair, Repairs

if TYPE_CHECKING:
    from dispatch.workspace.beaker.workspace import BeakerWorkspace

_AT_ONCE = 8


def examine(workspace: BeakerWorkspace) -> Iterator[Finding]:
    """Find everything that is wrong."""
    site = workspace.site
    lookup = Lookup(site)
    every = lookup.every()
    lookup.fetch(each for tried in every.values() for each in tried)

    def look(unique_id: str) -> list[Finding]:
        return _wrong_with(workspace, lookup, unique_id, every[unique_id])

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for found in pool.map(look, sorted(every)):
            yield from found
    for name, place, fact in Runs(site).damaged():
        yield Finding(place, None, Wrong.RUN, fact, f"remove it: `dispatch remove {name}`")


def _wrong_with(
    workspace: BeakerWorkspace, lookup: Lookup, unique_id: str, tried: Iterable[Tried]
) -> list[Finding]:
    """What is wrong with the attempts at a step; of a result that is whole, whether it is as committed."""
    found = []
    for each in tried:
        try:
            left = lookup.committed_by(each)
            if left is not None and lookup.result_of(each) is None:
                fact = f"its bytes are gone: dataset {left.location.id} was deleted"
                found.append(Finding(each.dataset.name, unique_id, Wrong.RESULT, fact))
        except (BeakerDamagedError, WorkspaceError) as error:
            found.append(Finding(each.dataset.name, unique_id, Wrong.UNREADABLE, error.message, error.remedy))
    if found:
        return found
    result = lookup.result(list(tried))
    try:
        if result is not None:
            workspace.verify(unique_id, deep=False)
    except KeyError:
        return []
    except WorkspaceError as error:
        return [Finding(result.dataset.name, unique_id, Wrong.RESULT, error.message)] if result else []
    return []


def plan_repair(workspace: BeakerWorkspace) -> Repairs:
    """Find which results are to go, so that their steps are computed again."""
    return Repairs(
        tuple(
            Repair(Action.REMOVE, finding.place, finding.unique_id, finding.fact)
            for finding in examine(workspace)
            if finding.kind is Wrong.RESULT
        )
    )


def apply_repair(workspace: BeakerWorkspace, repairs: Repairs) -> tuple[Repair, ...]:
    """Remove what is still damaged, and return it; what somebody works at is left alone."""
    lookup = Lookup(workspace.site)
    done = []
    for repair in repairs.actions:
        unique_id = repair.unique_id
        if unique_id is None:
            continue
        tried = lookup.of(unique_id)
        if any(lookup.is_alive(each) for each in tried):
            continue
        places = {finding.place for finding in _wrong_with(workspace, lookup, unique_id, tried)}
        ids = [each.dataset.id for each in tried if each.dataset.name == repair.place]
        if repair.place in places and ids:
            # An attempt of its own: the number of the one that goes is not used again.
            with contextlib.suppress(KeyError, StepHeldError):
                workspace.remove_result(unique_id)
                done.append(repair)
    return tuple(done)


def plan_collection(workspace: BeakerWorkspace, older_than: timedelta, now: datetime) -> Collection:
    """Find what is not needed and older than that at the time ``now``, and remove nothing."""
    collector = _Collector(workspace, (now - older_than).timestamp())
    return Collection(tuple(collector.all()), older_than, now)


def apply_collection(workspace: BeakerWorkspace, collection: Collection) -> tuple[Item, ...]:
    """Remove what is still not needed, and return it."""
    collector = _Collector(workspace, (collection.now - collection.older_than).timestamp())
    wanted = set(collection.items)
    return tuple(item for item in collector.all() if item in wanted and collector.remove(item))


class _Collector:
    """Says what is needed. Things younger than ``bound`` (seconds of the epoch) are."""

    def __init__(self, workspace: BeakerWorkspace, bound: float) -> None:
        self._workspace = workspace
        self._site = workspace.site
        self._bound = bound
        self._lookup = Lookup(workspace.site)
        self._every = self._lookup.every()

    def all(self) -> list[Item]:
        """Everything that is not needed."""
        runs = Runs(self._site)
        self._lookup.fetch(each for tried in self._every.values() for each in tried)
        free = {
            unique_id: tried
            for unique_id, tried in self._every.items()
            if not any(self._lookup.is_alive(each) for each in tried)
        }
        found = [item for unique_id, tried in free.items() for item in self._attempts(unique_id, tried)]
        # A run that cannot be read, or is just being made, may name anything.
        if not runs.damaged() and not runs.in_the_making():
            named = runs.registered()
            found += [
                item
                for unique_id, tried in free.items()
                if unique_id not in named
                for item in self._result(unique_id, tried)
            ]
        return [*found, *self._directories()]

    def remove(self, item: Item) -> bool:
        """Remove one thing, and say whether it was there to be removed."""
        if item.kind is Kind.WORK:
            shutil.rmtree(item.place, ignore_errors=True)
            return True
        assert item.unique_id is not None
        if item.kind is Kind.RESULT:
            try:
                self._workspace.remove_result(item.unique_id)
            except (KeyError, StepHeldError):
                return False
            return True
        tried = [each for each in self._every[item.unique_id] if each.dataset.name == item.place]
        for each in tried:
            remove_attempt(self._workspace, self._lookup, each)
        return bool(tried)

    def _attempts(self, unique_id: str, tried: list[Tried]) -> Iterator[Item]:
        for each in spent(self._workspace, self._lookup, tried, self._bound):
            yield Item(Kind.ATTEMPT, each.dataset.name, unique_id, self._size(each), "ended without a result")

    def _result(self, unique_id: str, tried: list[Tried]) -> Iterator[Item]:
        try:
            result = self._lookup.result(tried)
        except (BeakerDamagedError, WorkspaceError):
            return
        if result is None or not _is_ours(self._workspace, result.dataset.author_id):
            return
        if result.dataset.created < self._bound:
            size = sum(facts[0] for facts in result.manifest.content.files.values())
            yield Item(Kind.RESULT, result.dataset.name, unique_id, size, "no run names it")

    def _size(self, tried: Tried) -> int:
        try:
            return sum(each.size for each in self._site.door.datasets.files(tried.dataset.id))
        except BeakerNotFoundError:
            return 0

    def _directories(self) -> Iterator[Item]:
        """What attempts and steps left on this machine: what counts of it is on Beaker."""
        for folder in ("attempts", "work"):
            place = self._site.directory / folder
            for path in sorted(place.iterdir()) if place.is_dir() else ():
                # By its name alone one cannot tell a step's id from that of an attempt with a dot in it.
                unique_id = path.name.rpartition(".")[0] if folder == "attempts" else path.name
                tried = self._every.get(unique_id, [])
                if _newest(path) < self._bound and not any(self._lookup.is_alive(each) for each in tried):
                    yield Item(Kind.WORK, str(path), unique_id, _bytes_in(path), "on this machine, and over")


def spent(workspace: BeakerWorkspace, lookup: Lookup, tried: list[Tried], bound: float) -> list[Tried]:
    """Return our own attempts at a step that ended without a result before ``bound``, but the newest."""
    newest = max((each.number for each in tried), default=0)
    found = []
    for each in tried:
        old = each.dataset.committed and each.number < newest and each.dataset.created < bound
        if not (old and each.told and _is_ours(workspace, each.dataset.author_id)):
            continue
        try:
            if lookup.result_of(each) is None:
                found.append(each)
        except (BeakerDamagedError, WorkspaceError):
            # `check` tells of it.
            continue
    return found


def remove_attempt(workspace: BeakerWorkspace, lookup: Lookup, tried: Tried) -> None:
    """Delete an ended attempt's dataset, and the output of its job, unless that is a result."""
    end = lookup.end_of(tried) or {}
    output = end.get("output")
    ids: Mapping[str, object] = output if isinstance(output, dict) else {}
    results = {
        result.location.id
        for each in lookup.of(tried.word("step"))
        if (result := lookup.result_of(each)) is not None
    }
    datasets = workspace.site.door.datasets
    found = str(ids.get("dataset", ""))
    if found and found not in results:
        try:
            output_dataset = datasets.get(found)
            if _is_ours(workspace, output_dataset.author_id):
                discard(workspace.site.door, [output_dataset])
        except (BeakerNotFoundError, BeakerDeniedError):
            pass
    discard(workspace.site.door, [tried.dataset])


def _is_ours(workspace: BeakerWorkspace, author_id: str) -> bool:
    return author_id == workspace.site.door.account.user_id


def _newest(path: Path) -> float:
    times = [path.lstat().st_mtime, *(each.lstat().st_mtime for each in path.rglob("*"))]
    return max(times)


def _bytes_in(path: Path) -> int:
    return sum(each.lstat().st_size for each in path.rglob("*") if not each.is_dir())
