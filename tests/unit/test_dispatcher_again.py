"""The only loop: steps tried again, jobs left behind, steps that are stopped, and who comes first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dispatch.dispatcher import Verdict
from dispatch.engine.base import Handle, JobSpec, Reason
from dispatch.environment import LocalId
from dispatch.errors import ResourceAssignmentError
from dispatch.retry import RetryPolicy
from dispatch.schedule import ResourceAssignment
from dispatch.step import StepResources
from dispatch.testing.dispatching import BAD, GOOD, HOLDS, Lab, work
from dispatch.testing.engine import Outcome
from dispatch.testing.jobs import FakeJobs
from dispatch.testing.scheduler import FakeScheduler
from dispatch.workspace.base import Attempt, Orphan, Superseded


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A dispatcher among fakes."""
    return Lab(tmp_path)


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
