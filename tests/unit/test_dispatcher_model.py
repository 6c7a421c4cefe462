"""The loop against a reference that fits on a page: random graphs, fates of steps, and orders of events."""

from __future__ import annotations

import enum
import os
import random
import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatch.dispatcher import Dispatcher, Pace, Verdict, Work
from dispatch.engine.base import Event, Handle, JobSpec, Reason
from dispatch.environment import LocalId
from dispatch.errors import StepError
from dispatch.info import StepRecord
from dispatch.retry import NO_RETRIES, RetryPolicy
from dispatch.step import StepResources
from dispatch.testing.engine import FakeEngine, Outcome
from dispatch.testing.jobs import FakeJobs
from dispatch.testing.observer import RecordingObserver
from dispatch.testing.scheduler import FakeScheduler
from dispatch.testing.workspace import FakeClaims
from dispatch.workspace.base import Attempt, Orphan, StepSupersededError, Superseded

EXAMPLES = max(100, int(3000 * float(os.environ.get("DISPATCH_STRESS", "1.0"))))
SHAPES = (StepResources(), StepResources(cpu_count=1))
GOOD = (Verdict.COMPLETED, Verdict.CACHED)
LOOKS = 3
PATIENCE = 20000
LIMIT = 40.0
FORMER = "former"
GROUPS = {"few": 1}

model = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


class Fate(enum.Enum):
    """What happens to a step when its turn comes, and the verdict that belongs to it."""

    def __init__(self, word: str, verdict: Verdict) -> None:
        self.word = word
        self.verdict = verdict

    COMPLETES = "completes", Verdict.COMPLETED
    FAILS = "its job fails", Verdict.FAILED
    NEVER_FITS = "never fits", Verdict.FAILED
    UNPREPARED = "its job cannot be prepared", Verdict.FAILED
    UNJUDGED = "its end cannot be judged", Verdict.FAILED
    FULL_DISK = "its result cannot be kept", Verdict.FAILED
    FENCED = "a later attempt began", Verdict.FAILED
    UNCLAIMED = "cannot be claimed", Verdict.FAILED
    ELSEWHERE = "another run has its result", Verdict.CACHED
    FOLLOWED = "another run works at it and completes", Verdict.CACHED
    INHERITED = "another run works at it and dies", Verdict.COMPLETED
    LOST = "others take the first attempt for lost", Verdict.COMPLETED
    AGAIN = "has a result that is to be replaced", Verdict.COMPLETED
    FLAKY = "fails twice, and may be tried three times", Verdict.COMPLETED
    GIVES_UP = "fails, and may be tried three times", Verdict.FAILED
    PICKY = "fails once, by an exit code that is not retried", Verdict.FAILED
    PREEMPTED = "is preempted more often than it may fail", Verdict.COMPLETED
    VANISHES = "its job is lost twice", Verdict.COMPLETED
    NEVER_LASTS = "its jobs are lost, each and every one", Verdict.FAILED
    HANGS = "runs for longer than it may", Verdict.FAILED
    HANGS_ONCE = "runs for longer than it may, once", Verdict.COMPLETED
    LEFT = "a client before us left its job, which completes", Verdict.COMPLETED
    LEFT_FAILING = "a client before us left its job, which fails", Verdict.FAILED
    LEFT_GONE = "a client before us left its job, which the engine does not have", Verdict.COMPLETED
    LEFT_ELSEWHERE = "another workspace's job has the same name", Verdict.COMPLETED
    LEFT_AGAIN = "a job was left, but the result is to be replaced", Verdict.COMPLETED
    STOLEN = "others take over its job, and commit its result", Verdict.CACHED


LEFT = (Fate.LEFT, Fate.LEFT_FAILING, Fate.LEFT_GONE, Fate.LEFT_ELSEWHERE, Fate.LEFT_AGAIN)
HANGING = (Fate.LOST, Fate.HANGS, Fate.HANGS_ONCE, Fate.STOLEN)


@dataclass(frozen=True)
class Case:
    """A graph with the fates of its steps, by unique id, and how it is run."""

    works: tuple[Work, ...]
    fates: dict[str, Fate]
    parallelism: int
    seed: int


