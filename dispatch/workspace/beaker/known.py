"""What is known of steps: from their attempts, and of those that nobody tried, from runs that want them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dispatch.info import AttemptFacts, StepInfo, StepRecord, StepState
from dispatch.workspace import records, search
from dispatch.workspace.beaker.attempts import latest_of
from dispatch.workspace.beaker.lookup import RECORD, Lookup, Result, Tried
from dispatch.workspace.names import is_unique_id

if TYPE_CHECKING:
    from dispatch.workspace.beaker.site import Site


@dataclass(frozen=True)
class Registration:
    """A step as the youngest run that wants it knows it; ``at`` is when that was made, by Beaker's clock."""

    record: StepRecord
    at: float


@dataclass(frozen=True)
class Standing:
    """Where a step stands: its result, its latest attempt, how that ended, and whether somebody is at it."""

    result: Result | None = None
    latest: Tried | None = None
    end: Mapping[str, Any] | None = None
    running: bool = False

    @property
    def removed(self) -> bool:
        """Whether the step was removed, and nothing was tried since."""
        return self.end is not None and bool(self.end.get("removed"))

    @property
    def facts(self) -> AttemptFacts | None:
        """The facts of the attempt that counts, where there is anything to say."""
        if self.result is not None:
            return AttemptFacts.from_json(self.result.manifest.facts)
        if self.end is not None and self.end.get("facts"):
            return AttemptFacts.from_json(self.end["facts"])
        if self.running and self.latest is not None and self.latest.word("since"):
            told = self.latest.told
            return AttemptFacts(
                StepState.RUNNING,
                started=datetime.fromisoformat(self.latest.word("since")),
                platform={"host": told.get("host", "")},
                environment={"pid": told.get("pid", 0), "run": told.get("run", "")},
            )
        return None


class Known:
    """The steps of one workspace. May be used from several threads."""

    def __init__(
        self, site: Site, lookup: Lookup, registered: Callable[[], Mapping[str, Registration]]
    ) -> None:
        self._site = site
        self._lookup = lookup
        self._registered = registered
        self._lock = threading.Lock()
        self._told: dict[str, StepRecord] = {}

    def tell(self, record: StepRecord) -> None:
        """Take the record of a step that was registered or claimed here: its name is the latest."""
        with self._lock:
            self._told[record.unique_id] = record

    def forget(self, unique_id: str) -> None:
        """Know nothing of a step any more."""
        with self._lock:
            self._told.pop(unique_id, None)

    def standing(self, tried: list[Tried], is_alive: Callable[[Tried], bool] | None = None) -> Standing:
        """Find out where a step stands, from its attempts."""
        latest = latest_of(tried)
        result = self._lookup.result(tried)
        if latest is None:
            return Standing(result)
        running = (is_alive or self._lookup.is_alive)(latest)
        ended = latest.dataset.committed and (result is None or result.dataset.id != latest.dataset.id)
        return Standing(result, latest, self._lookup.end_of(latest) if ended else None, running)

    def info(self, unique_id: str) -> StepInfo:
        """Return what is known of a step. KeyError where nothing is."""
        if not is_unique_id(unique_id):
            raise KeyError(unique_id)
        return self._info(unique_id, self.standing(self._lookup.of(unique_id)))

    def is_known(self, unique_id: str) -> bool:
        """Say whether anything is known of a step."""
        return self.record(unique_id) is not None

    def info_of(self, record: StepRecord) -> StepInfo:
        """Return what is known of a step whose record is at hand, be it known or not."""
        return info(record, self.standing(self._lookup.of(record.unique_id)))

    def record(self, unique_id: str) -> StepRecord | None:
        """Return a step's record, None where it is not known."""
        if not is_unique_id(unique_id):
            return None
        return self._record(unique_id, self.standing(self._lookup.of(unique_id)), None)

    def find(
        self,
        match: str | None,
        state: StepState | None,
    ) -> dict[str, StepInfo]:
        """Return the known steps in a state whose unique id contains ``match``; few requests serve many."""
        every = self._lookup.every(match)
        registered = self._registered()
        self._lookup.fetch(each for tried in every.values() for each in tried)
        # One question for each session, however many steps it works at.
        alive: dict[str, bool] = {}

        def is_alive(tried: Tried) -> bool:
            session = tried.word("session")
            if tried.is_open and session not in alive:
                alive[session] = self._lookup.is_alive(tried)
            return tried.is_open and alive[session]

        def look_up(unique_id: str) -> StepInfo:
            standing = self.standing(every.get(unique_id, []), is_alive)
            return self._info(unique_id, standing, registered)

        wanted = search.matching({*every, *registered}, match)
        return {found.unique_id: found for found in search.in_state(wanted, look_up, state)}

    def infos(self, unique_ids: Iterable[str], registered: Mapping[str, Registration]) -> dict[str, StepInfo]:
        """Return what is known of those of the steps that are; ``registered`` are those of some runs."""
        wanted = set(unique_ids)
        every = self._lookup.of_all(wanted)
        self._lookup.fetch(each for tried in every.values() for each in tried)
        found = {}
        for unique_id in wanted:
            with contextlib.suppress(KeyError):
                found[unique_id] = self._info(unique_id, self.standing(every.get(unique_id, [])), registered)
        return found

    def _info(
        self, unique_id: str, standing: Standing, registered: Mapping[str, Registration] | None = None
    ) -> StepInfo:
        record = self._record(unique_id, standing, registered)
        if record is None:
            raise KeyError(unique_id)
        return info(record, standing)

    def _record(
        self, unique_id: str, standing: Standing, registered: Mapping[str, Registration] | None
    ) -> StepRecord | None:
        with self._lock:
            told = self._told.get(unique_id)
        latest = standing.latest
        if told is not None and not standing.removed:
            return told
        if latest is not None and not standing.removed and not latest.told.get("removal"):
            return self._stored(latest, standing)
        if standing.result is not None:
            return StepRecord.from_json(standing.result.manifest.record)
        if registered is None:
            registered = self._registered()
        found = registered.get(unique_id)
        if found is not None and (latest is None or found.at > latest.dataset.created):
            return found.record
        if latest is not None and latest.told.get("removal") and not standing.removed:
            return records.forgotten(unique_id, unique_id)
        return None

    def _stored(self, latest: Tried, standing: Standing) -> StepRecord:
        result = standing.result
        if result is not None and result.dataset.id == latest.dataset.id:
            return StepRecord.from_json(result.manifest.record)
        if standing.end is not None:
            return StepRecord.from_json(standing.end["record"])
        stored = self._site.small.read(latest.dataset, RECORD)
        if stored is not None:
            return StepRecord.from_json(stored)
        if result is not None:
            return StepRecord.from_json(result.manifest.record)
        unique_id = latest.word("step")
        return records.forgotten(latest.word("name") or unique_id, unique_id)


def info(record: StepRecord, standing: Standing) -> StepInfo:
    """Say what is known of a step, from where it stands."""
    facts = standing.facts
    result = standing.result
    location = None if result is None else f"{result.location.id}/{result.location.subpath}".rstrip("/")
    return StepInfo(
        record, records.state_of(record, result is not None, standing.running, facts), facts, location
    )
