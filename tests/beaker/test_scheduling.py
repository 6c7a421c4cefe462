"""Scheduling over a real database, with a runner whose jobs begin and end when the test says so."""

from __future__ import annotations

import os
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dispatch.beakerd.backend import Backend
from dispatch.beakerd.config import Assumptions, ClusterConfig, Config, NodeConfig
from dispatch.beakerd.schedule.loop import Scheduler
from dispatch.beakerd.spec import ImageSource, Resources, TaskSpec, dump_task
from dispatch.beakerd.store.lifecycle import Code, NewJob, Status
from dispatch.beakerd.supervisor import Supervisor
from dispatch.testing.beaker_runner import FakeRunner, bare_backend

LIMIT = 60.0
STRESS = float(os.environ.get("DISPATCH_STRESS", "1.0"))
LOW, NORMAL, HIGH = 1, 2, 3
SECOND = 1_000_000_000


@dataclass
class Site:
    """A server, and whoever looks after its jobs."""

    backend: Backend
    runner: FakeRunner
    supervisor: Supervisor

    def submit(self, priority: int = NORMAL, retries: int = 0, **task: Any) -> str:
        """Make an experiment of one task, and return its job."""
        backend = self.backend
        experiment, task_id, now = backend.ids.new(), backend.ids.new(), backend.clock.now()
        spec = TaskSpec(ImageSource(docker="nothing"), priority=priority, **task)
        with backend.database.write() as tx:
            workspace, author = tx.execute("SELECT w.id, u.id FROM workspaces w, users u LIMIT 1").fetchone()
            tx.execute(
                "INSERT INTO experiments (id, author_id, workspace_id, spec, created, allowed_retries)"
                " VALUES (?, ?, ?, '{}', ?, ?)",
                (experiment, author, workspace, now, retries),
            )
            tx.execute(
                "INSERT INTO tasks (id, experiment_id, position, spec, status, created)"
                " VALUES (?, ?, 0, ?, 1, ?)",
                (task_id, experiment, dump_task(spec), now),
            )
            job = backend.lifecycle.queue(tx, NewJob(task_id, experiment, workspace, author, "", priority))
        backend.jobs.changed()
        return job

    def row(self, job: str) -> Mapping[str, Any]:
        """A job as it is written down."""
        with self.backend.database.read() as tx:
            return dict(tx.execute("SELECT * FROM jobs WHERE id = ?", (job,)).fetchone())

    def events(self, job: str) -> list[tuple[str, str]]:
        """What was said of a job."""
        with self.backend.database.read() as tx:
            rows = tx.execute(
                "SELECT status, message FROM job_events WHERE job_id = ? ORDER BY id", (job,)
            ).fetchall()
        return [(row["status"], row["message"]) for row in rows]

    def waits(self, job: str, reason: str) -> None:
        """Wait until a job was told why it waits."""
        until(lambda: self.row(job)["waiting_for"] == reason)

    def runs(self, *jobs: str) -> None:
        """Wait until these run, and no others."""
        until(lambda: sorted(self.runner.running) == sorted(jobs))

    def change(self, statement: str, *values: Any) -> None:
        """Change nodes as an administrator would."""
        with self.backend.database.write() as tx:
            tx.execute(statement, values)
        self.backend.jobs.changed()


def until(fact: Callable[[], bool]) -> None:
    """Wait for something that must come."""
    given_up = time.monotonic() + LIMIT
    while not fact():
        assert time.monotonic() < given_up, "it never came"
        time.sleep(0.005)


@dataclass
class Sites:
    """Makes sites, and ends them."""

    root: Path
    made: list[Site] = field(default_factory=list)
    backends: list[Backend] = field(default_factory=list)

    def __call__(self, config: Config | None = None, **options: Any) -> Site:
        """Schedule for a node of two slots, if it is not told otherwise; options are the runner's."""
        backend = self.backend(config or of(NodeConfig("local-1", slots=2)))
        runner = FakeRunner(backend, **options)
        site = Site(backend, runner, Supervisor(backend, runner))
        self.made.append(site)
        site.supervisor.open()
        return site

    def backend(self, config: Config, wall: Callable[[], int] = time.time_ns) -> Backend:
        """The parts of a server."""
        made = bare_backend(self.root / str(len(self.backends)), config, wall)
        self.backends.append(made)
        return made

    def close(self) -> None:
        """End them all."""
        for site in self.made:
            site.supervisor.close()
        for backend in self.backends:
            backend.database.close()


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Sites]:
    """Makes sites for one test."""
    made = Sites(tmp_path)
    yield made
    made.close()


def of(*nodes: NodeConfig, **assumed: Any) -> Config:
    """A configuration of one cluster."""
    return Config(clusters=(ClusterConfig("ai2/one", nodes),), assume=Assumptions(**assumed))


