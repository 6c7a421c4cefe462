"""The only loop: what each kind of trouble means for a step, for those behind it, and for the rest."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest

from dispatch.dispatcher import Dispatcher, Pace, StepOutcome, Verdict, Work
from dispatch.engine.base import Event, Handle, JobSpec, Reason
from dispatch.environment import LocalId
from dispatch.errors import EngineError, FormatError, ResourceAssignmentError, StepError
from dispatch.info import StepRecord
from dispatch.retry import RetryPolicy
from dispatch.schedule import ResourceAssignment
from dispatch.step import StepResources
from dispatch.testing.engine import FakeEngine, Outcome
from dispatch.testing.jobs import FakeJobs
from dispatch.testing.observer import RecordingObserver
from dispatch.testing.scheduler import FakeScheduler
from dispatch.testing.workspace import FakeClaims
from dispatch.workspace.base import Attempt, Orphan, StepSupersededError, Superseded

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


def interrupt() -> None:
    """What Ctrl-C does."""
    signal.raise_signal(signal.SIGINT)


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


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A dispatcher among fakes."""
    return Lab(tmp_path)


def failing(verb: str, step: str, error: BaseException) -> Callable[[str, object], None]:
    """A hook that raises for one verb and step."""

    def hook(called: str, what: object) -> None:
        unique_id = what.unique_id if isinstance(what, Attempt) else what
        if (called, unique_id) == (verb, step):
            raise error

    return hook


def test_steps_start_when_their_needs_are_committed(lab: Lab) -> None:
    """A diamond runs from its root to its tip, and the two in the middle at once."""
    outcomes = lab.run(work("d", "b", "c"), work("b", "a"), work("c", "a"), work("a"))
    assert {outcome.verdict for outcome in outcomes.values()} == {Verdict.COMPLETED}
    submitted = [job.step for job in lab.engine.submitted]
    assert (submitted[0], set(submitted[1:3]), submitted[3]) == ("a", {"b", "c"}, "d")
    assert lab.claims.committed[0] == "a" and lab.claims.committed[-1] == "d"


def test_nothing_to_do(lab: Lab) -> None:
    """A run without works ends at once, with nothing asked of anybody."""
    assert lab.run() == {}
    assert lab.engine.submitted == []


@pytest.mark.parametrize(
    ("verb", "error", "reason"),
    [
        ("claim", OSError(28, "No space left on device"), "the system refused: [Errno 28] No space left on"),
        ("claim", ValueError("odd"), "unexpected ValueError: odd"),
        ("prepare", StepError("step 'bad': an input has vanished"), "an input has vanished"),
        ("prepare", OSError(28, "No space left on device"), "No space left on device"),
        ("prepare", ValueError("odd"), "unexpected ValueError: odd"),
        ("submit", EngineError("job bad.1: refused"), "job bad.1: refused"),
        ("facts", ValueError("odd"), "unexpected ValueError: odd"),
        ("facts", SystemExit(3), "unexpected SystemExit: 3"),
        ("commit", OSError(28, "No space left on device"), "No space left on device"),
        ("commit", StepSupersededError("bad", 1), "attempt 1 was taken for lost"),
        ("commit", FormatError("a link leads out of the result"), "a link leads out of the result"),
        ("commit", KeyError("odd"), "unexpected KeyError: 'odd'"),
        ("release", EngineError("gone"), None),
        ("release", ValueError("odd"), None),
        ("renew", OSError("odd"), None),
    ],
)
def test_trouble_with_one_step(lab: Lab, verb: str, error: BaseException, reason: str | None) -> None:
    """Whatever goes wrong with a step is the end of that step, is said, and skips what is behind it alone."""

    class Engine(FakeEngine):
        def submit(self, jobs: list[JobSpec]) -> list[Handle]:  # type: ignore[override]
            failing(verb, jobs[0].step, error)("submit", "bad")
            return super().submit(jobs)

        def release(self, handle: Handle) -> None:
            super().release(handle)
            failing(verb, "bad.1", error)("release", handle.key)

    lab.engine = Engine(lab.script)
    lab.jobs = FakeJobs(failing(verb, "bad", error))
    lab.claims = FakeClaims(lab.directory, failing(verb, "bad", error))
    outcomes = lab.run(work("bad"), work("behind", "bad"), work("further", "behind"), work("other"))
    assert outcomes["other"].verdict is Verdict.COMPLETED
    if reason is None:
        assert {outcome.verdict for outcome in outcomes.values()} == {Verdict.COMPLETED}
        return
    assert outcomes["bad"].verdict is Verdict.FAILED
    assert reason in outcomes["bad"].reason
    for name in ("behind", "further"):
        assert outcomes[name] == StepOutcome(name, Verdict.SKIPPED, "needs 'bad', which failed")
    if lab.claims.claimed and "bad.1" in lab.claims.claimed:
        assert reason in lab.claims.facts["bad.1"].error


