"""The only loop: what each kind of trouble means for a step, for those behind it, and for the rest."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from dispatch.dispatcher import StepOutcome, Verdict
from dispatch.engine.base import Event, Handle, JobSpec, Reason
from dispatch.errors import EngineError, FormatError, StepError
from dispatch.step import StepResources
from dispatch.testing.dispatching import BAD, GOOD, HOLDS, Clock, Lab, work
from dispatch.testing.engine import FakeEngine, Outcome
from dispatch.testing.jobs import FakeJobs
from dispatch.testing.observer import RecordingObserver
from dispatch.testing.scheduler import FakeScheduler
from dispatch.testing.workspace import FakeClaims
from dispatch.workspace.base import Attempt, StepSupersededError, Superseded


def interrupt() -> None:
    """What Ctrl-C does."""
    signal.raise_signal(signal.SIGINT)


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


def test_a_job_in_the_queue_of_its_engine(lab: Lab) -> None:
    """What it waits for is told, each time, and that it does not run: its time does not begin to count."""
    lab.outcomes["a"] = Outcome(waits=("no slot", "no GPU"))
    assert lab.run(replace(work("a"), timeout=1e6))["a"].verdict is Verdict.COMPLETED
    assert lab.observer.reasons == ["no slot", "no GPU"]
    told = [what for what, _ in lab.observer.told]
    assert told == ["starting", "waiting", "waiting", "running", "ended"]


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