def test_slots_are_filled_in_order_and_filled_again(sites: Sites) -> None:
    """Two run, the others wait in the order in which they came; the end of one is the start of the next."""
    site = sites()
    jobs = [site.submit() for _ in range(4)]
    site.runs(*jobs[:2])
    site.runner.end(jobs[1])
    site.runs(jobs[0], jobs[2])
    site.waits(jobs[3], "waits for a slot (0 of 2 free) on local-1")
    site.runner.end(jobs[0])
    site.runs(jobs[2], jobs[3])
    row = site.row(jobs[3])
    assert (row["status"], row["waiting_for"]) == (Status.RUNNING, None)
    assert row["result_dataset_id"] is not None


def test_a_job_is_assigned_at_once(sites: Sites) -> None:
    """From its submission to its start there are milliseconds."""
    site = sites()
    took = []
    for _ in range(30):
        begun = time.perf_counter()
        job = site.submit()
        while job not in site.runner.running:
            time.sleep(0.0005)
        took.append(time.perf_counter() - begun)
        site.runner.end(job)
    assert statistics.median(took) < 0.1, took


def test_gpus_are_assigned_by_id(sites: Sites) -> None:
    """What is simulated is placed, too; the ids are written down, and given again after the end."""
    site = sites(of(NodeConfig("gpus", cpus=8, gpus=4)))
    first, second = (site.submit(resources=Resources(gpus=gpus)) for gpus in (3, 1))
    site.runs(first, second)
    assert [site.row(job)["gpus"] for job in (first, second)] == ['["0", "1", "2"]', '["3"]']
    third = site.submit(resources=Resources(gpus=2))
    site.waits(third, "waits for 2 GPUs (0 of 4 free) on gpus")
    site.runner.end(first)
    site.runs(second, third)
    assert site.row(third)["gpus"] == '["0", "1"]'


def test_a_job_of_higher_priority_preempts_and_the_victim_is_resumed_first(sites: Sites) -> None:
    """Its successor is a new job of the same task, and goes before those that came after it."""
    site = sites(of(NodeConfig("local-1", slots=1)))
    victim = site.submit(LOW)
    site.runs(victim)
    later = site.submit(LOW)
    urgent = site.submit(HIGH)
    site.runs(urgent)
    row = site.row(victim)
    assert (row["status"], row["canceled_code"]) == (Status.CANCELED, Code.SYSTEM_PREEMPTION)
    site.runner.end(urgent)
    until(lambda: len(site.runner.running) == 1 and site.runner.running != [urgent])
    (resumed,) = site.runner.running
    assert resumed not in (victim, later)
    assert site.row(resumed)["task_id"] == row["task_id"]
    assert site.row(resumed)["result_dataset_id"] != row["result_dataset_id"]


def test_a_victim_that_takes_its_time_is_stopped_once_and_its_place_is_kept(sites: Sites) -> None:
    """As long as it has not ended nobody else is stopped, and nobody else gets its place."""
    site = sites(of(NodeConfig("local-1", slots=2)), obedient=False)
    running = [site.submit(LOW), site.submit(LOW)]
    site.runs(*running)
    urgent, other = site.submit(HIGH), site.submit(LOW)
    until(lambda: bool(site.runner.stopped))
    for _ in range(20):
        site.backend.jobs.changed()
        time.sleep(0.01)
    assert site.runner.stopped == [running[1]]
    site.waits(urgent, "waits for a job to stop on local-1")
    assert ("stopping", "preempted by a job of higher priority") in site.events(running[1])
    site.runner.end(running[1], 143)
    site.runs(running[0], urgent)
    assert site.row(other)["status"] == Status.QUEUED


def test_a_job_that_has_exited_holds_its_place_and_is_nobodys_victim(sites: Sites) -> None:
    """Until its results are kept and it is finalized; who is ahead waits for that, and preempts no other."""
    site = sites()
    exited, other = site.submit(LOW), site.submit(LOW)
    site.runs(exited, other)
    with site.backend.database.write() as tx:
        site.backend.lifecycle.exit(tx, exited, site.backend.clock.now(), 0)
    urgent = site.submit(HIGH)
    site.waits(urgent, "waits for a job to stop on local-1")
    assert site.runner.stopped == []
    site.runner.end(exited)
    site.runs(other, urgent)
    assert site.row(exited)["status"] == Status.SUCCEEDED