def test_a_step_that_never_fits(lab: Lab) -> None:
    """The scheduler's never fails the step before it is claimed; others of its shape go on."""
    lab.scheduler = FakeScheduler(never={"bad"})
    outcomes = lab.run(work("bad"), work("behind", "bad"), work("other"))
    assert outcomes["bad"] == StepOutcome("bad", Verdict.FAILED, "it asks for more than there is")
    assert outcomes["behind"].verdict is Verdict.SKIPPED
    assert outcomes["other"].verdict is Verdict.COMPLETED
    assert lab.claims.claimed == ["other.1"]


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (BAD, "it broke"),
        (Outcome(exit_code=137, reason=Reason.OOM, message="killed"), "killed"),
        (Outcome(exit_code=143, reason=Reason.CANCELLED), "exit code 143"),
        (Outcome(exit_code=None, reason=Reason.IMAGE, message="no such image"), "no such image"),
    ],
)
def test_a_job_that_fails(lab: Lab, outcome: Outcome, reason: str) -> None:
    """A job without a result fails its step, also when somebody else stopped it."""
    lab.outcomes["bad"] = outcome
    outcomes = lab.run(work("bad"))
    assert (outcomes["bad"].verdict, outcomes["bad"].reason) == (Verdict.FAILED, reason)
    assert outcomes["bad"].info is not None


def test_an_observer_that_raises(lab: Lab) -> None:
    """A terminal that went away is told nothing more, and the run goes on to its end."""

    class Broken(RecordingObserver):
        def starting(self, name: str, attempt: int) -> None:
            super().starting(name, attempt)
            raise BrokenPipeError

    lab.observer = Broken()
    outcomes = lab.dispatcher().run([work("a"), work("b", "a")], "run")
    assert [outcome.verdict for outcome in outcomes.values()] == [Verdict.COMPLETED] * 2
    assert lab.observer.told == [("starting", "a")]


def test_a_step_held_until_its_holder_has_a_result(lab: Lab) -> None:
    """A step at which somebody works is looked at again now and then, and taken as cached in the end."""
    lab.claims.holders.add("a")
    looks: list[float] = []

    def look(verb: str, unique_id: str) -> None:
        if (verb, unique_id) == ("claim", "a"):
            looks.append(lab.clock.now)
            if len(looks) == 4:
                lab.claims.results.add("a")

    lab.claims.hook = look
    outcomes = lab.run(work("a"), work("b", "a"), work("other"))
    assert outcomes["a"].verdict is Verdict.CACHED
    assert outcomes["a"].reason == "computed by another run meanwhile"
    assert outcomes["b"].verdict is Verdict.COMPLETED
    assert len(looks) == 4
    assert all(later - earlier >= 5.0 for earlier, later in pairwise(looks))
    assert "somebody works at it" in lab.observer.reasons[0]


def test_a_step_held_until_its_holder_is_gone(lab: Lab) -> None:
    """When the holder dies without a result, the step is run here."""
    lab.claims.holders.add("a")
    lab.claims.hook = lambda *_: lab.claims.holders.clear() if lab.clock.now > 30 else None
    assert lab.run(work("a"))["a"].verdict is Verdict.COMPLETED
    assert lab.claims.claimed == ["a.1"]


