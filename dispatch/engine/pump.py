"""Forwards an engine's events. Owns one thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dispatch.engine.base import Engine, Event, JobState

POLL = 0.2


class Pump:
    """Forwards an engine's events while jobs are expected to end, and takes none after the last has.

    So the next run on the same engine misses nothing. ``broken`` is told the error with which the engine
    stopped to tell events.
    """

    def __init__(
        self, engine: Engine, put: Callable[[Event], None], broken: Callable[[Exception], None]
    ) -> None:
        self._engine = engine
        self._put = put
        self._broken = broken
        self._expected: set[str] = set()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._forward, name="dispatch-events", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def expect(self, key: str) -> None:
        """Say that a job is about to be submitted."""
        with self._changed:
            self._expected.add(key)
            self._changed.notify_all()

    def stop(self) -> None:
        """End the thread. Takes no time unless a job that was expected never ended."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()

    def _forward(self) -> None:
        while self._is_wanted():
            try:
                event = self._engine.next_event(POLL)
            except Exception as error:
                self._broken(error)
                return
            if event is not None:
                if event.state is JobState.EXITED:
                    with self._changed:
                        self._expected.discard(event.key)
                self._put(event)

    def _is_wanted(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._expected or self._stopped)
            return not self._stopped
