"""Tasks of one experiment that share a fate, under the real scheduler, with a runner that runs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from dispatch.beakerd.backend import Backend
from dispatch.beakerd.config import ClusterConfig, Config, NodeConfig
from dispatch.beakerd.spec import DataMount, ExperimentSpec, ImageSource, TaskSpec
from dispatch.beakerd.store.states import Code, Status
from dispatch.beakerd.store.workloads import NewExperiment, Workloads
from dispatch.beakerd.supervisor import Supervisor
from dispatch.testing.beaker_runner import FakeRunner, bare_backend
from dispatch.testing.processes import until


@dataclass
class Site:
    """A server's parts."""

    backend: Backend
    runner: FakeRunner

    def submit(self, *tasks: TaskSpec) -> str:
        """Make an experiment."""
        backend = self.backend
        changes = Workloads(backend.clock, backend.ids, backend.lifecycle, backend.config.assume.names)
        with backend.database.write() as tx:
            workspace, author = tx.execute("SELECT w.id, u.id FROM workspaces w, users u LIMIT 1").fetchone()
            experiment = changes.create(
                tx, NewExperiment("", author, workspace, "{}", ExperimentSpec(tasks=tasks))
            )
        backend.jobs.changed()
        return experiment

    def jobs(self, experiment: str) -> list[tuple[str, Status, int | None]]:
        """The last job of each task."""
        with self.backend.database.read() as tx:
            rows = tx.execute(
                "SELECT j.id, j.status, j.canceled_code FROM jobs j JOIN tasks t ON t.id = j.task_id"
                " WHERE t.experiment_id = ? GROUP BY t.position HAVING j.created = max(j.created)",
                (experiment,),
            ).fetchall()
        return [(row["id"], Status(row["status"]), row["canceled_code"]) for row in rows]

    def statuses(self, experiment: str) -> list[Status]:
        """Their statuses."""
        return [status for _, status, _ in self.jobs(experiment)]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A node of four slots."""
    backend = bare_backend(
        tmp_path, Config(clusters=(ClusterConfig("ai2/one", (NodeConfig("n", slots=4),)),))
    )
    runner = FakeRunner(backend)
    supervisor = Supervisor(backend, runner)
    supervisor.open()
    yield Site(backend, runner)
    supervisor.close()
    backend.database.close()


def task(name: str, propagate_failure: bool = False, result: str | None = None) -> TaskSpec:
    """A task of nothing."""
    mounts = () if result is None else (DataMount("/in", result=result),)
    return TaskSpec(
        ImageSource(docker="nothing"), name=name, mounts=mounts, propagate_failure=propagate_failure
    )


def shows(site: Site, experiment: str, statuses: list[Status]) -> bool:
    """Whether the tasks have these statuses."""
    return site.statuses(experiment) == statuses


def test_a_failure_ends_its_siblings_where_it_is_to(site: Site) -> None:
    """Those that run are told to stop, once, although nobody asked for that; the workload has failed."""
    experiment = site.submit(task("a", propagate_failure=True), task("b"), task("c"), task("d", result="b"))
    running = [Status.RUNNING] * 3
    until(lambda: site.statuses(experiment) == [*running, Status.SUBMITTED], "three run")
    jobs = site.jobs(experiment)
    site.runner.end(jobs[0][0], 1)
    canceled = [(job, Status.CANCELED, Code.SIBLING_TASK_FAILED) for job, _, _ in jobs[1:]]
    until(lambda: site.jobs(experiment)[1:] == canceled, "the others end")
    assert sorted(site.runner.stopped) == sorted(job for job, _, _ in jobs[1:3])


def test_who_waits_for_a_result_runs_when_it_is_there(site: Site) -> None:
    """A chain of three, one after the other, although there is room for all."""
    experiment = site.submit(task("c", result="b"), task("b", result="a"), task("a"))
    waits, runs, done = Status.SUBMITTED, Status.RUNNING, Status.SUCCEEDED
    for statuses in ([waits, waits, runs], [waits, runs, done], [runs, done, done]):
        until(partial(shows, site, experiment, statuses), "the next one runs")
        (job,) = (job for job, status, _ in site.jobs(experiment) if status is runs)
        site.runner.end(job)
    until(lambda: site.statuses(experiment) == [done] * 3, "all have succeeded")
