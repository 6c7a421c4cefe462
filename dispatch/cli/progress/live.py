"""The display for a terminal: rows that change in place, and above them, for good, what has ended.

Owns the threads: a painter, the only one that draws, four times a second; and a poller, which asks engine and
workspace what may take them a while. The dispatching thread only leaves lines to be printed. Nothing is
drawn before a run has lasted for a moment, so a short one pays for none of it.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dispatch.cli.progress import words
from dispatch.cli.progress.estimate import Durations, Todo, left
from dispatch.cli.progress.follow import LastLines
from dispatch.cli.progress.story import Stage, StepStory, Story, TaskStory, Watched
from dispatch.engine.base import Handle

if TYPE_CHECKING:
    from dispatch.cli.progress.screen import Screen

FIRST = 0.3
REDRAW = 0.25
POLL = 1.0
# Steps that are asked what they use: no screen shows more.
ASKED = 100
MANY = 1000

_log = logging.getLogger(__name__)


class LiveDisplay:
    """See :class:`~dispatch.cli.progress.teller.Display`. Draws on ``sys.stderr``."""

    for_programs = False

    def __init__(
        self, story: Story, lock: threading.RLock, *, colour: bool, environ: Mapping[str, str]
    ) -> None:
        self._story = story
        self._lock = lock
        self._colour = colour
        self._environ = environ
        self._watched = Watched(())
        self._lines: list[str] = []
        self._last = LastLines()
        self._closed = threading.Event()
        self._painter: threading.Thread | None = None
        self._painting = False

    def said(self, line: str) -> None:
        """Kept for the painter, or shown at once where there is none."""
        if self._painting:
            self._lines.append(line)
        else:
            click.echo(line, err=True)

    def watching(self, watched: Watched) -> None:
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        self._watched = watched

    def started(self, step: StepStory) -> None:
        """Has a row, and no line."""
        self._paint()
        if step.attempt > 1:
            self.said(words.started(step))

    def running(self, step: StepStory) -> None:
        """Has a row, and a line only if it began before, or has a page of its own."""
        if step.taken_over:
            self.said(words.taken_over(step, self._story.clock()))
        if step.link:
            self.said(words.linked(step))

    def held(self, step: StepStory) -> None:  # noqa: ARG002
        """Has a row, and no line."""
        self._paint()

    def retrying(self, step: StepStory, delay: float) -> None:
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        self.said(words.retrying(step, delay))

    def ended(self, step: StepStory) -> None:
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        self.said(words.ended(step))

    def logged(self, name: str, lines: list[str]) -> None:
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        self.said("\n".join(words.logged(name, line) for line in lines))

    def task_begun(self, task: TaskStory) -> None:  # noqa: ARG002
        """Has a row, and no line."""
        self._paint()

    def task_going(self, task: TaskStory) -> None:
        """Has a row, and no line."""

    def task_ended(self, task: TaskStory) -> None:
        """Said where bytes came, as where nothing is drawn."""
        if task.bytes and not task.broken:
            self.said(words.task_ended(task, self._story.clock()))

    def concluded(self, facts: Mapping[str, Any], lines: Sequence[str]) -> None:  # noqa: ARG002
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        for line in lines:
            click.echo(line, err=True)

    def close(self) -> None:
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        self._closed.set()
        if self._painter is not None:
            self._painter.join()
        self._flush()

    def _flush(self) -> None:
        with self._lock:
            self._painting = False
            lines, self._lines = self._lines, []
            for line in lines:
                click.echo(line, err=True)

    # The painter.

    def _paint(self) -> None:
        if self._painter is None and not self._closed.is_set():
            self._painting = True
            self._painter = threading.Thread(target=self._draw, name="dispatch-display", daemon=True)
            self._painter.start()

    def _draw(self) -> None:
        if self._closed.wait(FIRST):
            return
        try:
            from dispatch.cli.progress.screen import Screen

            screen = Screen(sys.stderr, colour=self._colour, environ=self._environ)
            threading.Thread(target=self._poll, name="dispatch-usage", daemon=True).start()
            screen.open()
            try:
                self._draw_once(screen)
                while not self._closed.wait(REDRAW):
                    self._draw_once(screen)
                self._draw_once(screen)
            finally:
                screen.close()
        except Exception:
            # No run ends because a terminal went away, or a row could not be drawn.
            _log.debug("nothing is drawn any more", exc_info=True)
            self._flush()

    def _draw_once(self, screen: Screen) -> None:
        from dispatch.cli.progress.screen import frame

        size = screen.console.size
        seen: set[Path] = set()

        def last(step: StepStory) -> str:
            path = self._watched.log(step.log_key) if step.log_key else None
            if path is not None:
                seen.add(path)
            return self._last.of(path)

        with self._lock:
            lines, self._lines = self._lines, []
            rows = frame(self._story, last, size.width, size.height)
        self._last.keep(seen)
        screen.draw(lines, rows)

    # The poller.

    def _poll(self) -> None:
        """Ask for what is used, and work out what is left. What cannot be told is not shown."""
        earlier: Durations | None = None
        while True:
            try:
                if earlier is None and self._watched.earlier is not None:
                    earlier = Durations({}, {})
                    found = self._watched.earlier()
                    earlier = Durations(found.names, found.types)
                self._ask_usage()
            except Exception:
                # Also an engine that is being closed.
                _log.debug("usage or earlier durations are not known", exc_info=True)
            seconds = self._left(earlier) if earlier is not None else None
            with self._lock:
                self._story.left = seconds
            # What is left is worked out from every step that has not ended: the more, the more seldom.
            if self._closed.wait(POLL * max(1.0, len(self._story.pending) / MANY)):
                return

    def _ask_usage(self) -> None:
        with self._lock:
            running = [step for step in self._story.at(Stage.RUNNING) if step.key][:ASKED]
            handles = [Handle(step.key, step.engine_id) for step in running]
        if handles:
            usages = self._watched.usage(handles)
            with self._lock:
                self._story.used(usages)

    def _left(self, earlier: Durations) -> float | None:
        with self._lock:
            now = self._story.clock()
            steps = [_todo(step, now) for step in self._story.steps.values() if step.outcome is None]
            done = [
                (step.step.type, step.took)
                for step in self._story.steps.values()
                if step.took is not None and step.outcome is not None
            ]
        if not steps:
            return None
        types = {type: list(seconds) for type, seconds in earlier.types.items()}
        for type, took in done:
            types.setdefault(type, []).append(took)
        return left(steps, Durations(earlier.names, types), self._watched.width)


def _todo(step: StepStory, now: float) -> Todo:
    working = step.stage in (Stage.RUNNING, Stage.STARTING)
    return Todo(step.name, step.step.type, step.step.needs, now - step.since if working else None)
