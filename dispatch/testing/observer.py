"""An observer that remembers."""

from __future__ import annotations

from dispatch.dispatcher import StepOutcome


class RecordingObserver:
    """Implements :class:`~dispatch.dispatcher.Observer`. ``told`` holds (what, step) in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.outcomes: list[StepOutcome] = []
        self.reasons: list[str] = []

    def starting(self, name: str, attempt: int) -> None:  # noqa: ARG002
        """Remember a start."""
        self.told.append(("starting", name))

    def waiting(self, name: str, reason: str) -> None:
        """Remember that a step is held up, and why."""
        self.told.append(("waiting", name))
        self.reasons.append(reason)

    def ended(self, outcome: StepOutcome) -> None:
        """Remember a verdict."""
        self.told.append(("ended", outcome.name))
        self.outcomes.append(outcome)
