"""What the dispatching thread is told: by engine and pool, and by the user's interrupts.

Everything that happens outside becomes a message, so that nothing breaks into a decision half-way.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import TypeAlias

from dispatch.dispatcher.work import StepOutcome
from dispatch.engine.base import Event
from dispatch.info import AttemptFacts

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Concluded:
    """An attempt was judged and recorded. No outcome: the step is somebody else's now.

    ``facts`` is None where the end could not be judged.
    """

    name: str
    outcome: StepOutcome | None
    facts: AttemptFacts | None = None


@dataclass(frozen=True)
class Broken:
    """The engine tells no more events."""

    error: Exception


@dataclass(frozen=True)
class Cancel:
    """The user wants some steps to end, and not to be tried again."""

    names: tuple[str, ...]
    grace: float


@dataclass(frozen=True)
class Interrupt:
    """The user wants the run to end; jobs are killed after ``grace`` seconds, None for the usual."""

    grace: float | None = None


Message: TypeAlias = Event | Concluded | Broken | Cancel | Interrupt


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