def test_a_minimum_run_time_is_kept_to_the_moment_though_the_clock_is_set_back(sites: Sites) -> None:
    """Nothing changes meanwhile: the loop wakes by itself, and what the clock loses counts for nothing."""
    offset = [0]
    config = of(NodeConfig("local-1", slots=1))
    backend = sites.backend(config, wall=lambda: time.time_ns() + offset[0])
    runner = FakeRunner(backend)
    site = Site(backend, runner, Supervisor(backend, runner))
    site.supervisor.open()
    try:
        shielded = site.submit(LOW, min_runtime=2 * SECOND)
        site.runs(shielded)
        begun = time.monotonic()
        offset[0] = -3600 * SECOND
        urgent = site.submit(HIGH)
        site.waits(urgent, "waits for a slot (0 of 1 free) on local-1")
        site.runs(urgent)
        assert 1.8 < time.monotonic() - begun < 30
    finally:
        site.supervisor.close()


def test_a_job_that_says_nothing_is_preempted_or_not_by_the_switch(sites: Sites) -> None:
    """With ``preempt_unasked`` off only those are that say so, or have a minimum run time."""
    site = sites(of(NodeConfig("local-1", slots=1), preempt_unasked=False))
    silent = site.submit(LOW)
    site.runs(silent)
    urgent = site.submit(HIGH)
    site.waits(urgent, "waits for a slot (0 of 1 free) on local-1")
    site.runner.end(silent)
    site.runs(urgent)
    site.runner.end(urgent)
    willing = site.submit(LOW, preemptible=True)
    site.runs(willing)
    urgent = site.submit(HIGH)
    site.runs(urgent)


def test_a_cordoned_node_gets_nothing_and_what_runs_there_goes_on(sites: Sites) -> None:
    """The job is told why it waits, once; the end of the cordon is its beginning."""
    site = sites()
    running = site.submit()
    site.runs(running)
    site.change("UPDATE nodes SET cordoned = 1, cordon_reason = 'new fans'")
    waiting = site.submit()
    site.waits(waiting, "waits for a node: local-1 is cordoned (new fans)")
    for _ in range(5):
        site.backend.jobs.changed()
        time.sleep(0.02)
    assert [status for status, _ in site.events(waiting)] == ["queued", "waiting"]
    assert site.runner.running == [running]
    site.change("UPDATE nodes SET cordoned = NULL")
    site.runs(running, waiting)


def test_a_job_that_can_never_run_is_told_so_and_holds_up_nobody(sites: Sites) -> None:
    """It stays queued, since a larger node may be declared; those behind it run."""
    site = sites()
    never = site.submit(HIGH, resources=Resources(gpus=8))
    other = site.submit()
    site.runs(other)
    site.waits(never, "can never run: asks 8 GPUs, local-1 has no GPUs")
    assert site.row(never)["status"] == Status.QUEUED


def test_what_cannot_be_planned_is_said_and_tried_again(sites: Sites) -> None:
    """A pass that fails takes nothing with it: when its cause is gone, scheduling goes on by itself."""
    site = sites()
    site.supervisor.close()
    job = site.submit()
    with site.backend.database.write() as tx:
        whole = tx.execute("SELECT spec FROM tasks").fetchone()[0]
        tx.execute("UPDATE tasks SET spec = 'rubbish'")
    site.supervisor = Supervisor(site.backend, site.runner)
    lines: list[str] = []
    site.backend.say = lines.append
    site.supervisor.open()
    until(lambda: bool(lines))
    assert "scheduling failed, and is tried again" in lines[0]
    with site.backend.database.write() as tx:
        tx.execute("UPDATE tasks SET spec = ?", (whole,))
    site.runs(job)
    site.supervisor.close()


def test_a_start_that_fails_does_not_keep_others_from_theirs(sites: Sites) -> None:
    """It is said, and the next is started all the same."""
    backend = sites.backend(of(NodeConfig("local-1", slots=2)))
    lines: list[str] = []
    backend.say = lines.append
    asked: list[str] = []

    def start(job: str) -> None:
        asked.append(job)
        if len(asked) == 1:
            raise OSError("no more threads")

    runner = FakeRunner(backend)
    site = Site(backend, runner, Supervisor(backend, runner))
    jobs = [site.submit(), site.submit()]
    Scheduler(backend, start, asked.append).pass_once()
    assert asked == jobs
    assert "no more threads" in lines[0]


def test_at_rest_it_does_nothing(sites: Sites) -> None:
    """With full nodes and a queue, and nothing that changes, no plan is made; many changes are few plans."""
    backend = sites.backend(of(NodeConfig("local-1", slots=1)))
    runner, looks = FakeRunner(backend), [0]

    def monotonic() -> int:
        looks[0] += 1
        return time.monotonic_ns()

    scheduler = Scheduler(backend, runner.start, runner.stop, monotonic)
    thread = threading.Thread(target=scheduler.run, daemon=True)
    thread.start()
    site = Site(backend, runner, Supervisor(backend, runner))
    jobs = [site.submit() for _ in range(3)]
    scheduler.changed()
    site.waits(jobs[2], "waits for a slot (0 of 1 free) on local-1; 1 is ahead of it")
    time.sleep(0.3)
    before = looks[0]
    time.sleep(1.0)
    assert looks[0] == before
    for _ in range(10_000):
        scheduler.changed()
    time.sleep(0.3)
    assert 0 < looks[0] - before < 4_000
    scheduler.close()
    thread.join(LIMIT)
    assert not thread.is_alive()