def test_an_attempt_that_others_took_for_lost(lab: Lab) -> None:
    """Its job is cancelled once, its end recorded, and the step held until it can be had again."""
    lab.outcomes["a"] = HOLDS

    def lose(verb: str, attempt: Attempt) -> None:
        if verb == "prepare" and attempt.number == 1:
            lab.claims.superseded.append(Superseded(attempt, adopted=False))
        elif verb == "prepare":
            lab.outcomes["a"] = GOOD

    lab.jobs = FakeJobs(lose)
    assert lab.run(work("a"), work("b", "a"))["b"].verdict is Verdict.COMPLETED
    assert [handle.key for handle in lab.engine.cancelled] == ["a.1"]
    assert lab.claims.claimed == ["a.1", "a.2", "b.1"]
    assert "took its attempt for lost" in lab.claims.facts["a.1"].error


def test_leases_are_renewed_while_events_come_quickly(lab: Lab) -> None:
    """Renewal goes by the clock, not by pauses between events."""
    lab.clock = Clock(step=7.0)
    lab.run(*(work(f"s{number}") for number in range(100)))
    assert lab.claims.renewals >= lab.clock.now / 20.0 / 2
    assert lab.claims.renewals <= lab.clock.now / 20.0


def test_one_step_under_two_names(lab: Lab) -> None:
    """Steps of one unique id are computed once; the later waits for the earlier and finds its result."""
    lab.scheduler = FakeScheduler(parallelism=4)
    outcomes = lab.run(work("a"), work("twin", unique_id="a"), work("b", "twin"))
    assert outcomes["a"].verdict is Verdict.COMPLETED
    assert (outcomes["twin"].verdict, outcomes["twin"].reason) == (Verdict.CACHED, "the same step as 'a'")
    assert outcomes["b"].verdict is Verdict.COMPLETED
    assert lab.claims.claimed == ["a.1", "b.1"]


def test_one_failing_step_under_two_names(lab: Lab) -> None:
    """When the earlier fails, the later is not tried and says why."""
    lab.outcomes["a"] = BAD
    outcomes = lab.run(work("a"), work("twin", unique_id="a"), work("b", "twin"))
    assert outcomes["twin"].reason == "is the same step as 'a', which failed"
    assert outcomes["b"].reason == "needs 'a', which failed"
    assert lab.claims.claimed == ["a.1"]


def test_a_result_that_is_to_be_replaced(lab: Lab) -> None:
    """The step is computed although it has one, once whatever its names; others keep theirs."""
    lab.claims.results |= {"a", "b"}
    outcomes = lab.run(
        replace(work("a"), replaces=True),
        replace(work("twin", unique_id="a"), replaces=True),
        work("b", "twin"),
    )
    verdicts = {name: outcome.verdict for name, outcome in outcomes.items()}
    assert verdicts == {"a": Verdict.COMPLETED, "twin": Verdict.CACHED, "b": Verdict.CACHED}
    assert lab.claims.committed == ["a"]


def test_room_that_comes_from_outside(lab: Lab) -> None:
    """With nothing running and no room, the run says that it waits, and asks again."""
    lab.scheduler.full = True

    class Making(RecordingObserver):
        def waiting(self, name: str, reason: str) -> None:
            super().waiting(name, reason)
            lab.scheduler.full = len(self.reasons) < 3

    lab.observer = Making()
    assert lab.run(work("a"))["a"].verdict is Verdict.COMPLETED
    assert lab.observer.reasons == ["no room now"] * 3


def test_the_next_run_on_an_engine_misses_nothing(lab: Lab) -> None:
    """A run that ended takes no events any more: the next one on the same engine sees all of its own."""
    for number in range(20):
        dispatcher = lab.dispatcher()
        outcomes = dispatcher.run([work(f"s{number}")], "run")
        assert outcomes[f"s{number}"].verdict is Verdict.COMPLETED


def test_an_engine_that_goes_away(lab: Lab) -> None:
    """What was finished is kept, what ran is recorded as lost, and the error says what to do."""
    lab.outcomes["runs"] = HOLDS
    works = [work("done"), work("runs", "done"), work("behind", "runs")]

    class Watching(RecordingObserver):
        def starting(self, name: str, attempt: int) -> None:
            super().starting(name, attempt)
            if name == "runs":
                lab.engine.break_off(EngineError("connection refused"))

    lab.observer = Watching()
    with pytest.raises(EngineError, match="connection refused") as caught:
        lab.dispatcher().run(works, "run")
    assert "repeat the command" in caught.value.remedy
    assert lab.verdicts() == {
        "done": Verdict.COMPLETED,
        "runs": Verdict.FAILED,
        "behind": Verdict.CANCELLED,
    }
    assert lab.claims.facts["runs.1"].reason == Reason.LOST.value
    assert sorted(lab.claims.ended) == sorted(lab.claims.claimed)
    assert lab.engine.cancelled == []


