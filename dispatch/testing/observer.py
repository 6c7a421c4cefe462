"""An observer that remembers."""

from __future__ import annotations

from collections.abc import Callable

from dispatch.dispatcher import StepOutcome
from dispatch.engine.base import Event


class RecordingObserver:
    """Implements :class:`~dispatch.dispatcher.Observer`. ``told`` holds (what, step) in order.

    ``listener`` is called with both as they are told.
    """

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.outcomes: list[StepOutcome] = []
        self.reasons: list[str] = []
        self.delays: list[float] = []
        self.listener: Callable[[str, str], None] = lambda *_: None

    def starting(self, name: str, attempt: int) -> None:  # noqa: ARG002
        """Remember a start."""
        self._note("starting", name)

    def running(self, name: str, event: Event) -> None:  # noqa: ARG002
        """Remember that a job runs."""
        self._note("running", name)

    def retrying(self, name: str, reason: str, delay: float) -> None:
        """Remember that a step is tried again, why, and after how long."""
        self._note("retrying", name)
        self.reasons.append(reason)
        self.delays.append(delay)

    def waiting(self, name: str, reason: str) -> None:
        """Remember that a step is held up, and why."""
        self._note("waiting", name)
        self.reasons.append(reason)

    def ended(self, outcome: StepOutcome) -> None:
        """Remember a verdict."""
        self._note("ended", outcome.name)
        self.outcomes.append(outcome)

    def _note(self, what: str, name: str) -> None:
        self.told.append((what, name))
        self.listener(what, name)
