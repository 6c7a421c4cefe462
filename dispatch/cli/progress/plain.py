"""Progress as lines on stderr: all of it, or only what went wrong."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import click

from dispatch.cli.progress import words
from dispatch.cli.progress.story import StepStory, Story, TaskStory, Watched


class PlainDisplay:
    """A line when a step starts and when it ends, and for tasks at both ends and every ten seconds."""

    for_programs = False

    def __init__(self, story: Story, lock: threading.RLock) -> None:  # noqa: ARG002
        self._story = story

    def said(self, line: str) -> None:
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        click.echo(line, err=True)

    def watching(self, watched: Watched) -> None:
        """See :class:`~dispatch.cli.progress.teller.Display`."""

    def started(self, step: StepStory) -> None:
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        click.echo(words.started(step), err=True)

    def running(self, step: StepStory) -> None:
        """Its start was said already, unless it began before, or has a page of its own."""
        if step.taken_over:
            click.echo(words.taken_over(step, self._story.clock()), err=True)
        if step.link:
            click.echo(words.linked(step), err=True)

    def held(self, step: StepStory) -> None:
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        click.echo(words.held(step), err=True)

    def retrying(self, step: StepStory, delay: float) -> None:
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        click.echo(words.retrying(step, delay), err=True)

    def ended(self, step: StepStory) -> None:
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        click.echo(words.ended(step), err=True)

    def logged(self, name: str, lines: list[str]) -> None:
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        click.echo("\n".join(words.logged(name, line) for line in lines), err=True)

    def task_begun(self, task: TaskStory) -> None:
        """Said only where the size is known: of the rest, the work itself says what it is about."""
        if task.total:
            click.echo(words.task_begun(task), err=True)

    def task_going(self, task: TaskStory) -> None:
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        click.echo(words.task_going(task, self._story.clock()), err=True)

    def task_ended(self, task: TaskStory) -> None:
        """Said where bytes came: why a task broke off, an error says."""
        if task.bytes and not task.broken:
            click.echo(words.task_ended(task, self._story.clock()), err=True)

    def concluded(self, facts: Mapping[str, Any], lines: Sequence[str]) -> None:  # noqa: ARG002
        """See :class:`~dispatch.cli.progress.teller.Display`."""
        for line in lines:
            click.echo(line, err=True)

    def close(self) -> None:
        """Nothing is held back."""


class QuietDisplay(PlainDisplay):
    """Only steps that failed, and the lines of logs where they were asked for."""

    def said(self, line: str) -> None:
        """Not shown."""

    def started(self, step: StepStory) -> None:
        """Not shown."""

    def running(self, step: StepStory) -> None:
        """Not shown."""

    def held(self, step: StepStory) -> None:
        """Not shown."""

    def retrying(self, step: StepStory, delay: float) -> None:
        """Not shown: it has not failed yet."""

    def ended(self, step: StepStory) -> None:
        """Shown of those that failed."""
        if step.outcome is not None and step.outcome.verdict.value == "failed":
            super().ended(step)

    def task_begun(self, task: TaskStory) -> None:
        """Not shown."""

    def task_going(self, task: TaskStory) -> None:
        """Not shown."""

    def task_ended(self, task: TaskStory) -> None:
        """Not shown."""