def test_an_engine_with_a_fault_of_its_own(lab: Lab) -> None:
    """An unexpected exception of the engine ends the run with that exception, not with silence."""

    class Odd(FakeEngine):
        def next_event(self, timeout: float | None) -> Event | None:  # noqa: ARG002
            raise ZeroDivisionError

    lab.engine = Odd()
    with pytest.raises(ZeroDivisionError):
        lab.dispatcher().run([work("a"), work("b", "a")], "run")
    assert lab.verdicts() == {"a": Verdict.CANCELLED, "b": Verdict.CANCELLED}
    assert sorted(lab.claims.ended) == sorted(lab.claims.claimed)


@pytest.mark.parametrize("verb", ["claim", "claimed", "prepare", "script", "commit", "renew"])
def test_ctrl_c_at_any_point(lab: Lab, verb: str) -> None:
    """Every attempt gets an end, every job is stopped, every step a verdict, and the interrupt is raised."""
    lab.outcomes["runs"] = HOLDS
    lab.scheduler = FakeScheduler(parallelism=3)

    def hook(called: str, what: object) -> None:
        unique_id = what.unique_id if isinstance(what, Attempt) else what
        if called == verb and unique_id in ("second", ""):
            interrupt()

    def script(job: JobSpec) -> Outcome:
        hook("script", job.step)
        return lab.script(job)

    lab.engine = FakeEngine(script)
    lab.jobs, lab.claims = FakeJobs(hook), FakeClaims(lab.directory, hook)
    works = [work("runs"), work("second"), work("behind", "second", "runs")]
    with pytest.raises(KeyboardInterrupt):
        lab.dispatcher().run(works, "run")
    lab.check(works)
    assert [handle.key for handle in lab.engine.cancelled if handle.key == "runs.1"] == ["runs.1"]
    assert lab.verdicts()["runs"] is Verdict.CANCELLED
    assert lab.verdicts()["behind"] is Verdict.CANCELLED
    assert lab.claims.facts["runs.1"].reason == Reason.CANCELLED.value
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("verb", ["prepare", "script"])
def test_an_interrupt_that_arises_as_an_exception(lab: Lab, verb: str) -> None:
    """Also where no signal handler of ours could catch it, the attempt under way gets its end."""
    lab.outcomes["runs"] = HOLDS
    hook = failing(verb, "second", KeyboardInterrupt())

    def script(job: JobSpec) -> Outcome:
        hook("script", job.step)
        return lab.script(job)

    lab.engine = FakeEngine(script)
    lab.jobs = FakeJobs(hook)
    with pytest.raises(KeyboardInterrupt):
        lab.dispatcher().run([work("runs"), work("second")], "run")
    assert sorted(lab.claims.ended) == sorted(lab.claims.claimed) == ["runs.1", "second.1"]
    assert "runs.1" in [handle.key for handle in lab.engine.cancelled]


class Unhurried(FakeEngine):
    """Jobs take no notice of the first cancel."""

    def __init__(self, script: Callable[[JobSpec], Outcome], on_cancel: Callable[[float], None]) -> None:
        super().__init__(script)
        self.graces: list[float] = []
        self._on_cancel = on_cancel

    def cancel(self, handles: list[Handle], grace: float) -> None:  # type: ignore[override]
        """End jobs only where no grace is given."""
        self.graces.append(grace)
        if grace == 0.0:
            super().cancel(handles, grace)
        self._on_cancel(grace)


