"""Progress of a run as plain lines on stderr."""

from __future__ import annotations

import time

import click

from dispatch.dispatcher import StepOutcome, Verdict
from dispatch.engine.base import Event
from dispatch.units import format_duration

_COLOURS = {
    Verdict.COMPLETED: "green",
    Verdict.CACHED: "cyan",
    Verdict.FAILED: "red",
    Verdict.SKIPPED: "yellow",
    Verdict.CANCELLED: "yellow",
}


class LineProgress:
    """Prints a line when a step starts and when it ends. A context manager, as a live display would be."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._waiting: set[str] = set()

    def __enter__(self) -> LineProgress:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def starting(self, name: str, attempt: int) -> None:
        """A step was handed to the engine."""
        self._began[name] = time.monotonic()
        again = f", attempt {attempt}" if attempt > 1 else ""
        click.echo(f"{name}: started{again}", err=True)

    def running(self, name: str, event: Event) -> None:
        """A job runs; its start was said already."""

    def retrying(self, name: str, reason: str, delay: float) -> None:
        """An attempt failed, and there will be another."""
        self._waiting.discard(name)
        click.echo(f"{name}: {reason}; once more in {format_duration(delay)}", err=True)

    def waiting(self, name: str, reason: str) -> None:
        """A step is held up; said once a step."""
        if name not in self._waiting:
            self._waiting.add(name)
            click.echo(f"{name}: waiting: {reason}", err=True)

    def ended(self, outcome: StepOutcome) -> None:
        """A step reached its verdict."""
        began = self._began.get(outcome.name)
        took = f" in {format_duration(time.monotonic() - began)}" if began is not None else ""
        verdict = click.style(outcome.verdict.value, fg=_COLOURS[outcome.verdict])
        reason = f": {outcome.reason}" if outcome.reason else ""
        click.echo(f"{outcome.name}: {verdict}{took}{reason}", err=True)
