"""What is due when, on the run's own clock."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Requeue:
    """A step that was put off may be tried again."""

    name: str


@dataclass(frozen=True)
class TimeLimit:
    """A job has run for as long as it may."""

    key: str


Due = Requeue | TimeLimit


class Timers:
    """Alarms by time. None is ever taken back: whoever hears one looks whether it still matters."""

    def __init__(self) -> None:
        self._alarms: list[tuple[float, int, Due]] = []
        self._count = 0

    def set(self, when: float, what: Due) -> None:
        """Have ``what`` told at ``when``."""
        self._count += 1
        heapq.heappush(self._alarms, (when, self._count, what))

    def next(self) -> float | None:
        """Return when the next alarm is due; None where there is none."""
        return self._alarms[0][0] if self._alarms else None

    def due(self, now: float) -> Iterator[Due]:
        """Yield what is due at ``now``, in order."""
        while self._alarms and self._alarms[0][0] <= now:
            yield heapq.heappop(self._alarms)[2]

    def clear(self) -> None:
        """Forget all."""
        self._alarms.clear()