def test_a_second_ctrl_c_kills(lab: Lab) -> None:
    """Who interrupts again does not want to wait for the grace."""
    engine = Unhurried(lambda _: HOLDS, lambda grace: interrupt() if grace else None)
    lab.engine = engine
    works = [work("a"), work("b")]

    class Impatient(RecordingObserver):
        def starting(self, name: str, attempt: int) -> None:
            super().starting(name, attempt)
            interrupt()

    lab.observer = Impatient()
    with pytest.raises(KeyboardInterrupt):
        lab.dispatcher().run(works, "run")
    lab.check(works)
    assert engine.graces[0] == 10.0 and 0.0 in engine.graces


@pytest.mark.parametrize("error", [None, EngineError("gone"), KeyboardInterrupt()])
def test_ctrl_c_with_an_engine_that_says_nothing(lab: Lab, error: BaseException | None) -> None:
    """After grace and patience the attempts are ended without the engine's word."""

    def refuse(_: float) -> None:
        if error is not None:
            raise error

    lab.engine = Unhurried(lambda _: HOLDS, refuse)

    class Impatient(RecordingObserver):
        def starting(self, name: str, attempt: int) -> None:
            super().starting(name, attempt)
            interrupt()

    lab.observer = Impatient()
    with pytest.raises(KeyboardInterrupt):
        lab.dispatcher().run([work("a"), work("b", "a")], "run")
    assert lab.verdicts() == {"a": Verdict.CANCELLED, "b": Verdict.CANCELLED}
    assert lab.claims.ended == ["a.1"]
    assert lab.scheduler.held == set()


def test_the_loop_costs_the_same_for_any_number_of_waiting_steps(lab: Lab) -> None:
    """Ten thousand ready steps of two shapes cost the scheduler three questions each at most."""
    shapes = (StepResources(), StepResources(cpu_count=1))
    works = [work(f"s{number}", resources=shapes[number % 2]) for number in range(10_000)]
    lab.scheduler = FakeScheduler(parallelism=8)
    lab.run(*works)
    assert lab.scheduler.asked <= 3 * len(works)
    assert lab.scheduler.peak <= 8 and lab.engine.peak <= 8


# Trying again.


@pytest.mark.parametrize(
    ("policy", "outcome", "attempts", "verdict"),
    [
        (RetryPolicy(), BAD, 1, Verdict.FAILED),
        (RetryPolicy(limit=2), BAD, 3, Verdict.FAILED),
        (RetryPolicy(limit=2, on=("oom",)), BAD, 1, Verdict.FAILED),
        (RetryPolicy(limit=2, on=(1,)), BAD, 3, Verdict.FAILED),
        (RetryPolicy(), Outcome(exit_code=None, reason=Reason.LOST), 4, Verdict.FAILED),
        (RetryPolicy(limit=1), Outcome(exit_code=None, reason=Reason.LOST), 5, Verdict.FAILED),
        (RetryPolicy(limit=9), Outcome(exit_code=None, reason=Reason.IMAGE), 1, Verdict.FAILED),
        (RetryPolicy(limit=1), Outcome(exit_code=None, reason=Reason.INFRA), 2, Verdict.FAILED),
        (RetryPolicy(limit=9), Outcome(exit_code=143, reason=Reason.CANCELLED), 1, Verdict.FAILED),
    ],
)
def test_how_often_a_step_is_tried(
    lab: Lab, policy: RetryPolicy, outcome: Outcome, attempts: int, verdict: Verdict
) -> None:
    """A step's own policy counts its own failures, the machine's are made up for three times."""
    lab.outcomes["a"] = outcome
    outcomes = lab.run(replace(work("a"), retries=policy), work("b", "a"))
    assert (outcomes["a"].verdict, outcomes["b"].verdict) == (verdict, Verdict.SKIPPED)
    assert lab.claims.claimed == [f"a.{number}" for number in range(1, attempts + 1)]
    assert [what for what, step in lab.observer.told if step == "a"].count("retrying") == attempts - 1


def test_pauses_grow(lab: Lab) -> None:
    """Each further attempt waits longer than the one before, by the run's own clock."""
    lab.outcomes["a"] = BAD
    lab.run(replace(work("a"), retries=RetryPolicy(limit=3, delay=50.0)))
    assert [round(delay / 50) for delay in lab.observer.delays] == [1, 2, 4]
    assert lab.clock.now > sum(lab.observer.delays)


