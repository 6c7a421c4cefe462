"""From a claimed attempt to a committed result on Beaker: the only module that changes the state of steps.

An attempt is one dataset, ``dispatch-step-<unique id>.<workspace>.<n>``, in which everything about it is:

::

    description       who works at it: its session, process and run
    record.json       what the step is
    manifest.json     the result: what it consists of, and where it is; written last
    result/, result.tar  the result, where a client uploaded it
    end.json          how an attempt without a result ended
    out.log           the end of its log

A state is derived. Nothing but a committed dataset with a manifest is a result. Creating a dataset fails
where the name is taken, which is the lock within an author; across authors whoever was first goes on, and
everybody looks after creating. Committing is the one step that cannot be undone or done twice: so whoever
takes an attempt for lost commits its dataset. Its holder, should it live, can write nothing more then; had it
written its manifest, that is the result.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dispatch._beaker import (
    BeakerConflictError,
    BeakerDeniedError,
    BeakerNotFoundError,
    CreatedDataset,
    Dataset,
    parcels,
)
from dispatch.errors import StepStateError
from dispatch.location import BeakerDataset, Location
from dispatch.workspace.beaker import names
from dispatch.workspace.beaker.lookup import END, RECORD, Lookup, Tried, to_json
from dispatch.workspace.beaker.sealed import seal
from dispatch.workspace.beaker.session import RENEW_EVERY
from dispatch.workspace.beaker.site import Site
from dispatch.workspace.claims import (
    Adopts,
    Attempt,
    Orphan,
    StepCompletedError,
    StepHeldError,
    StepSupersededError,
    Superseded,
)
from dispatch.workspace.host import Holder
from dispatch.workspace.layout import ATTEMPT_FOLDERS
from dispatch.workspace.manifest import NAME as MANIFEST
from dispatch.workspace.manifest import Content, Manifest

if TYPE_CHECKING:
    from dispatch.info import StepRecord

LOG = "out.log"
LOST = "lost"
RESULT = "result"
_LOG_BYTES = 4 << 20
# Beaker's storage tokens last for a day or so.
_FRESH = 3600.0
_TRIES = 50


@dataclass
class _Ours:
    """An attempt that this process works at. ``ending``: its end is being written."""

    attempt: Attempt
    created: CreatedDataset
    told: dict[str, Any]
    since: float
    ending: bool = False


class Attempts:
    """Attempts at the steps of one workspace. Its methods may be called from several threads."""

    def __init__(self, site: Site, lookup: Lookup) -> None:
        self._site = site
        self._lookup = lookup
        self._lock = threading.Lock()
        self._ours: dict[str, _Ours] = {}
        self._renewed = site.ports.monotonic()

    # Beginning

    def claim(
        self,
        record: StepRecord,
        run: str,
        replaces: bool = False,
        adopts: Adopts | None = None,
        removal: bool = False,
    ) -> Attempt:
        """Begin an attempt; see :meth:`dispatch.workspace.base.Workspace.claim`."""
        unique_id = record.unique_id
        once = record.cacheable and not replaces
        for _ in range(_TRIES):
            tried = self._settle(unique_id)
            if once and self._lookup.result(tried) is not None:
                raise StepCompletedError(unique_id)
            self._refuse_held(unique_id, tried)
            orphan = self.left(unique_id, tried) if adopts is not None else None
            adopted = orphan.number if adopts is not None and orphan is not None and adopts(orphan) else 0
            number = 1 + max((each.number for each in tried), default=0)
            attempt = Attempt(
                unique_id,
                number,
                self._site.attempt(unique_id, number),
                replaces and record.cacheable,
                adopted,
            )
            created = self._take(attempt, record, run, removal)
            if created is None:
                continue
            if not self._is_first(Tried(number, created.dataset, {"step": unique_id}), once):
                self._yield(attempt, created.dataset)
                continue
            self._furnish(attempt, created, record)
            return attempt
        raise StepHeldError(unique_id, "other clients, one after the other,")

    def _settle(self, unique_id: str) -> list[Tried]:
        """Return the attempts at a step, after those whose holders are gone can change nothing any more."""
        tried = self._lookup.of(unique_id)
        gone = [each for each in tried if each.is_open and not self._lookup.is_alive(each)]
        for each in gone:
            try:
                self._site.door.datasets.commit(each.dataset.id)
            except (BeakerNotFoundError, BeakerDeniedError):
                # Removed meanwhile; or somebody else's, and not for us to end: it is passed all the same.
                continue
        return self._lookup.of(unique_id) if gone else tried

    def _refuse_held(self, unique_id: str, tried: list[Tried]) -> None:
        for each in tried:
            if each.is_open and self._lookup.is_alive(each):
                raise StepHeldError(unique_id, holder_of(each))

    def _take(self, attempt: Attempt, record: StepRecord, run: str, removal: bool) -> CreatedDataset | None:
        """Make the attempt's dataset, or return None where somebody was faster."""
        told = {
            "step": attempt.unique_id,
            "name": record.name,
            "run": run,
            "since": self._site.ports.now().isoformat(),
            # Makes it one of a kind, so that a call whose answer was lost is known again.
            "nonce": os.urandom(8).hex(),
            **({"adopts": attempt.adopts} if attempt.adopts else {}),
            **({"removal": True} if removal else {}),
        }
        told = {**self._site.session.describe(), **told}
        name = self._lookup.name(attempt.unique_id, attempt.number)
        try:
            created = self._site.door.datasets.create(name, json.dumps(told))
        except BeakerConflictError:
            return None
        with self._lock:
            self._ours[attempt.key] = _Ours(attempt, created, told, self._site.ports.monotonic())
        return created

    def _is_first(self, mine: Tried, once: bool) -> bool:
        """Say whether nobody came before us without our seeing it.

        Of those who are at work the oldest dataset goes on: whoever made a younger one looks after making it,
        and sees the older. An end that we did not see would have given us another number.
        """
        tried = self._lookup.of(mine.word("step"))
        if once and self._lookup.result(tried) is not None:
            return False
        for each in tried:
            if each.dataset.id == mine.dataset.id or not each.told:
                continue
            if each.is_open and self._lookup.is_alive(each):
                if each.dataset.id < mine.dataset.id:
                    return False
            elif each.number >= mine.number:
                return False
        return True

    def _yield(self, attempt: Attempt, dataset: Dataset) -> None:
        """Take back an attempt of which nobody else knows."""
        with self._lock:
            self._ours.pop(attempt.key, None)
        self._site.door.datasets.delete([dataset.id])

    def _furnish(self, attempt: Attempt, created: CreatedDataset, record: StepRecord) -> None:
        self._site.door.datasets.write(created, RECORD, seal(record.to_json()))
        # There may be one from before somebody deleted all of the step's datasets by hand.
        shutil.rmtree(attempt.directory, ignore_errors=True)
        for folder in ATTEMPT_FOLDERS:
            (attempt.directory / folder).mkdir(parents=True)
        (attempt.place / "output").mkdir(parents=True, exist_ok=True)

    # Ending

    def commit(
        self,
        attempt: Attempt,
        record: StepRecord,
        facts: Mapping[str, Any],
        format: dict[str, Any] | None,
        output: Location | None = None,
    ) -> None:
        """Make the attempt's result the step's; see :meth:`dispatch.workspace.base.Workspace.commit`."""
        with self._ending(attempt):
            tried = self._lookup.of(attempt.unique_id)
            mine = self._mine(attempt, tried)
            if mine is not None and self._lookup.result_of(mine) is not None:
                return
            if record.cacheable and not attempt.replaces and self._lookup.result(tried) is not None:
                self._close(attempt, record, facts)
                return
            later = any(each.number > attempt.number and each.told for each in tried)
            if mine is None or not mine.is_open or later:
                if later:
                    self._close(attempt, record, facts)
                raise StepSupersededError(attempt.unique_id, attempt.number)
            try:
                created = self._opened(attempt, mine.dataset)
                content, location = self._deliver(attempt, created, output)
                manifest = Manifest(
                    attempt.unique_id, attempt.number, record.to_json(), dict(facts), content, format
                )
                self._keep_log(attempt, created)
                stored = seal(to_json(manifest, location, replaces=attempt.replaces))
                self._site.door.datasets.write(created, MANIFEST, stored)
                self._site.door.datasets.commit(created.dataset.id)
            except (BeakerConflictError, BeakerNotFoundError) as error:
                # Whoever took us for lost committed the dataset, or removed it.
                raise StepSupersededError(attempt.unique_id, attempt.number) from error

    def end(
        self,
        attempt: Attempt,
        record: StepRecord,
        facts: Mapping[str, Any],
        output: Location | None = None,
        removed: bool = False,
    ) -> None:
        """Record the end of an attempt that has no result; nothing where others took it for lost."""
        with self._ending(attempt):
            self._close(attempt, record, facts, output, removed)

    def _close(
        self,
        attempt: Attempt,
        record: StepRecord,
        facts: Mapping[str, Any],
        output: Location | None = None,
        removed: bool = False,
    ) -> None:
        datasets = self._site.door.datasets
        mine = self._mine(attempt, self._lookup.of(attempt.unique_id))
        if mine is None or not mine.is_open:
            return
        where = (
            {"dataset": output.id, "subpath": output.subpath} if isinstance(output, BeakerDataset) else None
        )
        data = {
            "end": 1,
            "attempt": attempt.number,
            "facts": dict(facts),
            "record": record.to_json(),
            "output": where,
            "removed": removed,
        }
        try:
            created = self._opened(attempt, mine.dataset)
            self._keep_log(attempt, created)
            datasets.write(created, END, seal(data))
            datasets.commit(created.dataset.id)
        except (BeakerConflictError, BeakerNotFoundError):
            return

    def _deliver(
        self, attempt: Attempt, created: CreatedDataset, output: Location | None
    ) -> tuple[Content, BeakerDataset]:
        """Return what the attempt's result consists of, and where it is; what is here is uploaded."""
        if isinstance(output, BeakerDataset):
            content = self._pointed(output)
            if content is None:
                raise _no_result(attempt, f"dataset {output.id}")
            return content, output
        source = attempt.result if output is None else output.path
        if source.is_symlink() or not source.is_dir():
            raise _no_result(attempt, str(attempt.directory))
        parcel = parcels.upload(self._site.door, created, source, RESULT)
        return parcel.content, BeakerDataset("", parcel.subpath, parcel.packed)

    def _pointed(self, output: BeakerDataset) -> Content | None:
        """Return what a job left in its own dataset; of an archive, that it is there."""
        datasets = self._site.door.datasets
        if not datasets.get(output.id).committed:
            return None
        prefix = f"{output.subpath}/" if output.subpath and not output.packed else output.subpath
        found = datasets.files(output.id, prefix)
        if output.packed:
            found = [each for each in found if each.path == output.subpath]
            prefix = output.subpath.rpartition("/")[0]
            prefix = f"{prefix}/" if prefix else ""
        if not found or not all(each.sha256 for each in found):
            return None
        return Content({each.path[len(prefix) :]: (each.size, each.sha256) for each in found})

    def _keep_log(self, attempt: Attempt, created: CreatedDataset) -> None:
        path = attempt.place / LOG
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - _LOG_BYTES))
                log = file.read(_LOG_BYTES)
        except OSError:
            return
        if log:
            self._site.door.datasets.write(created, LOG, log)

    def _mine(self, attempt: Attempt, tried: list[Tried]) -> Tried | None:
        """Return the dataset of an attempt of ours; another author may have one of the same number."""
        me = self._site.door.account.user_id
        for each in tried:
            if each.number == attempt.number and each.dataset.author_id == me and each.told:
                return each
        return None

    def _opened(self, attempt: Attempt, dataset: Dataset) -> CreatedDataset:
        """Return the dataset to write to. The right to write that came with making it may have run out."""
        with self._lock:
            ours = self._ours.get(attempt.key)
        if ours is not None and self._site.ports.monotonic() - ours.since < _FRESH:
            return ours.created
        return self._site.door.datasets.open(dataset)

    @contextlib.contextmanager
    def _ending(self, attempt: Attempt) -> Iterator[None]:
        """Mark an attempt as one whose end we write ourselves; afterwards it is no longer ours."""
        with self._lock:
            ours = self._ours.get(attempt.key)
            if ours is not None:
                ours.ending = True
        try:
            yield
        except StepSupersededError:
            raise
        except BaseException:
            if ours is not None:
                ours.ending = False
            raise
        with self._lock:
            self._ours.pop(attempt.key, None)

    # While it lasts

    def renew(self) -> tuple[Superseded, ...]:
        """Tell others that we live, and return those of our attempts that they took for lost."""
        again = self._site.session.renew()
        now = self._site.ports.monotonic()
        with self._lock:
            ours = [each for each in self._ours.values() if not each.ending]
        if not ours or (now - self._renewed < RENEW_EVERY and not again):
            return ()
        self._renewed = now
        if again:
            for each in ours:
                each.told = {**each.told, **self._site.session.describe()}
                with contextlib.suppress(BeakerNotFoundError):
                    self._site.door.datasets.describe(each.created.dataset.id, json.dumps(each.told))
        # One list of all that is not committed, however many attempts we work at.
        listed = self._site.door.datasets.search(names.STEP, committed=False, own=True)
        there = {each.id for each in listed}
        lost = [each for each in ours if each.created.dataset.id not in there and not each.ending]
        return tuple(self._superseded(each.attempt) for each in lost)

    def _superseded(self, attempt: Attempt) -> Superseded:
        later = [each for each in self._lookup.of(attempt.unique_id) if each.number > attempt.number]
        # Whoever took it for lost may be about to adopt its job: then it is not ours to stop.
        return Superseded(attempt, not later or any(each.adopts for each in later))

    # Looking

    def at_work(self, unique_ids: Iterable[str], run: str) -> Iterator[tuple[str, str]]:
        """Yield those of the steps at which somebody alive works for a run, and who that is, in words."""
        for unique_id, tried in self._lookup.of_all(unique_ids).items():
            for each in tried:
                if each.word("run") == run and self._lookup.is_alive(each):
                    yield unique_id, holder_of(each)

    def left(self, unique_id: str, tried: list[Tried]) -> Orphan | None:
        """Return the job of the latest attempt if nobody looks after it and its end is not known."""
        latest = latest_of(tried)
        if latest is None or latest.told.get("removal") or self._lookup.is_alive(latest):
            return None
        if self._lookup.result_of(latest) is not None or tells_end(self._lookup.end_of(latest)):
            return None
        number = latest.adopts or latest.number
        return Orphan(unique_id, number, self._site.attempt(unique_id, number), latest.word("run"))

    def settled(self, unique_id: str, number: int) -> bool:
        """Say whether an attempt's job is of no use to anybody: its end is recorded, or there is a result."""
        tried = self._lookup.of(unique_id)
        latest = latest_of(tried)
        if latest is None or self._lookup.is_alive(latest):
            return False
        if self._lookup.result(tried) is not None:
            return True
        about = [each for each in tried if each.told and number in (each.number, each.adopts)]
        return any(
            self._lookup.result_of(each) is not None or tells_end(self._lookup.end_of(each)) for each in about
        )


def latest_of(tried: list[Tried]) -> Tried | None:
    """Return the latest of the attempts that are ours; of several with one number the oldest."""
    ours = [each for each in tried if each.told]
    highest = max((each.number for each in ours), default=0)
    return next((each for each in ours if each.number == highest), None)


def tells_end(end: Mapping[str, Any] | None) -> bool:
    """Say whether somebody saw the end of an attempt's job."""
    facts = (end or {}).get("facts") or {}
    return bool(facts) and facts.get("reason") != LOST


def holder_of(tried: Tried) -> str:
    """Say who works at an attempt, in words."""
    try:
        return str(Holder.from_json(dict(tried.told)))
    except (KeyError, TypeError, ValueError):
        return "another client"


def _no_result(attempt: Attempt, where: str) -> StepStateError:
    return StepStateError(
        f"step {attempt.unique_id}: attempt {attempt.number} left no result", f"look at the files in {where}"
    )
