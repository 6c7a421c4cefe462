"""What the dispatching thread is told, and by whom: engine, pool, and the user's interrupts.

Everything that happens outside becomes a message, so that nothing breaks into a decision half-way.
"""

from __future__ import annotations

import contextlib
import enum
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import TypeAlias

from dispatch.dispatcher.work import StepOutcome
from dispatch.engine.base import Engine, Event, JobState

POLL = 0.2
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Concluded:
    """An attempt was judged and recorded. No outcome: the step is somebody else's now."""

    name: str
    outcome: StepOutcome | None


@dataclass(frozen=True)
class Broken:
    """The engine tells no more events."""

    error: Exception


class Interrupt(enum.Enum):
    """The user wants the run to end."""

    INTERRUPT = "interrupt"


Message: TypeAlias = Event | Concluded | Broken | Interrupt


class Pump:
    """Forwards an engine's events while jobs are expected to end, and takes none after the last has.

    So the next run on the same engine misses nothing. Owns one thread.
    """

    def __init__(self, engine: Engine, put: Callable[[Message], None]) -> None:
        self._engine = engine
        self._put = put
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
                self._put(Broken(error))
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


@contextlib.contextmanager
def interrupts(tell: Callable[[], None]) -> Iterator[None]:
    """Call ``tell`` where a signal would raise KeyboardInterrupt; outside the main thread, nothing changes.

    An exception may arise between any two instructions, also between a claim and its record. A handler that
    does something else than raise KeyboardInterrupt keeps doing that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.getsignal(number) for number in INTERRUPTS}
    try:
        for number, handler in former.items():
            if callable(handler):
                signal.signal(number, _telling(handler, tell))
        yield
    finally:
        for number, handler in former.items():
            if callable(handler):
                signal.signal(number, handler)


def _telling(
    handler: Callable[[int, FrameType | None], object], tell: Callable[[], None]
) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:
        try:
            handler(number, frame)
        except KeyboardInterrupt:
            tell()

    return handle