def test_others_go_on_while_a_step_waits_for_its_next_attempt(lab: Lab) -> None:
    """A step that is put off holds no room: another one runs meanwhile, though only one may at a time."""
    lab.outcomes["a"] = BAD
    lab.scheduler = FakeScheduler(parallelism=1)
    lab.run(replace(work("a"), retries=RetryPolicy(limit=1, delay=50.0)), work("b"))
    told = lab.observer.told
    assert told.index(("retrying", "a")) < told.index(("ended", "b")) < told.index(("ended", "a"))


def test_a_time_limit(lab: Lab) -> None:
    """A job that runs for too long is stopped, and the end says so; what is done within its grace counts."""
    lab.outcomes["a"] = HOLDS
    outcomes = lab.run(replace(work("a"), timeout=30.0))
    assert outcomes["a"].verdict is Verdict.FAILED
    assert outcomes["a"].reason == "it ran for longer than 30.0 s"
    assert lab.claims.facts["a.1"].reason == "timeout"
    assert lab.engine.cancelled == [Handle("a.1", "fake-a.1")]


def test_a_time_limit_counts_from_when_the_job_began(lab: Lab) -> None:
    """Of a job that was taken over, what it ran before counts, by the engine's clock."""
    lab.outcomes["a"] = HOLDS
    lab.wall = 1000.0
    lab.run(replace(work("a"), timeout=900.0))
    assert lab.claims.facts["a.1"].reason == "timeout"
    assert lab.clock.now < 100


# Jobs that were left behind.


def left(lab: Lab, directory: Path, outcome: Outcome = HOLDS) -> Orphan:
    """A job of the step ``a`` that a client before us submitted, on the lab's engine."""
    lab.outcomes["a"] = outcome
    place = directory / "a.1"
    job = JobSpec("a.1", "former", "a", 1, LocalId("sha256:0"), ("true",), place)
    lab.engine.submit([job])
    orphan = Orphan("a", 1, place, "former")
    lab.claims.orphans["a"] = orphan
    return orphan


def test_a_left_job_is_adopted(lab: Lab) -> None:
    """A running job of a client before us is attached to, not started again, and its result is committed."""
    left(lab, lab.directory)
    lab.jobs = FakeJobs(lambda verb, _: lab.engine.finish("a.1", GOOD) if verb == "prepare" else None)
    outcomes = lab.run(replace(work("a"), outlives=True))
    assert outcomes["a"].verdict is Verdict.COMPLETED
    assert lab.claims.claimed == ["a.2"]
    assert [job.key for job in lab.engine.submitted] == ["a.1"]


@pytest.mark.parametrize("outlives", [True, False])
def test_a_job_of_another_workspace_is_let_alone(lab: Lab, tmp_path: Path, outlives: bool) -> None:
    """A job of the same name whose attempt is kept elsewhere is neither adopted nor stopped."""
    left(lab, tmp_path / "elsewhere")
    lab.claims.orphans["a"] = Orphan("a", 1, lab.directory / "a.1", "former")
    lab.outcomes["a"] = GOOD
    assert lab.dispatcher().run([replace(work("a"), outlives=outlives)], "run")["a"].verdict is (
        Verdict.COMPLETED
    )
    assert [job.key for job in lab.engine.submitted] == ["a.1", "a.2"]
    assert [handle.key for handle in lab.engine.released] == ["a.2"]
    assert lab.engine.cancelled == []


def test_a_left_job_that_vanishes_meanwhile(lab: Lab) -> None:
    """A job that is gone before it could be attached to is lost, and the step is tried again."""
    left(lab, lab.directory)
    handle = Handle("a.1", "fake-a.1")
    lab.jobs = FakeJobs(
        lambda verb, attempt: lab.engine.release(handle) if (verb, attempt.number) == ("prepare", 2) else None
    )
    lab.outcomes["a"] = GOOD
    outcomes = lab.dispatcher().run([replace(work("a"), outlives=True)], "run")
    assert outcomes["a"].verdict is Verdict.COMPLETED
    assert lab.claims.claimed == ["a.2", "a.3"]
    assert lab.claims.facts["a.2"].reason == "lost"


