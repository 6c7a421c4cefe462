"""The life of jobs: each rule by itself, and what must hold after whatever happens in whatever order."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dispatch.beakerd.access import Access, Principal, Purpose
from dispatch.beakerd.clock import Clock, Ids
from dispatch.beakerd.config import Assumptions, Config, NameScope
from dispatch.beakerd.problems import Problem
from dispatch.beakerd.spec import DataMount, ExperimentSpec, ImageSource, TaskSpec, load_task
from dispatch.beakerd.store.database import Database
from dispatch.beakerd.store.lifecycle import Assignment, Lifecycle, stopping
from dispatch.beakerd.store.setup import Host, Setup
from dispatch.beakerd.store.states import COMBINED, RESUMED, Code, Status
from dispatch.beakerd.store.workloads import SELECT, NewExperiment, Workloads, live_jobs

FINAL = {Status.CANCELED, Status.SUCCEEDED, Status.FAILED}


class World:
    """A database with accounts, and the changes on it, each in a transaction of its own."""

    def __init__(self, root: Path, assume: Assumptions | None = None):
        self.database = Database(root / "beaker.db")
        self.database.open()
        self.clock = Clock(time.time_ns)
        self.ids = Ids(self.clock, os.urandom)
        self.assume = assume or Assumptions()
        self.lifecycle = Lifecycle(self.clock, self.ids, self.assume)
        self.workloads = Workloads(self.clock, self.ids, self.lifecycle, NameScope.AUTHOR)
        self.access = Access(self.clock, os.urandom)
        with self.database.write() as tx:
            Setup(self.clock, self.ids, Host(2.0, 1 << 34), {}).apply(tx, Config())
        self.user = self.rows("SELECT id FROM users")[0][0]
        self.workspace = self.rows("SELECT id FROM workspaces")[0][0]
        self.node = self.rows("SELECT id FROM nodes")[0][0]

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """A query's rows."""
        with self.database.read() as tx:
            return list(tx.execute(sql, values).fetchall())

    def job(self, job: str) -> Any:
        """A job's row."""
        return self.rows("SELECT * FROM jobs WHERE id = ?", job)[0]

    def last(self, experiment: str, position: int = 0) -> Any:
        """The last job of a task."""
        return self.rows(
            "SELECT j.* FROM jobs j JOIN tasks t ON t.id = j.task_id WHERE t.experiment_id = ?"
            " AND t.position = ? ORDER BY j.created DESC",
            experiment,
            position,
        )[0]

    def create(self, *tasks: TaskSpec, retries: int = 0) -> str:
        """Make an experiment."""
        spec = ExperimentSpec(tasks=tasks or (task("main"),), allowed_retries=retries)
        with self.database.write() as tx:
            return self.workloads.create(tx, NewExperiment("", self.user, self.workspace, "{}", spec))

    def assign(self, job: str) -> bool:
        """Give a job the node, and the token that a runner makes for it."""
        with self.database.write() as tx:
            done = self.lifecycle.assign(tx, job, Assignment(self.node))
            if done:
                self.access.issue(tx, Principal(self.user, Purpose.JOB, self.workspace, job))
            return done

    def start(self, job: str) -> None:
        """The container runs."""
        with self.database.write() as tx:
            self.lifecycle.start(tx, job, self.clock.now())

    def exit(self, job: str, code: int = 0) -> None:
        """The container has ended."""
        with self.database.write() as tx:
            self.lifecycle.exit(tx, job, self.clock.now(), code)

    def stop(self, job: str, code: Code) -> bool:
        """Wish that a job stops."""
        with self.database.write() as tx:
            return self.lifecycle.stop(tx, job, code, "a test says so")

    def finalize(self, job: str, failure: str | None = None) -> str | None:
        """End a job."""
        with self.database.write() as tx:
            return self.lifecycle.finalize(tx, job, failure)

    def begin(self, job: str) -> str:
        """A job runs."""
        assert self.assign(job)
        self.start(job)
        return job

    def run(self, job: str, code: int = 0) -> str | None:
        """A job runs to its end; its successor's id."""
        self.begin(job)
        self.exit(job, code)
        return self.finalize(job)

    def cancel(self, experiment: str) -> list[str]:
        """Give an experiment up."""
        with self.database.write() as tx:
            return self.workloads.cancel(tx, experiment, "canceled by a test")

    def restart(self, experiment: str) -> list[str]:
        """Begin what failed again."""
        with self.database.write() as tx:
            return self.workloads.restart(tx, experiment)


