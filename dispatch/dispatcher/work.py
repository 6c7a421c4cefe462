"""What goes into a run and comes out of it, and what the dispatcher uses of the rest, as protocols."""

from __future__ import annotations

import enum
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dispatch.retry import NO_RETRIES, RetryPolicy

if TYPE_CHECKING:
    from dispatch.engine.base import Event, JobSpec
    from dispatch.info import AttemptFacts, StepInfo, StepRecord
    from dispatch.location import Location
    from dispatch.schedule import ResourceAssignment
    from dispatch.step import StepResources
    from dispatch.workspace.base import Adopts, Attempt, Orphan, Superseded


class Verdict(enum.Enum):
    """How a step of a run ended."""

    CACHED = "cached"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class StepOutcome:
    """The end of one step: verdict, the reason in words, and the record where there is one."""

    name: str
    verdict: Verdict
    reason: str = ""
    info: StepInfo | None = None


@dataclass(frozen=True)
class Work:
    """A step that has to end in this run.

    ``needs`` are the names of other works that must be committed first; steps that are cached already are
    not among them. One that ``replaces`` is computed although it has a result. An attempt may run for
    ``timeout`` seconds. Of ready works those of the highest ``priority`` come first, and of one ``group``
    only so many run at once as the scheduler lets. The job of one that ``outlives`` its client is adopted
    by the next.
    """

    record: StepRecord
    resources: StepResources
    needs: tuple[str, ...] = ()
    replaces: bool = False
    retries: RetryPolicy = NO_RETRIES
    timeout: float | None = None
    priority: int = 0
    group: str | None = None
    outlives: bool = False

    @property
    def name(self) -> str:
        """The step's name in the graph."""
        return self.record.name


@dataclass(frozen=True)
class Pace:
    """The clock of a run (monotonic, in seconds) and its intervals in seconds.

    ``tick`` is the longest wait for a message, ``held`` how long a step is let alone that somebody else works
    at, ``renew`` how often leases are renewed. ``grace`` is what jobs are given to stop when the run is
    interrupted, and ``patience`` what the engine is given beyond it to say that they did. ``wall`` is the
    time since the epoch, as engines tell it; ``chance`` draws a number in [0, 1), to spread retries.
    """

    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    chance: Callable[[], float] = random.random
    tick: float = 1.0
    held: float = 1.0
    renew: float = 20.0
    grace: float = 10.0
    patience: float = 5.0


class Claims(Protocol):
    """The dispatcher's half of a workspace; see :class:`~dispatch.workspace.base.Workspace`.

    ``commit`` and ``fail`` are called from several threads.
    """

    def claim(
        self, record: StepRecord, run: str, *, replace: bool = False, adopts: Adopts | None = None
    ) -> Attempt:
        """Begin an attempt. StepHeldError where somebody works at the step.

        StepCompletedError where there is a result, unless the attempt is to ``replace`` it. ``adopts`` is
        asked about a job that nobody looks after.
        """

    def orphan(self, unique_id: str, /) -> Orphan | None:
        """Return the job of a step's latest attempt if nobody looks after it and its end is not known."""

    def commit(
        self,
        attempt: Attempt,
        record: StepRecord,
        facts: AttemptFacts,
        *,
        output: Location | None = None,
    ) -> StepInfo:
        """Make what the attempt left the step's result; with ``output``, what is there."""

    def fail(
        self,
        attempt: Attempt,
        record: StepRecord,
        facts: AttemptFacts,
        *,
        output: Location | None = None,
    ) -> StepInfo:
        """Record the end of an attempt that has no result; what there is of its output is at ``output``."""

    def renew(self) -> tuple[Superseded, ...]:
        """Keep our attempts ours, and return those that others took for lost."""

    def step_info(self, unique_id: str, /) -> StepInfo:
        """Return what is known of a step."""


class JobFactory(Protocol):
    """Turns claimed steps into jobs, and ended attempts into facts."""

    def prepare(self, record: StepRecord, attempt: Attempt, assignment: ResourceAssignment) -> JobSpec:
        """Return the job's specification, whose key is the attempt's ``job_key``, and write its files.

        Of a job that the attempt adopts the files are there, and the specification says to attach to it.

        Called from the dispatching thread. Whatever it raises is the end of the step alone.
        """

    def facts(self, record: StepRecord, attempt: Attempt, event: Event) -> AttemptFacts:
        """Say what an ended attempt was, from its outcome and the engine's event. Called from the pool."""


class Observer(Protocol):
    """Is told about every change, in order, from the dispatching thread.

    An observer that raises is told nothing more; the run goes on.
    """

    def starting(self, name: str, attempt: int) -> None:
        """A step was handed to the engine, or a job of an earlier client was taken over."""

    def running(self, name: str, event: Event) -> None:
        """The engine says that a step's job runs: since when, and where."""

    def waiting(self, name: str, reason: str) -> None:
        """A step is held up by something outside this run, be it in the engine's queue.

        May be told again while that lasts.
        """

    def retrying(self, name: str, reason: str, delay: float) -> None:
        """An attempt failed with ``reason``, and another one begins in ``delay`` seconds."""

    def ended(self, outcome: StepOutcome) -> None:
        """A step reached its verdict."""