def test_a_left_job_whose_result_is_to_be_replaced(lab: Lab) -> None:
    """A job of what may be other code is ended, and the step is computed anew."""
    left(lab, lab.directory)
    lab.claims.results.add("a")
    again = replace(work("a"), outlives=True, replaces=True)
    lab.outcomes["a"] = GOOD
    lab.dispatcher().run([again], "run")
    assert [handle.key for handle in lab.engine.cancelled] == ["a.1"]
    assert sorted(handle.key for handle in lab.engine.released) == ["a.1", "a.2"]


def test_a_job_that_others_took_over(lab: Lab) -> None:
    """Whoever finds that others look after its job lets it run, and waits for their result."""
    lab.outcomes["a"] = HOLDS

    def hook(verb: str, attempt: Attempt) -> None:
        if verb == "prepare":
            lab.claims.superseded.append(Superseded(attempt, adopted=True))
            lab.claims.ended.append(attempt.key)
            lab.claims.results.add("a")

    lab.jobs = FakeJobs(hook)
    outcomes = lab.dispatcher().run([work("a")], "run")
    assert outcomes["a"].verdict is Verdict.CACHED
    assert (lab.engine.cancelled, lab.engine.released) == ([], [])
    assert lab.scheduler.held == set()


def test_an_interrupt_ends_what_was_left(lab: Lab) -> None:
    """Jobs of a client before us are stopped with the run's own, though their turn had not come yet."""
    left(lab, lab.directory)
    lab.outcomes["b"] = HOLDS
    lab.scheduler = FakeScheduler(parallelism=1)
    dispatcher = lab.dispatcher()
    lab.observer.listener = lambda what, name: (
        dispatcher.cancel() if (what, name) == ("running", "b") else None
    )
    works = [replace(work(name), outlives=True) for name in ("b", "c", "a")]
    with pytest.raises(KeyboardInterrupt):
        dispatcher.run(works, "run")
    assert set(lab.verdicts().values()) == {Verdict.CANCELLED}
    assert sorted(handle.key for handle in lab.engine.cancelled) == ["a.1", "b.1"]
    assert sorted(handle.key for handle in lab.engine.released) == ["a.1", "b.1"]
    assert sorted(lab.claims.ended) == sorted(lab.claims.claimed) == ["a.2", "b.1"]


# Stopping steps.


@pytest.mark.parametrize("where", ["running", "ready", "waiting", "retrying", "held", "ended", "unknown"])
def test_cancelling_a_step(lab: Lab, where: str) -> None:
    """A step is stopped wherever it is, those behind it are skipped, and all others go on."""
    lab.outcomes = {"a": HOLDS if where in ("running", "waiting") else BAD if where == "retrying" else GOOD}
    lab.scheduler = FakeScheduler(parallelism=2)
    works = [
        replace(work("a", *(["c"] if where == "waiting" else [])), retries=RetryPolicy(limit=1, delay=1e6)),
        work("b", "a"),
        work("c"),
    ]
    if where == "waiting":
        lab.outcomes["c"] = HOLDS
    if where == "held":
        lab.claims.holders.add("a")
    dispatcher = lab.dispatcher()
    asked: list[str] = []

    def cancel(what: str, name: str) -> None:
        moments = {
            "running": ("running", "a"),
            "ready": ("starting", "c"),
            "waiting": ("running", "c"),
            "retrying": ("retrying", "a"),
            "held": ("waiting", "a"),
            "ended": ("ended", "a"),
            "unknown": ("ended", "a"),
        }
        if (what, name) == moments[where] and not asked:
            asked.append(name)
            dispatcher.cancel(["nobody" if where == "unknown" else "a"], grace=3.0)
            if where == "waiting":
                lab.engine.finish("c.1", GOOD)

    if where == "ready":
        lab.scheduler = FakeScheduler(parallelism=1)
        works.reverse()
        works = [works[0], works[2], works[1]]
        lab.outcomes["c"] = GOOD
        dispatcher = lab.dispatcher()
    lab.observer.listener = cancel
    outcomes = dispatcher.run(works, "run")
    lab.check(works)
    assert asked
    alone = where in ("ended", "unknown")
    assert outcomes["a"].verdict is (Verdict.COMPLETED if alone else Verdict.CANCELLED)
    assert outcomes["b"].verdict is (Verdict.COMPLETED if alone else Verdict.SKIPPED)
    assert outcomes["c"].verdict is Verdict.COMPLETED
    if not alone:
        assert outcomes["b"].reason == "needs 'a', which was cancelled"