def task(name: str, *results: str, **more: Any) -> TaskSpec:
    """A task that waits for the results of others."""
    mounts = tuple(DataMount(f"/{each}", result=each) for each in results)
    return TaskSpec(image=ImageSource(docker="busybox"), name=name, mounts=mounts, **more)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A world of defaults."""
    return World(tmp_path)


def outcome(row: Any) -> tuple[Status, int | None]:
    """How a job stands."""
    return Status(row["status"]), row["canceled_code"]


@pytest.mark.parametrize(
    ("code", "status"), [(0, Status.SUCCEEDED), (1, Status.FAILED), (137, Status.FAILED)]
)
def test_the_exit_code_decides(world: World, code: int, status: Status) -> None:
    """A job that ended by itself has succeeded with 0, and failed with anything else."""
    job = world.last(world.create())["id"]
    assert world.run(job, code) is None
    row = world.job(job)
    assert (row["status"], row["exit_code"]) == (status, code)
    assert (row["failed"] is not None) == (status is Status.FAILED)
    assert row["created"] < row["scheduled"] < row["started"] < row["exited"] < row["finalized"]


def test_a_failure_without_an_exit_says_why(world: World) -> None:
    """An image that is not there: failed, with the reason, and never started."""
    job = world.last(world.create())["id"]
    world.assign(job)
    world.finalize(job, "no such image")
    row = world.job(job)
    assert (row["status"], row["message"]) == (Status.FAILED, "no such image")
    assert (row["exit_code"], row["started"], row["exited"]) == (None, None, None)


@pytest.mark.parametrize("exit_code", [0, 1, 143])
def test_a_canceled_job_is_canceled_however_it_exits(world: World, exit_code: int) -> None:
    """The wish decides, not what the process made of it."""
    experiment = world.create(retries=3)
    job = world.begin(world.last(experiment)["id"])
    assert world.cancel(experiment) == [job]
    assert world.job(job)["status"] == Status.STOPPING
    world.exit(job, exit_code)
    assert world.finalize(job) is None
    assert outcome(world.job(job)) == (Status.CANCELED, Code.MANUAL)


def test_what_waits_is_canceled_at_once(world: World) -> None:
    """Nobody has to carry that out; and canceling again changes nothing."""
    experiment = world.create()
    assert world.cancel(experiment) == []
    row = world.last(experiment)
    assert outcome(row) == (Status.CANCELED, Code.MANUAL)
    assert world.cancel(experiment) == []
    assert dict(world.last(experiment)) == dict(row)
    assert not world.assign(row["id"])


@pytest.mark.parametrize(("resumes", "jobs"), [(True, 2), (False, 1)])
@pytest.mark.parametrize("code", [Code.SYSTEM_PREEMPTION, Code.USER_PREEMPTION, Code.NODE_UNAVAILABLE])
def test_a_preempted_job_is_resumed(world: World, code: Code, resumes: bool, jobs: int) -> None:
    """A new job of the same task with a result dataset of its own, if the task resumes at all."""
    experiment = world.create(task("main", auto_resume=resumes))
    first = world.begin(world.last(experiment)["id"])
    world.stop(first, code)
    world.exit(first, 143)
    second = world.finalize(first)
    assert outcome(world.job(first)) == (Status.CANCELED, code)
    assert (second is not None) == resumes
    assert world.rows("SELECT count(*) FROM jobs")[0][0] == jobs
    if second is not None:
        world.begin(second)
        assert world.job(second)["task_id"] == world.job(first)["task_id"]
        assert world.job(second)["result_dataset_id"] != world.job(first)["result_dataset_id"]


def test_what_never_ran_has_an_empty_result(world: World) -> None:
    """Public clients show the result of whatever has ended."""
    experiment = world.create()
    assert world.last(experiment)["result_dataset_id"] is None
    world.cancel(experiment)
    (result,) = world.rows("SELECT * FROM datasets WHERE id = ?", world.last(experiment)["result_dataset_id"])
    assert result["committed"] is not None
    assert result["source_job_id"] == world.last(experiment)["id"]


@pytest.mark.parametrize("first", [True, False])
def test_where_a_resumed_job_queues_is_a_switch(tmp_path: Path, first: bool) -> None:
    """At its old place, or behind all."""
    world = World(tmp_path, Assumptions(resume_first=first))
    job = world.begin(world.last(world.create())["id"])
    world.stop(job, Code.SYSTEM_PREEMPTION)
    successor = world.finalize(job)
    assert successor is not None
    old, new = world.job(job)["queued"], world.job(successor)["queued"]
    assert (new == old) if first else (new > old)


@pytest.mark.parametrize(
    ("resumes", "status", "jobs"),
    [(True, (Status.CANCELED, Code.NODE_UNAVAILABLE), 2), (False, (Status.FAILED, None), 1)],
)
def test_what_a_lost_node_means_is_a_switch(
    tmp_path: Path, resumes: bool, status: tuple[Status, Code | None], jobs: int
) -> None:
    """Resumed as if preempted, or failed with the reason."""
    world = World(tmp_path, Assumptions(node_loss_resumes=resumes))
    experiment = world.create()
    job = world.begin(world.last(experiment)["id"])
    world.stop(job, Code.NODE_UNAVAILABLE)
    world.finalize(job)
    assert outcome(world.job(job)) == status
    assert world.rows("SELECT count(*) FROM jobs")[0][0] == jobs
    if not resumes:
        assert world.job(job)["message"] == "a test says so"


def test_a_failed_job_is_tried_again_as_often_as_allowed(world: World) -> None:
    """Successors name the first of them, and queue behind all."""
    experiment = world.create(retries=2)
    first = world.last(experiment)["id"]
    second = world.run(first, 1)
    assert second is not None
    third = world.run(second, 1)
    assert third is not None
    assert world.run(third, 1) is None
    assert [world.job(job)["retry_ancestor_id"] for job in (first, second, third)] == [None, first, first]
    assert world.job(third)["queued"] > world.job(second)["queued"]
    (again,) = world.restart(experiment)
    assert world.job(again)["retry_ancestor_id"] is None
    assert world.run(again, 1) is not None


@pytest.mark.parametrize(("retried", "successor"), [(True, True), (False, False)])
def test_whether_a_timeout_is_retried_is_a_switch(tmp_path: Path, retried: bool, successor: bool) -> None:
    """It is canceled in any case."""
    world = World(tmp_path, Assumptions(retry_timeouts=retried))
    job = world.begin(world.last(world.create(retries=1))["id"])
    world.stop(job, Code.TIMEOUT)
    assert (world.finalize(job) is not None) == successor
    assert outcome(world.job(job)) == (Status.CANCELED, Code.TIMEOUT)


@pytest.mark.parametrize(
    ("wishes", "code"),
    [
        ((Code.SYSTEM_PREEMPTION, Code.MANUAL), Code.MANUAL),
        ((Code.MANUAL, Code.SYSTEM_PREEMPTION), Code.MANUAL),
        ((Code.SYSTEM_PREEMPTION, Code.USER_PREEMPTION), Code.SYSTEM_PREEMPTION),
        ((Code.TIMEOUT, Code.MANUAL), Code.TIMEOUT),
        ((Code.NODE_UNAVAILABLE, Code.TIMEOUT), Code.TIMEOUT),
    ],
)
def test_the_first_wish_counts_but_for_one_that_is_final(
    world: World, wishes: tuple[Code, Code], code: Code
) -> None:
    """Whoever cancels a job that is being preempted does not see it come back."""
    job = world.begin(world.last(world.create())["id"])
    assert [world.stop(job, wish) for wish in wishes] == [True, True]
    successor = world.finalize(job)
    assert world.job(job)["canceled_code"] == code
    assert (successor is not None) == (code in RESUMED)


def test_a_wish_comes_too_late_for_what_has_exited(world: World) -> None:
    """Results that are being captured are not thrown away; the next try is not made, though."""
    experiment = world.create(retries=5)
    job = world.begin(world.last(experiment)["id"])
    world.exit(job, 1)
    assert not world.stop(job, Code.SYSTEM_PREEMPTION)
    assert world.cancel(experiment) == []
    assert world.finalize(job) is None
    assert outcome(world.job(job)) == (Status.FAILED, None)


def test_a_job_that_is_stopped_before_it_runs_is_still_to_be_stopped(world: World) -> None:
    """The wish stays, also when the container starts after it."""
    job = world.last(world.create())["id"]
    world.assign(job)
    world.stop(job, Code.MANUAL)
    world.start(job)
    assert world.job(job)["status"] == Status.STOPPING
    with world.database.read() as tx:
        assert stopping(tx) == [job]


@pytest.mark.parametrize("code", RESUMED)
def test_what_waits_makes_no_room(world: World, code: Code) -> None:
    """Preempting a job without a place is nothing: it would only come again."""
    experiment = world.create(task("a"), task("b", "a"))
    assert not world.stop(world.last(experiment, 0)["id"], code)
    assert not world.stop(world.last(experiment, 1)["id"], code)
    assert [world.last(experiment, place)["status"] for place in range(2)] == [
        Status.QUEUED,
        Status.SUBMITTED,
    ]


def test_a_result_is_waited_for(world: World) -> None:
    """A task that mounts a result is submitted, and queued when the result is there, with its dataset."""
    experiment = world.create(task("use", "make", "other"), task("make"), task("other"))
    use, make, other = (world.last(experiment, place) for place in range(3))
    assert [row["status"] for row in (use, make, other)] == [Status.SUBMITTED, Status.QUEUED, Status.QUEUED]
    assert not world.assign(use["id"])
    world.run(make["id"])
    assert world.job(use["id"])["status"] == Status.SUBMITTED
    world.run(other["id"])
    assert world.job(use["id"])["status"] == Status.QUEUED
    spec = load_task(world.rows("SELECT spec FROM tasks WHERE position = 0")[0][0])
    assert [mount.beaker for mount in spec.mounts] == [
        world.job(job["id"])["result_dataset_id"] for job in (make, other)
    ]
    said = world.rows("SELECT status, message FROM job_events WHERE job_id = ? ORDER BY created", use["id"])
    assert [tuple(row) for row in said] == [
        ("submitted", "waiting for the result of make, other"),
        ("queued", "waiting to be scheduled"),
    ]


def test_a_result_is_waited_for_over_retries_and_preemptions(world: World) -> None:
    """The dataset is that of the job that succeeded."""
    experiment = world.create(task("make"), task("use", "make"), retries=1)
    second = world.run(world.last(experiment)["id"], 1)
    assert second is not None
    world.begin(second)
    world.stop(second, Code.SYSTEM_PREEMPTION)
    third = world.finalize(second)
    assert third is not None
    assert world.last(experiment, 1)["status"] == Status.SUBMITTED
    world.run(third)
    assert world.last(experiment, 1)["status"] == Status.QUEUED
    spec = load_task(world.rows("SELECT spec FROM tasks WHERE position = 1")[0][0])
    assert spec.mounts[0].beaker == world.job(third)["result_dataset_id"]


@pytest.mark.parametrize("how", ["fails", "is stopped"])
def test_who_waits_for_a_result_that_never_comes_is_canceled(world: World, how: str) -> None:
    """And so is who waits for them in turn; what does not wait goes on."""
    experiment = world.create(task("a"), task("b", "a"), task("c", "b"), task("d"))
    job = world.begin(world.last(experiment)["id"])
    if how == "fails":
        world.exit(job, 1)
    else:
        world.stop(job, Code.TIMEOUT)
    world.finalize(job)
    for position in (1, 2):
        assert outcome(world.last(experiment, position)) == (Status.CANCELED, Code.SIBLING_TASK_FAILED)
        assert "'a' has no result" in world.last(experiment, position)["canceled_for"]
    assert world.last(experiment, 3)["status"] == Status.QUEUED


def test_a_long_chain_is_given_up_at_once(world: World) -> None:
    """A thousand tasks, each waiting for the one before it."""
    names = [f"t{number}" for number in range(1000)]
    experiment = world.create(
        task(names[0]), *(task(name, before) for before, name in itertools.pairwise(names))
    )
    world.run(world.last(experiment)["id"], 1)
    left = world.rows("SELECT count(*) FROM jobs WHERE finalized IS NULL")[0][0]
    assert left == 0


def test_canceling_an_experiment_is_everybodys_reason(world: World) -> None:
    """Those who wait for a canceled task were canceled by the same person."""
    experiment = world.create(task("a"), task("b", "a"), task("c", "b"))
    assert world.cancel(experiment) == []
    assert {world.last(experiment, place)["canceled_code"] for place in range(3)} == {Code.MANUAL}


def test_a_restart_begins_what_failed_again_and_what_waited_for_it(world: World) -> None:
    """What has succeeded stays; the same experiment goes on."""
    experiment = world.create(task("a"), task("b", "a"), task("c"))
    world.run(world.last(experiment, 2)["id"])
    world.run(world.last(experiment, 0)["id"], 1)
    assert len(world.restart(experiment)) == 2
    assert [world.last(experiment, place)["status"] for place in range(3)] == [
        Status.QUEUED,
        Status.SUBMITTED,
        Status.SUCCEEDED,
    ]
    world.run(world.last(experiment, 0)["id"])
    world.run(world.last(experiment, 1)["id"], 1)
    (again,) = world.restart(experiment)
    assert world.job(again)["status"] == Status.QUEUED
    assert world.restart(experiment) == []


def test_a_restart_waits_for_a_cancel_to_be_carried_out(world: World) -> None:
    """Else a job that still stops would be beside its own successor."""
    experiment = world.create(task("a"), task("b"))
    job = world.begin(world.last(experiment)["id"])
    world.cancel(experiment)
    with pytest.raises(Problem, match="is being canceled"):
        world.restart(experiment)
    world.finalize(job)
    assert len(world.restart(experiment)) == 2


def test_a_failure_stops_the_others_where_it_is_to(world: World) -> None:
    """propagateFailure: once no retry is left, those who run are to be stopped, those who wait are ended."""
    experiment = world.create(task("a", propagate_failure=True), task("b"), task("c"), retries=1)
    running = world.begin(world.last(experiment, 1)["id"])
    second = world.run(world.last(experiment, 0)["id"], 1)
    assert second is not None
    assert world.job(running)["status"] == Status.RUNNING
    world.run(second, 1)
    with world.database.read() as tx:
        assert stopping(tx) == [running]
    assert outcome(world.last(experiment, 2)) == (Status.CANCELED, Code.SIBLING_TASK_FAILED)
    assert world.finalize(running) is None
    assert outcome(world.job(running)) == (Status.CANCELED, Code.SIBLING_TASK_FAILED)


def test_a_preemption_stops_the_others_where_it_is_to(world: World) -> None:
    """propagatePreemption: those who run are preempted with it, and resumed."""
    experiment = world.create(task("a", propagate_preemption=True), task("b"), task("c"))
    first, other = (world.begin(world.last(experiment, place)["id"]) for place in range(2))
    world.stop(first, Code.SYSTEM_PREEMPTION)
    with world.database.read() as tx:
        assert sorted(stopping(tx)) == sorted([first, other])
    assert world.finalize(other) is not None
    assert outcome(world.job(other)) == (Status.CANCELED, Code.SIBLING_TASK_PREEMPTION)
    assert world.last(experiment, 2)["status"] == Status.QUEUED


def test_deleting_takes_what_waits_and_refuses_what_runs(world: World) -> None:
    """The refusal changes nothing, not even for those that wait."""
    experiment = world.create(task("a"), task("b"))
    job = world.begin(world.last(experiment)["id"])
    with pytest.raises(Problem, match="cancel it first"), world.database.write() as tx:
        world.workloads.delete(tx, experiment)
    assert world.last(experiment, 1)["status"] == Status.QUEUED
    world.exit(job)
    world.finalize(job)
    with world.database.write() as tx:
        assert len(world.workloads.delete(tx, experiment)) == 2
    for table in ("experiments", "tasks", "jobs", "job_events"):
        assert world.rows(f"SELECT count(*) FROM {table}")[0][0] == 0
    assert world.rows("SELECT count(*) FROM datasets")[0][0] == 1


TASKS = st.fixed_dictionaries(
    {},
    optional={
        "auto_resume": st.booleans(),
        "propagate_failure": st.booleans(),
        "propagate_preemption": st.booleans(),
    },
)
PLACE = st.integers(0, 7)


class Life(RuleBasedStateMachine):
    """Anything may happen to any job at any time, from scheduler, runner and users."""

    @initialize(
        assume=st.builds(
            Assumptions,
            retry_timeouts=st.booleans(),
            node_loss_resumes=st.booleans(),
            resume_first=st.booleans(),
        )
    )
    def begin(self, assume: Assumptions) -> None:
        """A world at some setting of the switches."""
        self.root = Path(tempfile.mkdtemp())
        self.world = World(self.root, assume)
        self.ended: dict[str, dict[str, Any]] = {}
        self.restarted: set[str] = set()
        self.experiments = 0

    def teardown(self) -> None:
        """Leave nothing."""
        if hasattr(self, "world"):
            self.world.database.close()
            shutil.rmtree(self.root)

    def pick(self, place: int) -> str | None:
        """Some job: of the live ones, where there are any, but for one in eight."""
        live = self.world.rows("SELECT id FROM jobs WHERE finalized IS NULL ORDER BY created LIMIT 4")
        rows = live if live and place else self.world.rows("SELECT id FROM jobs")
        return rows[place % len(rows)]["id"] if rows else None

    @precondition(lambda self: self.experiments < 3)
    @rule(
        tasks=st.lists(TASKS, min_size=1, max_size=4),
        waits=st.lists(st.integers(0, 3), max_size=4),
        retries=st.integers(0, 2),
    )
    def create(self, tasks: list[dict[str, bool]], waits: list[int], retries: int) -> None:
        """An experiment whose tasks wait for earlier ones."""
        specs = []
        for place, flags in enumerate(tasks):
            parents = {f"t{wait}" for wait in waits[place:] if wait < place}
            specs.append(task(f"t{place}", *sorted(parents), **flags))
        self.world.create(*specs[::-1], retries=retries)
        self.experiments += 1

    @rule(place=PLACE)
    def assign(self, place: int) -> None:
        """The scheduler."""
        if job := self.pick(place):
            self.world.assign(job)

    @rule(place=PLACE)
    def start(self, place: int) -> None:
        """The runner."""
        if job := self.pick(place):
            self.world.start(job)

    @rule(place=PLACE, code=st.sampled_from([0, 0, 1, 143]))
    def exit(self, place: int, code: int) -> None:
        """The engine."""
        if job := self.pick(place):
            self.world.exit(job, code)

    @rule(place=PLACE, code=st.sampled_from([code for code in Code if code < Code.SIBLING_TASK_FAILED]))
    def stop(self, place: int, code: Code) -> None:
        """Anybody."""
        if job := self.pick(place):
            self.world.stop(job, code)

    @rule(place=PLACE, failure=st.sampled_from([None, None, "the image is not there"]))
    def finalize(self, place: int, failure: str | None) -> None:
        """The runner, which ends what has its place."""
        job = self.pick(place)
        if job and self.world.job(job)["node_id"] is not None:
            self.world.finalize(job, failure)

    @rule(places=st.lists(PLACE, min_size=1, max_size=6), code=st.sampled_from([0, 0, 0, 1]))
    def go_on(self, places: list[int], code: int) -> None:
        """Everybody does what is next, which alone leads far."""
        for place in places:
            job = self.pick(place)
            row = self.world.job(job) if job else None
            if row is None or row["finalized"] is not None:
                continue
            if row["node_id"] is None:
                self.world.assign(row["id"])
            elif row["started"] is None:
                self.world.start(row["id"])
            elif row["exited"] is None:
                self.world.exit(row["id"], code)
            else:
                self.world.finalize(row["id"])

    @precondition(lambda self: self.experiments > 1)
    @rule(place=PLACE)
    def cancel(self, place: int) -> None:
        """A user."""
        if job := self.pick(place):
            self.world.cancel(self.world.job(job)["experiment_id"])

    @rule(place=PLACE)
    def restart(self, place: int) -> None:
        """A user."""
        if job := self.pick(place):
            try:
                begun = self.world.restart(self.world.job(job)["experiment_id"])
            except Problem:
                return
            self.restarted.update(begun)

    def tasks(self) -> list[tuple[Any, Any, list[Any]]]:
        """Every task with its experiment and its jobs, in their order."""
        found = []
        for row in self.world.rows("SELECT * FROM tasks"):
            experiment = self.world.rows("SELECT * FROM experiments WHERE id = ?", row["experiment_id"])[0]
            jobs = self.world.rows("SELECT * FROM jobs WHERE task_id = ? ORDER BY created, id", row["id"])
            found.append((row, experiment, jobs))
        return found

    @invariant()
    def a_task_is_its_last_job(self) -> None:
        """One live job at most, the last; and without one the task is through, and nothing is due."""
        for row, experiment, jobs in self.tasks() if hasattr(self, "world") else ():
            assert all(job["finalized"] is not None for job in jobs[:-1])
            last = jobs[-1]
            assert row["status"] == last["status"]
            assert (last["finalized"] is not None) == (last["status"] in FINAL)
            if last["finalized"] is None or experiment["canceled"] is not None:
                continue
            again = last["status"] == Status.FAILED or (
                last["canceled_code"] == Code.TIMEOUT and self.world.assume.retry_timeouts
            )
            assert not (again and row["retries"] < experiment["allowed_retries"])
            assert not (last["canceled_code"] in RESUMED and load_task(row["spec"]).auto_resume)

    @invariant()
    def every_successor_has_a_reason(self) -> None:
        """Only what failed, ran out of time or made room comes again, unless somebody restarted it; and
        nothing comes after it was given up."""
        for _, experiment, jobs in self.tasks() if hasattr(self, "world") else ():
            for before, after in itertools.pairwise(jobs):
                code = before["canceled_code"]
                due = before["status"] == Status.FAILED or code in RESUMED
                due = due or (code == Code.TIMEOUT and self.world.assume.retry_timeouts)
                assert due or after["id"] in self.restarted
            if experiment["canceled"] is not None:
                assert all(job["created"] < experiment["canceled"] for job in jobs)

    @invariant()
    def what_has_ended_stays(self) -> None:
        """A finalized job never changes; it is whole, its result is committed, its tokens are gone."""
        for job in self.world.rows("SELECT * FROM jobs") if hasattr(self, "world") else ():
            placed, ended = job["node_id"] is not None, job["finalized"] is not None
            assert placed == (job["scheduled"] is not None)
            assert (placed or ended) == (job["result_dataset_id"] is not None)
            times = [job[name] for name in ("created", "scheduled", "started", "exited", "finalized")]
            there = [each for each in times if each is not None]
            assert there == sorted(there)
            assert job["exited"] is None or job["started"] is not None
            if placed or ended:
                (result,) = self.world.rows(
                    "SELECT committed FROM datasets WHERE id = ?", job["result_dataset_id"]
                )
                assert (result["committed"] is not None) == ended
                tokens = self.world.rows("SELECT count(*) FROM tokens WHERE job_id = ?", job["id"])[0][0]
                assert tokens == (1 if placed and not ended else 0)
            if ended:
                assert job["started"] is None or job["exited"] is not None
                assert self.ended.setdefault(job["id"], dict(job)) == dict(job)

    @invariant()
    def who_waits_for_results_waits_for_somebody(self) -> None:
        """What is submitted waits for a task that goes on; what is beyond that has its results."""
        tasks = self.tasks() if hasattr(self, "world") else []
        by_name = {(row["experiment_id"], row["name"]): jobs[-1] for row, _, jobs in tasks}
        for row, _, jobs in tasks:
            mounts = load_task(row["spec"]).mounts
            parents = [by_name[row["experiment_id"], str(mount.result)] for mount in mounts]
            if jobs[-1]["status"] == Status.SUBMITTED:
                assert any(parent["finalized"] is None for parent in parents)
                assert all(
                    parent["finalized"] is None or parent["status"] == Status.SUCCEEDED for parent in parents
                )
            elif jobs[-1]["finalized"] is None:
                assert [mount.beaker for mount in mounts] == [
                    parent["result_dataset_id"] for parent in parents
                ]
                assert all(parent["status"] == Status.SUCCEEDED for parent in parents)

    @invariant()
    def a_workload_goes_on_as_long_as_one_of_its_jobs(self) -> None:
        """Then, it has failed with its first task, else it was canceled with one, else it has succeeded."""
        for row in self.world.rows(SELECT) if hasattr(self, "world") else ():
            rows = self.world.rows("SELECT status FROM tasks WHERE experiment_id = ?", row["id"])
            statuses = {each["status"] for each in rows}
            with self.world.database.read() as tx:
                live = live_jobs(tx, row["id"])
            status = COMBINED[row["rank"]]
            assert status in statuses
            assert bool(live) == (status not in FINAL)
            if status is Status.CANCELED:
                assert statuses <= {Status.CANCELED, Status.SUCCEEDED}
            elif status is Status.SUCCEEDED:
                assert statuses == {Status.SUCCEEDED}


Life.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestLife = Life.TestCase
