"""Attempts at steps on Beaker: who may work at one, for how long, and what becomes of those of the dead.

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
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from dispatch._beaker import (
    BeakerConflictError,
    BeakerDeniedError,
    BeakerNotFoundError,
    CreatedDataset,
    Dataset,
)
from dispatch.workspace.beaker import names
from dispatch.workspace.beaker.lookup import RECORD, Lookup, Tried
from dispatch.workspace.beaker.ours import Held, Ours
from dispatch.workspace.beaker.sealed import seal
from dispatch.workspace.beaker.session import RENEW_EVERY
from dispatch.workspace.beaker.site import Site
from dispatch.workspace.claims import (
    Adopts,
    Attempt,
    Orphan,
    StepCompletedError,
    StepHeldError,
    Superseded,
)
from dispatch.workspace.host import Holder
from dispatch.workspace.layout import ATTEMPT_FOLDERS

if TYPE_CHECKING:
    from dispatch.info import StepRecord

LOST = "lost"
_TRIES = 50


class Attempts:
    """Attempts at the steps of one workspace. Its methods may be called from several threads."""

    def __init__(self, site: Site, lookup: Lookup, ours: Ours) -> None:
        self._site = site
        self._lookup = lookup
        self._ours = ours
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
        self._ours.add(attempt, created, told)
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
        self._ours.drop(attempt)
        self._site.door.datasets.delete([dataset.id])

    def _furnish(self, attempt: Attempt, created: CreatedDataset, record: StepRecord) -> None:
        self._site.door.datasets.write(created, RECORD, seal(record.to_json()))
        # There may be one from before somebody deleted all of the step's datasets by hand.
        shutil.rmtree(attempt.directory, ignore_errors=True)
        for folder in ATTEMPT_FOLDERS:
            (attempt.directory / folder).mkdir(parents=True)
        (attempt.place / "output").mkdir(parents=True, exist_ok=True)

    # While it lasts

    def renew(self) -> tuple[Superseded, ...]:
        """Tell others that we live, and return those of our attempts that they took for lost."""
        again = self._site.session.renew()
        now = self._site.ports.monotonic()
        ours = self._ours.lasting()
        if not ours or (now - self._renewed < RENEW_EVERY and not again):
            return ()
        self._renewed = now
        if again:
            self._tell_again(ours)
        # One list of all that is not committed, however many attempts we work at.
        listed = self._site.door.datasets.search(names.STEP, committed=False, own=True)
        there = {each.id for each in listed}
        lost = [each for each in ours if each.created.dataset.id not in there and not each.ending]
        return tuple(self._superseded(each.attempt) for each in lost)

    def _tell_again(self, ours: Iterable[Held]) -> None:
        """Tell with all that we work at of our new session."""
        for each in ours:
            each.told = {**each.told, **self._site.session.describe()}
            with contextlib.suppress(BeakerNotFoundError):
                self._site.door.datasets.describe(each.created.dataset.id, json.dumps(each.told))

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
        if self._tells_end(latest):
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
        return any(self._tells_end(each) for each in about)

    def _tells_end(self, tried: Tried) -> bool:
        """Say whether somebody saw the end of an attempt's job."""
        if self._lookup.committed_by(tried) is not None:
            return True
        facts = (self._lookup.end_of(tried) or {}).get("facts") or {}
        return bool(facts) and facts.get("reason") != LOST


def latest_of(tried: list[Tried]) -> Tried | None:
    """Return the latest of the attempts that are ours; of several with one number the oldest."""
    ours = [each for each in tried if each.told]
    highest = max((each.number for each in ours), default=0)
    return next((each for each in ours if each.number == highest), None)


def holder_of(tried: Tried) -> str:
    """Say who works at an attempt, in words."""
    try:
        return str(Holder.from_json(dict(tried.told)))
    except (KeyError, TypeError, ValueError):
        return "another client"