@pytest.mark.parametrize(("grace", "given"), [(None, 10.0), (2.5, 2.5)])
def test_cancelling_a_run(lab: Lab, grace: float | None, given: float) -> None:
    """The run ends as by Ctrl-C; its jobs are given the grace that was asked for, or the usual."""
    lab.outcomes["a"] = HOLDS
    dispatcher = lab.dispatcher()
    lab.observer.listener = lambda what, _: dispatcher.cancel(None, grace) if what == "running" else None
    with pytest.raises(KeyboardInterrupt):
        dispatcher.run([work("a"), work("b", "a")], "run")
    assert set(lab.verdicts().values()) == {Verdict.CANCELLED}
    assert lab.engine.graces == [given]


# Who comes first.


def starts(lab: Lab) -> list[str]:
    """The names of steps in the order in which they were started."""
    return [name for what, name in lab.observer.told if what == "starting"]


def test_priorities(lab: Lab) -> None:
    """Of what is ready the most urgent is started first, and equals in the order of the graph."""
    lab.scheduler = FakeScheduler(parallelism=1)
    urgency = {"a": 0, "b": 5, "c": -1, "d": 5, "e": 0}
    lab.run(*(replace(work(name), priority=number) for name, number in urgency.items()))
    assert starts(lab) == ["b", "d", "a", "e", "c"]


class Narrow(FakeScheduler):
    """Has room for one step that asks for CPUs, or for two that do not."""

    def schedule(
        self, unique_id: str, resources: StepResources, group: str | None = None
    ) -> ResourceAssignment:
        """Refuse a large step while anything runs, and anything while a large one does."""
        if self.held and (resources.cpu_count or any(name.startswith("large") for name in self.held)):
            raise ResourceAssignmentError("no room")
        return super().schedule(unique_id, resources, group)


@pytest.mark.parametrize(
    ("priority", "order"),
    [(0, ["s1", "s2", "s3", "s4", "large"]), (1, ["s1", "large", "s2", "s3", "s4"])],
)
def test_who_passes_a_step_that_waits_for_room(lab: Lab, priority: int, order: list[str]) -> None:
    """Steps as urgent pass a larger one that does not fit yet; those that are less urgent do not."""
    lab.scheduler = Narrow(parallelism=2)
    large = replace(work("large", "s0", resources=StepResources(cpu_count=4)), priority=priority)
    small = [work("s1"), *(work(f"s{number}", "s0") for number in (2, 3, 4))]
    lab.outcomes["s1"] = HOLDS

    def free(what: str, name: str) -> None:
        if (what, name) == ("ended", "s4" if priority == 0 else "s0"):
            lab.engine.finish("s1.1", GOOD)

    lab.observer.listener = free
    lab.run(work("s0"), *small, large)
    assert [name for name in starts(lab) if name != "s0"] == order


def test_groups(lab: Lab) -> None:
    """Of a group only so many run at once, and an urgent step that waits for its group holds up nobody."""
    lab.scheduler = FakeScheduler(parallelism=3, groups={"few": 1})
    works = [replace(work(f"g{number}"), group="few", priority=3) for number in range(4)]
    lab.run(*works, work("a"), work("b"))
    assert lab.scheduler.group_peaks["few"] == 1
    assert lab.scheduler.peak > 1


def test_a_workspace_that_is_reached_by_another_path(lab: Lab, tmp_path: Path) -> None:
    """A job whose client came to the same directory through a link is adopted all the same."""
    (tmp_path / "link").symlink_to(lab.directory)
    left(lab, tmp_path / "link")
    lab.claims.orphans["a"] = Orphan("a", 1, lab.directory / "a.1", "former")
    lab.jobs = FakeJobs(lambda verb, _: lab.engine.finish("a.1", GOOD) if verb == "prepare" else None)
    outcomes = lab.run(replace(work("a"), outlives=True))
    assert outcomes["a"].verdict is Verdict.COMPLETED
    assert [job.key for job in lab.engine.submitted] == ["a.1"]
