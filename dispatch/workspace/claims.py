"""A claimed attempt at a step, as a value, and why a claim or a commit is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dispatch.errors import StepStateError


class StepHeldError(StepStateError):
    """Somebody who is alive works at the step. ``holder`` says who, in words."""

    def __init__(self, unique_id: str, holder: str) -> None:
        super().__init__(f"step {unique_id}: {holder} works at it", "wait for it to end, or stop it")
        self.holder = holder


class StepCompletedError(StepStateError):
    """The step has a result already; there is nothing to claim."""

    def __init__(self, unique_id: str) -> None:
        super().__init__(f"step {unique_id}: has a result", "read it, or remove it first")


class StepSupersededError(StepStateError):
    """A later attempt at the step was claimed, so this one may commit nothing."""

    def __init__(self, unique_id: str, number: int) -> None:
        super().__init__(
            f"step {unique_id}: attempt {number} was taken for lost, and a later one has begun",
            "wait for the later attempt",
        )


@dataclass(frozen=True)
class Attempt:
    """A claimed attempt at a step: its number, counted from 1 and never used again, and its own directory.

    The directory holds ``output/``, and what job and engine add, such as ``out.log``. The result
    is expected in ``output/result/``. With ``replaces`` it takes the place of the result that is there.
    """

    unique_id: str
    number: int
    directory: Path
    replaces: bool = False

    @property
    def key(self) -> str:
        """The attempt's name, unique for ever in its workspace."""
        return f"{self.unique_id}.{self.number}"

    @property
    def result(self) -> Path:
        """Where the job leaves its result."""
        return self.directory / "output" / "result"
