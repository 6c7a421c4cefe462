"""What a command reports to, whatever the user looks at: observer of a run, reporter of work, one display.

Owns the lock, the story, and the following of steps' logs. How anything looks is the display's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from dispatch.cli.progress.follow import LogStream
from dispatch.cli.progress.story import StepStory, Story, TaskStory, Watched

if TYPE_CHECKING:
    from types import TracebackType

    from dispatch.dispatcher.work import StepOutcome
    from dispatch.engine.base import Event
    from dispatch.reporting import Task

FOLLOW = 0.25
LONG_TASK = 10.0


class Display(Protocol):
    """How progress looks. Every method but ``close`` is called with the lock of the story held."""

    for_programs: bool

    def said(self, line: str) -> None:
        """A line of progress, of anything."""

    def watching(self, watched: Watched) -> None:
        """A run begins."""

    def started(self, step: StepStory) -> None:
        """A step was handed to the engine."""

    def running(self, step: StepStory) -> None:
        """A step's job runs."""

    def held(self, step: StepStory) -> None:
        """A step is held up, or for another reason than before."""

    def retrying(self, step: StepStory, delay: float) -> None:
        """An attempt failed, and another begins after ``delay`` seconds."""

    def ended(self, step: StepStory) -> None:
        """A step reached its verdict."""

    def logged(self, name: str, lines: list[str]) -> None:
        """A step printed lines."""

    def task_begun(self, task: TaskStory) -> None:
        """A task begins."""

    def task_going(self, task: TaskStory) -> None:
        """A task has gone on for long; told every ten seconds."""

    def task_ended(self, task: TaskStory) -> None:
        """A task ended."""

    def concluded(self, facts: Mapping[str, Any], lines: Sequence[str]) -> None:
        """How a run ended; told after ``close``."""

    def close(self) -> None:
        """Show what is left to show, and leave the terminal as it was found. What is said later is shown."""


class Progress:
    """Implements :class:`~dispatch.reporting.Reporter`, and once it watches a run, its observer.

    A context manager: after it, lines are still shown, but nothing is drawn any more. ``logs`` has the lines
    that steps print shown as they come.
    """

    def __init__(
        self,
        show: Callable[[Story, threading.RLock], Display],
        *,
        logs: bool = False,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.story = Story(clock, wall)
        self._lock = threading.RLock()
        self._display = show(self.story, self._lock)
        self._logs = logs
        self._streams: dict[str, LogStream] = {}
        self._watched = Watched(())
        self._closed = threading.Event()
        self._follower: threading.Thread | None = None

    @property
    def for_programs(self) -> bool:
        """Whether stderr is read by a program, so that sentences have no place there."""
        return self._display.for_programs

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        if self._follower is not None:
            self._follower.join()
        self._display.close()

    # A reporter.

    def __call__(self, line: str, /) -> None:
        """Show a line."""
        with self._lock:
            self._display.said(line)

    def task(self, name: str, total: int | None = None) -> Task:
        """Begin a task."""
        with self._lock:
            now = self.story.clock()
            task = TaskStory(name, now, total, told=now)
            self.story.tasks.append(task)
            self._display.task_begun(task)
        return _Task(task, self.story.clock, self._display, self._lock)

    def concluded(self, facts: Mapping[str, Any], lines: Sequence[str]) -> None:
        """Show how a run ended: to people in ``lines``, to programs in ``facts`` (JSON types)."""
        with self._lock:
            self._display.concluded(facts, lines)

    # An observer.

    def watch(self, watched: Watched) -> Progress:
        """Get ready for a run, and return its observer."""
        with self._lock:
            self._watched = watched
            self.story.watch(watched)
            self._display.watching(watched)
        if self._logs:
            self._follower = threading.Thread(target=self._follow, name="dispatch-logs", daemon=True)
            self._follower.start()
        return self

    def starting(self, name: str, attempt: int) -> None:
        """See :class:`dispatch.dispatcher.Observer`."""
        with self._lock:
            self._display.started(self.story.starting(name, attempt))

    def running(self, name: str, event: Event) -> None:
        """See :class:`dispatch.dispatcher.Observer`."""
        with self._lock:
            self._display.running(self.story.running(name, event))

    def waiting(self, name: str, reason: str) -> None:
        """See :class:`dispatch.dispatcher.Observer`."""
        with self._lock:
            step = self.story.held(name, reason)
            if step is not None:
                self._display.held(step)

    def retrying(self, name: str, reason: str, delay: float) -> None:
        """See :class:`dispatch.dispatcher.Observer`."""
        with self._lock:
            self._finish_log(name)
            self._display.retrying(self.story.retrying(name, reason, delay), delay)

    def ended(self, outcome: StepOutcome) -> None:
        """See :class:`dispatch.dispatcher.Observer`."""
        with self._lock:
            self._finish_log(outcome.name)
            self._display.ended(self.story.ended(outcome))

    def _follow(self) -> None:
        while not self._closed.wait(FOLLOW):
            with self._lock:
                following = [step for step in self.story.active.values() if step.log_key]
            for step in following:
                # A piece at a time: the dispatching thread waits for the lock.
                while self._read_log(step):
                    pass

    def _read_log(self, step: StepStory) -> bool:
        """Show a piece of what a step printed since the last look; whether there may be more now."""
        with self._lock:
            stream = self._stream(step) if step.outcome is None else None
            lines, more = stream.read() if stream is not None else ([], False)
            if lines:
                self._display.logged(step.name, lines)
        return more

    def _finish_log(self, name: str) -> None:
        """An attempt's log is complete: show the rest of it before its end is told."""
        step = self.story.of(name)
        stream = self._stream(step) if self._logs and step.attempt else None
        for lines in stream.finish() if stream is not None else ():
            self._display.logged(name, lines)

    def _stream(self, step: StepStory) -> LogStream | None:
        stream = self._streams.get(step.name)
        if stream is None or stream.key != step.log_key:
            path = self._watched.log(step.log_key)
            if path is None:
                return None
            stream = self._streams[step.name] = LogStream(step.log_key, path)
        return stream


class _Task:
    """The working end of a task."""

    def __init__(
        self, task: TaskStory, clock: Callable[[], float], display: Display, lock: threading.RLock
    ) -> None:
        self._task = task
        self._clock = clock
        self._display = display
        self._lock = lock

    def advance(self, amount: int) -> None:
        """See :class:`dispatch.reporting.Task`."""
        with self._lock:
            self._task.bytes += amount
            now = self._clock()
            if now - self._task.told >= LONG_TASK:
                self._task.told = now
                self._display.task_going(self._task)

    def expect(self, total: int) -> None:
        """See :class:`dispatch.reporting.Task`."""
        with self._lock:
            self._task.total = total

    def done(self, *, broken: bool = False) -> None:
        """See :class:`dispatch.reporting.Task`."""
        with self._lock:
            self._task.ended, self._task.broken = self._clock(), broken
            self._display.task_ended(self._task)