def work_of(record: StepRecord, fate: Fate, needs: tuple[str, ...] = ()) -> Work:
    """A step that asks for what its fate needs."""
    retries = {
        Fate.FLAKY: RetryPolicy(limit=2),
        Fate.GIVES_UP: RetryPolicy(limit=2),
        Fate.PICKY: RetryPolicy(limit=2, on=("oom", 75)),
        # However slow the machine is that runs this, one of its attempts is quick enough.
        Fate.HANGS_ONCE: RetryPolicy(limit=50, on=("timeout",)),
    }
    return Work(
        record,
        StepResources(),
        needs,
        replaces=fate in (Fate.AGAIN, Fate.LEFT_AGAIN),
        retries=retries.get(fate, NO_RETRIES),
        timeout=LIMIT if fate in (Fate.HANGS, Fate.HANGS_ONCE) else None,
        outlives=True,
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Up to nine steps; each needs some of those before it, and some are one of those by another name."""
    works: list[Work] = []
    fates: dict[str, Fate] = {}
    fate = st.one_of(st.just(Fate.COMPLETES), st.sampled_from(Fate))
    for number in range(draw(st.integers(1, 9))):
        name = f"s{number}"
        if works and draw(st.integers(0, 9)) == 0:
            former = draw(st.sampled_from(works))
            works.append(replace(former, record=replace(former.record, name=name)))
            continue
        needs = draw(st.lists(st.sampled_from([w.name for w in works]), unique=True)) if works else []
        record = StepRecord(name, name, "Fake", "fake", None, True, True, (), {})
        fates[name] = draw(fate)
        works.append(
            replace(
                work_of(record, fates[name], tuple(needs)),
                resources=draw(st.sampled_from(SHAPES)),
                priority=draw(st.integers(-1, 1)),
                group=draw(st.sampled_from((None, None, "few"))),
            )
        )
    return Case(
        tuple(draw(st.permutations(works))), fates, draw(st.integers(1, 3)), draw(st.integers(0, 2**16))
    )


def expected(case: Case) -> dict[str, Verdict]:
    """The reference: a step's fate decides if all that it needs is there, else it is skipped."""
    works = {work.name: work for work in case.works}
    first: dict[str, str] = {}
    for work in case.works:
        first.setdefault(work.record.unique_id, work.name)
    verdicts: dict[str, Verdict] = {}

    def verdict(name: str) -> Verdict:
        if name not in verdicts:
            unique_id = works[name].record.unique_id
            twin = first[unique_id] if first[unique_id] != name else None
            needs = [*works[name].needs, *([twin] if twin else [])]
            good = all(verdict(need) in GOOD for need in needs)
            own = Verdict.CACHED if twin else case.fates[unique_id].verdict
            verdicts[name] = own if good else Verdict.SKIPPED
        return verdicts[name]

    return {name: verdict(name) for name in works}


class ShuffledEngine(FakeEngine):
    """Jobs end in an order drawn by chance."""

    def __init__(self, world: World) -> None:
        super().__init__(lambda job: replace(world.begin(job), holds=True))
        self._world = world
        self._guard = threading.RLock()
        self._open: list[str] = []
        self.strangers: list[JobSpec] = []

    def find(self, run: str) -> list[Handle]:
        """Return a run's jobs, those of other workspaces among them."""
        return [
            *(Handle(job.key, "stranger", job.attempt_dir) for job in self.strangers if job.run == run),
            *super().find(run),
        ]

    def submit(self, jobs: Sequence[JobSpec]) -> list[Handle]:
        """Take jobs in."""
        with self._guard:
            handles = super().submit(jobs)
            # A job that was left tells of itself from when somebody attaches to it.
            self._open += [job.key for job in jobs if job.run != FORMER and not self._world.hangs(job.key)]
            return handles

    def next_event(self, timeout: float | None) -> Event | None:
        """Sometimes let a job end."""
        assert timeout is not None
        with self._guard:
            self._world.let_others_commit()
            if self._open and self._world.random.random() < 0.5:
                key = self._open.pop(self._world.random.randrange(len(self._open)))
                self.finish(key, self._world.outcome(key))
        return super().next_event(min(timeout, 0.0005))

    def cancel(self, handles: Sequence[Handle], grace: float) -> None:
        """End jobs at once."""
        with self._guard:
            cancelled = {handle.key for handle in handles}
            self._open = [key for key in self._open if key not in cancelled]
            super().cancel(handles, grace)


class World:
    """Everything around a dispatcher: it does to each step what its fate says.

    ``interrupts`` are numbers of calls, counted from 1, at which Ctrl-C is pressed.
    """

    def __init__(self, case: Case, directory: Path, interrupts: Sequence[int] = ()) -> None:
        self.case = case
        self.random = random.Random(case.seed)
        self.too_early: list[str] = []
        self.interrupted = False
        self._interrupts = set(interrupts)
        self._calls = 0
        self._looks: Counter[str] = Counter()
        self._time = 0.0
        self._needs = {
            work.record.unique_id: [self._unique_id(need) for need in work.needs] for work in case.works
        }
        never = {name for name, fate in case.fates.items() if fate is Fate.NEVER_FITS}
        self.scheduler = FakeScheduler(case.parallelism, never, GROUPS)
        self.claims = FakeClaims(directory, self._on_claims)
        self.claims.results |= self._fated(Fate.ELSEWHERE, Fate.AGAIN, Fate.LEFT_AGAIN)
        self.claims.holders |= self._fated(Fate.FOLLOWED, Fate.INHERITED)
        self.observer = RecordingObserver()
        self.engine = ShuffledEngine(self)
        self.stolen: set[str] = set()
        self._tries: Counter[str] = Counter()
        self._leave(directory)

    def _leave(self, directory: Path) -> None:
        """Let a client before us leave its jobs."""
        for unique_id in sorted(self._fated(*LEFT)):
            place = directory / f"{unique_id}.1"
            self.claims.orphans[unique_id] = Orphan(unique_id, 1, place, FORMER)
            elsewhere = self.case.fates[unique_id] is Fate.LEFT_ELSEWHERE
            job = JobSpec(
                key=f"{unique_id}.1",
                run=FORMER,
                step=unique_id,
                attempt=1,
                image=LocalId("sha256:0"),
                command=("true",),
                attempt_dir=Path("/elsewhere") if elsewhere else place,
            )
            if elsewhere:
                self.engine.strangers.append(job)
            elif self.case.fates[unique_id] is not Fate.LEFT_GONE:
                self.engine.submit([job])

    def run(self) -> dict[str, Verdict]:
        """Run it all and return the verdicts."""
        dispatcher = Dispatcher(
            engine=self.engine,
            scheduler=self.scheduler,
            workspace=self.claims,
            jobs=FakeJobs(self._on_jobs),
            observer=self.observer,
            pace=Pace(
                self._clock, lambda: 0.0, self.random.random, tick=0.001, held=3.0, renew=5.0, grace=1000.0
            ),
        )
        outcomes = dispatcher.run(self.case.works, "run")
        return {name: outcome.verdict for name, outcome in outcomes.items()}

    def begin(self, job: JobSpec) -> Outcome:
        """Note a job that starts before what it needs is there."""
        unique_id = job.key.rpartition(".")[0]
        if job.run != FORMER and not self.claims.results.issuperset(self._needs[unique_id]):
            self.too_early.append(unique_id)
        return Outcome()

    def hangs(self, key: str) -> bool:
        """Whether a job runs until it is cancelled."""
        unique_id, _, number = key.rpartition(".")
        fate = self.case.fates[unique_id]
        return fate in HANGING and (number == "1" or fate is Fate.HANGS)

    def outcome(self, key: str) -> Outcome:
        """How a job ends."""
        unique_id = key.rpartition(".")[0]
        self._tries[unique_id] += 1
        tries, fate = self._tries[unique_id], self.case.fates[unique_id]
        if fate in (Fate.FAILS, Fate.GIVES_UP, Fate.PICKY, Fate.LEFT_FAILING):
            return Outcome(exit_code=1)
        if fate is Fate.FLAKY and tries <= 2:
            return Outcome(exit_code=tries)
        if fate is Fate.PREEMPTED and tries <= 5:
            return Outcome(exit_code=143, reason=Reason.PREEMPTED)
        if fate is Fate.NEVER_LASTS or (fate is Fate.VANISHES and tries <= 2):
            return Outcome(exit_code=None, reason=Reason.LOST)
        return Outcome()

    def let_others_commit(self) -> None:
        """Let those who took a job over commit its result."""
        for unique_id in sorted(self.stolen):
            if self.random.random() < 0.2:
                self.stolen.discard(unique_id)
                self.claims.complete(unique_id)

    @property
    def ours(self) -> set[str]:
        """The keys of the jobs that were submitted by the run itself."""
        return {job.key for job in self.engine.submitted if job.run != FORMER}

    def claimed(self, unique_id: str) -> bool:
        """Whether the run came to claim a step."""
        return any(key.rpartition(".")[0] == unique_id for key in self.claims.claimed)

    def _unique_id(self, name: str) -> str:
        return next(work.record.unique_id for work in self.case.works if work.name == name)

    def _fated(self, *fates: Fate) -> set[str]:
        return {name for name, fate in self.case.fates.items() if fate in fates}

    def _clock(self) -> float:
        self._time += 1.0
        assert self._time < PATIENCE, "the run does not end"
        return self._time

    def _count(self) -> None:
        self._calls += 1
        if self._calls in self._interrupts:
            self.interrupted = True
            signal.raise_signal(signal.SIGINT)

    def _on_claims(self, verb: str, unique_id: str) -> None:
        self._count()
        fate = self.case.fates.get(unique_id)
        if verb == "claim" and fate is Fate.UNCLAIMED:
            raise PermissionError("leases")
        if verb == "claim" and unique_id in self.claims.holders and unique_id not in self.stolen:
            self._looks[unique_id] += 1
            if self._looks[unique_id] >= LOOKS:
                self.claims.holders.discard(unique_id)
                self.claims.results |= {unique_id} if fate is Fate.FOLLOWED else set()
        if verb == "commit" and fate is Fate.FULL_DISK:
            raise OSError("disk full")
        if verb == "commit" and fate is Fate.FENCED:
            raise StepSupersededError(unique_id, 1)

    def _on_jobs(self, verb: str, attempt: Attempt) -> None:
        self._count()
        fate = self.case.fates[attempt.unique_id]
        if verb == "prepare" and fate is Fate.UNPREPARED:
            raise StepError("an input has vanished")
        if verb == "prepare" and fate is Fate.LOST and attempt.number == 1:
            self.claims.superseded.append(Superseded(attempt, adopted=False))
        if verb == "prepare" and fate is Fate.STOLEN:
            self.claims.superseded.append(Superseded(attempt, adopted=True))
            self.claims.holders.add(attempt.unique_id)
            self.claims.ended.append(attempt.key)
            self.stolen.add(attempt.unique_id)
        if verb == "facts" and fate is Fate.UNJUDGED:
            raise ValueError("odd")


def check(world: World) -> None:
    """What holds however a run ends."""
    names = sorted(work.name for work in world.case.works)
    assert sorted(outcome.name for outcome in world.observer.outcomes) == names
    assert world.too_early == []
    assert world.scheduler.peak <= world.case.parallelism
    # Jobs of former clients, and those that others took over, are not the run's own.
    left = sum(fate in (*LEFT, Fate.STOLEN) for fate in world.case.fates.values())
    assert world.engine.peak <= world.case.parallelism + left
    assert all(world.scheduler.group_peaks[group] <= limit for group, limit in GROUPS.items())
    assert world.scheduler.held == set()
    assert sorted(set(world.claims.ended)) == sorted(world.claims.claimed)
    check_engine(world)


def check_engine(world: World) -> None:
    """Every job was let go, but for those that others look after, and those that nobody came to claim."""
    released = Counter(handle.key for handle in world.engine.released)
    assert set(released.values()) <= {1}
    assert not set(released) & {job.key for job in world.engine.strangers if job.key not in world.ours}
    for job in world.engine.submitted:
        unique_id = job.key.rpartition(".")[0]
        fate = world.case.fates[unique_id]
        if fate is Fate.STOLEN or (job.run == FORMER and not world.claimed(unique_id)):
            assert job.key not in released or fate is not Fate.STOLEN or world.interrupted
        else:
            assert job.key in released, job.key


@model
@given(case=cases())
def test_every_run_ends_as_the_reference_says(case: Case) -> None:
    """Verdicts are the reference's; nothing starts early, exceeds its limit, ends twice or is left behind."""
    with tempfile.TemporaryDirectory() as directory:
        world = World(case, Path(directory))
        assert world.run() == expected(case)
        check(world)


@model
@given(case=cases(), interrupts=st.lists(st.integers(1, 40), min_size=1, max_size=2, unique=True))
def test_an_interrupted_run_leaves_nothing_open(case: Case, interrupts: list[int]) -> None:
    """Wherever Ctrl-C falls, once or twice: all attempts end, all steps have a verdict, and it is raised."""
    with tempfile.TemporaryDirectory() as directory:
        world = World(case, Path(directory), interrupts)
        try:
            world.run()
        except KeyboardInterrupt:
            assert world.interrupted
        else:
            assert not world.interrupted
        check(world)
        told = {outcome.name: outcome.verdict for outcome in world.observer.outcomes}
        reference = expected(case)
        for work in case.works:
            fate = case.fates[work.record.unique_id]
            # What was left runs, whatever became of its step here, and may end before it is stopped.
            own = {fate.verdict} if fate in LEFT else set()
            assert told[work.name] in {reference[work.name], Verdict.CANCELLED, *own}, (work.name, fate)


@pytest.mark.parametrize("fate", list(Fate))
def test_every_fate_alone(fate: Fate, tmp_path: Path) -> None:
    """Each fate gives its verdict, so that the reference is not right by never being asked."""
    record = StepRecord("s0", "s0", "Fake", "fake", None, True, True, (), {})
    case = Case((work_of(record, fate),), {"s0": fate}, 1, 0)
    world = World(case, tmp_path)
    assert world.run() == {"s0": fate.verdict}
    check(world)