def test_the_next_server_adopts_before_it_schedules(sites: Sites) -> None:
    """What was assigned is not assigned again, and holds its place."""
    site = sites(of(NodeConfig("local-1", slots=1)))
    running, waiting = site.submit(), site.submit()
    site.runs(running)
    site.supervisor.close()
    assert site.runner.closed
    later = FakeRunner(site.backend)
    supervisor = Supervisor(site.backend, later)
    supervisor.open()
    until(lambda: later.running == [running])
    site.backend.jobs.changed()
    time.sleep(0.2)
    assert later.running == [running]
    later.end(running)
    until(lambda: later.running == [waiting])
    supervisor.close()


def test_a_long_queue_leaves_no_slot_idle_and_no_flood_of_events(sites: Sites) -> None:
    """Hundreds of jobs that do nothing, on two slots: each runs once, and the events stay few."""
    count = max(60, int(500 * STRESS))
    site = sites()
    idle: list[float] = []
    ended: set[str] = set()
    freed = time.monotonic()
    jobs = [site.submit() for _ in range(count)]
    given_up = time.monotonic() + 3 * LIMIT
    while len(ended) < count:
        assert time.monotonic() < given_up, len(ended)
        for job in list(site.runner.running):
            idle.append(time.monotonic() - freed)
            assert job not in ended
            ended.add(job)
            site.runner.end(job)
            freed = time.monotonic()
        time.sleep(0.001)
    assert ended == set(jobs)
    with site.backend.database.read() as tx:
        told = tx.execute("SELECT count(*) FROM job_events WHERE status = 'waiting'").fetchone()[0]
    assert told < 20 * count
    assert statistics.median(idle) < 0.3, sorted(idle)[-10:]


def test_whatever_happens_meanwhile_no_node_holds_more_than_it_has(sites: Sites) -> None:
    """Jobs come, end and are canceled, nodes are cordoned and opened, all at once: slots and GPUs hold."""
    site = sites(of(NodeConfig("a", cpus=4, gpus=2, slots=3), NodeConfig("b", cpus=4, gpus=4, slots=2)))
    chance, over = random.Random(11), threading.Event()
    trouble: list[BaseException] = []

    def again(act: Callable[[random.Random], None], seed: int) -> threading.Thread:
        def loop() -> None:
            mine = random.Random(seed)
            try:
                while not over.is_set():
                    act(mine)
                    time.sleep(0.002)
            except BaseException as error:
                trouble.append(error)

        thread = threading.Thread(target=loop)
        thread.start()
        return thread

    def come(mine: random.Random) -> None:
        site.submit(mine.randint(1, 4), resources=Resources(gpus=mine.randint(0, 2)))
        time.sleep(0.01)

    def end(_mine: random.Random) -> None:
        for job in site.runner.running[:1]:
            site.runner.end(job)

    def cancel(mine: random.Random) -> None:
        with site.backend.database.write() as tx:
            rows = tx.execute("SELECT id FROM jobs WHERE finalized IS NULL AND node_id IS NULL").fetchall()
            if rows:
                job = mine.choice(rows)["id"]
                site.backend.lifecycle.stop(tx, job, Code.MANUAL, "no longer wanted")
        time.sleep(0.02)

    def cordon(mine: random.Random) -> None:
        node = mine.choice(["a", "b"])
        site.change("UPDATE nodes SET cordoned = iif(cordoned IS NULL, 1, NULL) WHERE hostname = ?", node)
        time.sleep(0.03)

    acts = (come, come, end, cancel, cordon)
    threads = [again(act, chance.randint(0, 99)) for act in acts]
    seen = set()
    until_then = time.monotonic() + max(1.0, 6 * STRESS)
    while time.monotonic() < until_then:
        with site.backend.database.read() as tx:
            rows = tx.execute(
                "SELECT j.id, j.gpus, n.hostname, n.slots, n.gpus AS has FROM jobs j"
                " JOIN nodes n ON n.id = j.node_id WHERE j.finalized IS NULL"
            ).fetchall()
        for name in ("a", "b"):
            there = [row for row in rows if row["hostname"] == name]
            given = [gpu for row in there for gpu in row["gpus"].strip("[]").split(", ") if gpu]
            assert len(there) <= (3 if name == "a" else 2)
            assert len(given) == len(set(given)) <= (2 if name == "a" else 4)
        seen |= {row["id"] for row in rows}
    over.set()
    for thread in threads:
        thread.join(LIMIT)
    assert not trouble
    assert len(seen) > 5
