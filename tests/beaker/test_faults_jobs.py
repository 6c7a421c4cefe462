"""Faults that befall jobs, with real containers: preempted on demand, and nodes that are lost."""

from __future__ import annotations

import urllib.error
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from dispatch.beakerd.config import Assumptions, ClusterConfig, Config, NodeConfig
from dispatch.beakerd.store.lifecycle import Code, Status
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_faults import Faults
from dispatch.testing.beaker_runs import Jobs, task
from dispatch.testing.processes import until

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("busybox_image")]

ENDLESS = "echo part > /results/part; echo up; trap 'exit 0' TERM; while :; do sleep 0.1; done"


@dataclass
class Site:
    """A whole server, its jobs and its faults."""

    beaker: LocalBeaker
    jobs: Jobs
    faults: Faults

    def submit(self, shell: str, **more: object) -> str:
        """Queue a job as the API does."""
        job = self.jobs.queue(task(shell, **more))
        self.jobs.backend.jobs.changed()
        return job

    def up(self, shell: str = ENDLESS) -> str:
        """A job that runs until it is stopped, and has got so far."""
        job = self.submit(shell)
        self.jobs.until(job, lambda _: self.jobs.log(job) == [b"up"], 60)
        return job

    def latest(self, job: str) -> str:
        """The newest job of the same task."""
        with self.jobs.backend.database.read() as tx:
            row = tx.execute(
                "SELECT id FROM jobs WHERE task_id = (SELECT task_id FROM jobs WHERE id = ?)"
                " ORDER BY created DESC",
                (job,),
            ).fetchone()
        return str(row["id"])

    def close(self) -> None:
        """Leave no container."""
        self.faults.ask("POST", "stop-jobs")
        backend = self.jobs.backend

        def ended() -> bool:
            with backend.database.read() as tx:
                return tx.execute("SELECT 1 FROM jobs WHERE finalized IS NULL").fetchone() is None

        until(ended, "all jobs have ended")


@pytest.fixture
def site_of(beakers: Beakers) -> Iterator[Callable[..., Site]]:
    """Makes servers of two nodes with one slot each."""
    made: list[Site] = []

    def make(**assumed: bool) -> Site:
        nodes = (NodeConfig("a", slots=1), NodeConfig("b", slots=1, cordoned="spare"))
        assume = Assumptions(grace=1.0, **assumed)  # type: ignore[arg-type]
        beaker = beakers.start(
            Config(clusters=(ClusterConfig("ai2/two", nodes),), assume=assume, control=True)
        )
        assert beaker.server.backend is not None
        made.append(Site(beaker, Jobs(beaker.server.backend), Faults(beaker)))
        return made[-1]

    yield make
    for site in made:
        site.close()


def test_a_log_is_followed_over_dropped_connections(site_of: Callable[..., Site]) -> None:
    """The real client takes it up where it was cut, and no line is lost or comes twice."""
    site = site_of()
    fault = site.faults.add("rpc:StreamJobLogs", "drop", times=3, seconds=0.3)
    job = site.submit("i=0; while [ $i -lt 60 ]; do echo $i; i=$((i+1)); sleep 0.05; done")
    with site.beaker.client() as client:
        client.BACKOFF_FACTOR = 0.01
        lines = [line.message for line in client.job.logs(client.job.get(job), follow=True)]
    assert lines == [str(number).encode() for number in range(60)]
    assert site.faults.hits(fault) == 3


def test_a_job_is_preempted_on_demand(site_of: Callable[..., Site]) -> None:
    """It ends as a preempted one, its result is kept, and its successor runs."""
    site = site_of()
    job = site.up()
    site.faults.preempt(job)
    row = site.jobs.end(job)
    assert (row["status"], row["canceled_code"]) == (Status.CANCELED, Code.SYSTEM_PREEMPTION)
    assert site.jobs.result(job) == {"part": b"part\n"}
    resumed = site.latest(job)
    assert resumed != job
    site.jobs.running(resumed)


def test_what_does_not_run_cannot_be_preempted(site_of: Callable[..., Site]) -> None:
    """Neither a job that waits, nor one that has ended, nor one that is not there."""
    site = site_of()
    done = site.submit("true")
    site.jobs.end(done)
    site.up()
    waiting = site.submit("true")
    for job, code in ((done, 400), (waiting, 400), ("nobody", 404)):
        with pytest.raises(urllib.error.HTTPError) as caught:
            site.faults.preempt(job)
        assert caught.value.code == code
    assert site.jobs.row(waiting)["status"] == Status.QUEUED


def test_a_lost_node_takes_its_jobs_with_it_and_they_are_resumed(site_of: Callable[..., Site]) -> None:
    """Its job is killed without a grace; the successor waits, and runs when the node is there again."""
    site = site_of()
    job = site.up("echo up; trap '' TERM; while :; do sleep 0.1; done")
    assert site.faults.lose("a") == [job]
    row = site.jobs.end(job)
    assert (row["status"], row["canceled_code"]) == (Status.CANCELED, Code.NODE_UNAVAILABLE)
    assert row["exit_code"] == 137
    resumed = site.latest(job)
    assert resumed != job
    reason = "waits for a node: a is lost, b is cordoned (spare)"
    site.jobs.until(resumed, lambda row: row["waiting_for"] == reason, 60)
    site.faults.restore("a")
    site.jobs.running(resumed)


def test_with_the_switch_off_the_job_of_a_lost_node_fails(site_of: Callable[..., Site]) -> None:
    """And has no successor."""
    site = site_of(node_loss_resumes=False)
    job = site.up()
    site.faults.lose("a")
    row = site.jobs.end(job)
    assert (row["status"], row["canceled_code"]) == (Status.FAILED, None)
    assert row["message"] == "node a is lost"
    assert site.latest(job) == job


def test_a_node_that_is_not_there_is_not_lost(site_of: Callable[..., Site]) -> None:
    """By its id or its hostname."""
    site = site_of()
    with pytest.raises(urllib.error.HTTPError) as caught:
        site.faults.lose("c")
    assert caught.value.code == 404
    with site.jobs.backend.database.read() as tx:
        node = tx.execute("SELECT id FROM nodes WHERE hostname = 'a'").fetchone()["id"]
    assert site.faults.lose(node) == []
