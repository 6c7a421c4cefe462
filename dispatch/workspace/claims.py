"""A claimed attempt at a step, as a value, and why a claim or a commit is refused.

An attempt mostly has a job of its own. One that *adopts* has not: it looks after the job of an earlier
attempt, whose client is gone, under a number of its own, so that whoever held the job before can commit
nothing more.
"""

from __future__ import annotations

from collections.abc import Callable
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

    The directory of the job's attempt, ``place``, holds ``output/``, and what job and engine add, such as
    ``out.log``. The result is expected in its ``output/result/``. With ``replaces`` it takes the place of the
    result that is there. ``adopts`` is the number of the attempt whose job this one looks after, 0 where it
    has its own.
    """

    unique_id: str
    number: int
    directory: Path
    replaces: bool = False
    adopts: int = 0

    @property
    def key(self) -> str:
        """The attempt's name, unique for ever in its workspace."""
        return f"{self.unique_id}.{self.number}"

    @property
    def job(self) -> int:
        """The number under which the job was submitted."""
        return self.adopts or self.number

    @property
    def job_key(self) -> str:
        """The job's name, unique for ever in the workspace."""
        return f"{self.unique_id}.{self.job}"

    @property
    def place(self) -> Path:
        """The directory of the attempt under which the job was submitted."""
        return self.directory.with_name(self.job_key) if self.adopts else self.directory

    @property
    def result(self) -> Path:
        """Where the job leaves its result."""
        return self.place / "output" / "result"


@dataclass(frozen=True)
class Orphan:
    """The job of an attempt that nobody looks after: an engine may have it still.

    ``run`` is the run it was submitted for, ``place`` the directory of its attempt.
    """

    unique_id: str
    number: int
    place: Path
    run: str

    @property
    def key(self) -> str:
        """The job's name, unique for ever in its workspace."""
        return f"{self.unique_id}.{self.number}"


# Told of an orphan when its step is claimed; true: it is there, and the attempt is to adopt it.
Adopts = Callable[[Orphan], bool]


@dataclass(frozen=True)
class Superseded:
    """An attempt of ours that others took for lost; ``adopted`` if they look after its job, too."""

    attempt: Attempt
    adopted: bool
