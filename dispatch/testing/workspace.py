"""The dispatcher's half of a workspace, in memory, with errors where a test wants them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from dispatch.info import AttemptFacts, StepInfo, StepRecord, StepState
from dispatch.location import Location
from dispatch.workspace.base import (
    Adopts,
    Attempt,
    Orphan,
    StepCompletedError,
    StepHeldError,
    Superseded,
)


class FakeClaims:
    """Implements :class:`~dispatch.dispatcher.Claims`.

    ``results`` are the unique ids that have a result, ``holders`` those at which somebody else works.
    ``hook`` is called with the verb and the unique id at the beginning of every call, and with ``claimed``
    after a claim; what it raises, the call raises. ``claimed`` and ``ended`` hold the keys of attempts,
    ``committed`` unique ids, each in order. ``superseded`` are returned by ``renew``. ``orphans`` maps
    unique ids to jobs that nobody looks after.
    """

    def __init__(self, directory: Path, hook: Callable[[str, str], None] = lambda *_: None) -> None:
        self._directory = directory
        self.hook = hook
        self._lock = threading.Lock()
        self._numbers: dict[str, int] = {}
        self.results: set[str] = set()
        self.holders: set[str] = set()
        self.claimed: list[str] = []
        self.ended: list[str] = []
        self.committed: list[str] = []
        self.facts: dict[str, AttemptFacts] = {}
        self.superseded: list[Superseded] = []
        self.orphans: dict[str, Orphan] = {}
        self.renewals = 0

    def claim(
        self,
        record: StepRecord,
        run: str,  # noqa: ARG002
        *,
        replace: bool = False,
        adopts: Adopts | None = None,
    ) -> Attempt:
        """Begin an attempt."""
        unique_id = record.unique_id
        self.hook("claim", unique_id)
        with self._lock:
            if record.cacheable and unique_id in self.results and not replace:
                raise StepCompletedError(unique_id)
            number = self._numbers.get(unique_id, 0)
            if unique_id in self.holders or (number and f"{unique_id}.{number}" not in self.ended):
                raise StepHeldError(unique_id, "somebody")
            orphan = self.orphans.pop(unique_id, None)
            adopted = orphan.number if adopts is not None and orphan is not None and adopts(orphan) else 0
            number = max(number, orphan.number if orphan is not None else 0)
            self._numbers[unique_id] = number + 1
            directory = self._directory / f"{unique_id}.{number + 1}"
            attempt = Attempt(unique_id, number + 1, directory, replace, adopted)
            self.claimed.append(attempt.key)
        self.hook("claimed", unique_id)
        return attempt

    def orphan(self, unique_id: str) -> Orphan | None:
        """Return a job that was left."""
        return self.orphans.get(unique_id)

    def complete(self, unique_id: str) -> None:
        """Let whoever else works at a step have its result."""
        with self._lock:
            self.holders.discard(unique_id)
            self.results.add(unique_id)

    def commit(
        self,
        attempt: Attempt,
        record: StepRecord,
        facts: AttemptFacts,
        *,
        output: Location | None = None,  # noqa: ARG002
    ) -> StepInfo:
        """Take a result in."""
        self.hook("commit", attempt.unique_id)
        with self._lock:
            self.results.add(attempt.unique_id)
            self.committed.append(attempt.unique_id)
        return self._end(attempt, record, facts)

    def fail(
        self,
        attempt: Attempt,
        record: StepRecord,
        facts: AttemptFacts,
        *,
        output: Location | None = None,  # noqa: ARG002
    ) -> StepInfo:
        """Record an end without a result."""
        self.hook("fail", attempt.unique_id)
        return self._end(attempt, record, facts)

    def renew(self) -> tuple[Superseded, ...]:
        """Count the renewal."""
        self.hook("renew", "")
        self.renewals += 1
        return tuple(self.superseded)

    def step_info(self, unique_id: str) -> StepInfo:
        """Return what is known of a step: only that it has a result."""
        self.hook("step_info", unique_id)
        if unique_id not in self.results:
            raise KeyError(unique_id)
        record = StepRecord(unique_id, unique_id, "Fake", "fake", None, True, True, (), {})
        return StepInfo(record, StepState.COMPLETED)

    def _end(self, attempt: Attempt, record: StepRecord, facts: AttemptFacts) -> StepInfo:
        with self._lock:
            self.ended.append(attempt.key)
            self.facts[attempt.key] = facts
        return StepInfo(record, facts.state, facts)
