"""Progress as JSON lines on stderr, for programs.

Each line is one object with ``schema`` (1), ``time`` (ISO 8601, UTC) and ``event``. Fields are only ever
added. The events, and what else they have:

- ``line``: ``text``, a line of progress.
- ``run``: ``steps`` (to run), ``cached``, ``parallelism``.
- ``starting``: ``step``, ``attempt``.
- ``running``: ``step``, ``attempt``, ``key`` (of the attempt), ``engine_id``, ``node``,
  and ``link`` where the job has a page of its own.
- ``waiting``: ``step``, ``reason``.
- ``retrying``: ``step``, ``reason``, ``delay`` (seconds).
- ``ended``: ``step``, ``verdict``, ``reason``, ``seconds`` (null where it had no attempt), ``attempts``.
- ``log``: ``step``, ``text``, a line that the step printed (with ``--logs``).
- ``task``: ``name``, ``state`` (``begun``, ``going``, ``done``, ``broken``), ``bytes``, ``total`` (null while
  it is not known), ``seconds``.
- ``summary``: the same facts as ``dispatch run --json`` has beside its steps.

An error that ends the command is two plain lines after them, as without this.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import click

from dispatch.cli.progress.story import StepStory, Story, TaskStory, Watched

SCHEMA = 1


class JsonDisplay:
    """One object a line."""

    for_programs = True

    def __init__(self, story: Story, lock: threading.RLock) -> None:  # noqa: ARG002
        self._story = story

    def tell(self, event: str, **fields: Any) -> None:
        """Print one event."""
        time = datetime.fromtimestamp(self._story.wall(), timezone.utc).isoformat()
        line = {"schema": SCHEMA, "time": time, "event": event, **fields}
        click.echo(json.dumps(line), err=True)

    def said(self, line: str) -> None:
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        self.tell("line", text=line)

    def watching(self, watched: Watched) -> None:
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        self.tell("run", steps=len(watched.steps), cached=watched.cached, parallelism=watched.width)

    def started(self, step: StepStory) -> None:
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        self.tell("starting", step=step.name, attempt=step.attempt)

    def running(self, step: StepStory) -> None:
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        facts = {"key": step.key, "engine_id": step.engine_id, "node": step.node}
        if step.link:
            facts["link"] = step.link
        self.tell("running", step=step.name, attempt=step.attempt, taken_over=step.taken_over, **facts)

    def held(self, step: StepStory) -> None:
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        self.tell("waiting", step=step.name, reason=step.reason)

    def retrying(self, step: StepStory, delay: float) -> None:
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        self.tell("retrying", step=step.name, reason=step.reason, delay=delay)

    def ended(self, step: StepStory) -> None:
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        assert step.outcome is not None
        verdict, attempts = step.outcome.verdict.value, step.attempts
        self.tell(
            "ended",
            step=step.name,
            verdict=verdict,
            reason=step.reason,
            seconds=step.took,
            attempts=attempts,
        )

    def logged(self, name: str, lines: list[str]) -> None:
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        for line in lines:
            self.tell("log", step=name, text=line)

    def task_begun(self, task: TaskStory) -> None:
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        self._task(task, "begun")

    def task_going(self, task: TaskStory) -> None:
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        self._task(task, "going")

    def task_ended(self, task: TaskStory) -> None:
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        self._task(task, "broken" if task.broken else "done")

    def concluded(self, facts: Mapping[str, Any], lines: Sequence[str]) -> None:  # noqa: ARG002
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        self.tell("summary", **facts)

    def close(self) -> None:
        """Nothing is held back."""

    def _task(self, task: TaskStory, state: str) -> None:
        seconds = self._story.clock() - task.began
        self.tell("task", name=task.name, state=state, bytes=task.bytes, total=task.total, seconds=seconds)
