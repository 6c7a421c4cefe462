"""A dispatcher among fakes, on a clock that counts its own readings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dispatch.dispatcher import Dispatcher, Pace, StepOutcome, Verdict, Work
from dispatch.engine.base import JobSpec
from dispatch.info import StepRecord
from dispatch.resources import StepResources
from dispatch.testing.engine import FakeEngine, Outcome
from dispatch.testing.jobs import FakeJobs
from dispatch.testing.observer import RecordingObserver
from dispatch.testing.scheduler import FakeScheduler
from dispatch.testing.workspace import FakeClaims

GOOD = Outcome()
BAD = Outcome(exit_code=1, message="it broke")
HOLDS = Outcome(holds=True)


def work(name: str, *needs: str, unique_id: str = "", resources: StepResources | None = None) -> Work:
    """A step whose unique id is its name, unless another is given."""
    record = StepRecord(name, unique_id or name, "Fake", "fake", None, True, True, (), {})
    return Work(record, resources or StepResources(), needs)


class Clock:
    """Counts its own readings, so that waiting for nothing makes time pass."""

    def __init__(self, step: float = 1.0) -> None:
        self.now = 0.0
        self._step = step

    def __call__(self) -> float:
        """Pass a step of time and read it."""
        self.now += self._step
        return self.now


@dataclass
class Lab:
    """A dispatcher among fakes. ``outcomes`` are those of jobs by step; others are good."""

    directory: Path
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    scheduler: FakeScheduler = field(default_factory=FakeScheduler)
    jobs: FakeJobs = field(default_factory=FakeJobs)
    clock: Clock = field(default_factory=Clock)
    observer: RecordingObserver = field(default_factory=RecordingObserver)

    wall: float = 0.0

    def __post_init__(self) -> None:
        self.engine: FakeEngine = FakeEngine(self.script)
        self.claims = FakeClaims(self.directory)

    def script(self, job: JobSpec) -> Outcome:
        """How a job ends."""
        return self.outcomes.get(job.step, GOOD)

    def dispatcher(self) -> Dispatcher:
        """A dispatcher that waits for milliseconds only."""
        return Dispatcher(
            engine=self.engine,
            scheduler=self.scheduler,
            workspace=self.claims,
            jobs=self.jobs,
            observer=self.observer,
            pace=Pace(
                self.clock,
                lambda: self.wall,
                lambda: 0.0,
                tick=0.002,
                held=5.0,
                renew=20.0,
                grace=10.0,
                patience=5.0,
            ),
        )

    def run(self, *works: Work) -> dict[str, StepOutcome]:
        """Run works and hold what always holds."""
        outcomes = dict(self.dispatcher().run(works, "run"))
        self.check(works)
        assert {outcome.name: outcome for outcome in self.observer.outcomes} == outcomes
        return outcomes

    def check(self, works: Iterable[Work]) -> None:
        """Every step ended once, every attempt ended once, nothing is held, every job was let go."""
        assert sorted(outcome.name for outcome in self.observer.outcomes) == sorted(w.name for w in works)
        assert sorted(self.claims.ended) == sorted(self.claims.claimed)
        assert self.scheduler.held == set()
        assert sorted(handle.key for handle in self.engine.released) == sorted(
            job.key for job in self.engine.submitted
        )

    def verdicts(self) -> dict[str, Verdict]:
        """The verdicts that were told."""
        return {outcome.name: outcome.verdict for outcome in self.observer.outcomes}
