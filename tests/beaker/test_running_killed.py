"""kill -9 of the server with 20 jobs running, at any moment, and then `up` again."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from dispatch._docker import Door
from dispatch.beakerd.joblog import LogReader
from dispatch.beakerd.runner.containers import OWNER_LABEL, owner_of
from dispatch.testing.beaker import BeakerProcess, Beakers
from dispatch.testing.busybox import REFERENCE
from dispatch.testing.processes import until

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("busybox_image")]

KILLS = max(3, int(50 * float(os.environ.get("DISPATCH_STRESS", "1.0"))))
JOBS = 20
LINES = 30
LIMIT = 120.0
CONFIG = """
clusters:
  - name: ai2/many
    nodes: [{{hostname: wide, cpus: 64, memory: 256GiB, slots: {jobs}}}]
host_paths: [{shared}]
"""
# That it ran once shows in a file that all its runs would write to.
COMMAND = (
    'echo ran >> "/shared/$BEAKER_TASK_ID"; i=0;'
    f" while [ $i -lt {LINES} ]; do i=$((i+1)); echo $i; sleep 0.1; done; echo done > /results/x"
)


def submit(client: Any, name: str, shared: Path) -> Any:
    """Create an experiment of many tasks."""
    from beaker import BeakerDataMount, BeakerExperimentSpec, BeakerTaskSpec

    tasks = [
        BeakerTaskSpec.new(
            f"task-{number}",
            cluster="ai2/many",
            docker_image=REFERENCE,
            result_path="/results",
            command=["/bin/sh", "-c", COMMAND],
            datasets=[BeakerDataMount.new("/shared", host_path=str(shared))],
        )
        for number in range(JOBS)
    ]
    return client.experiment.create(spec=BeakerExperimentSpec(tasks=tasks), name=name)


def jobs_of(server: BeakerProcess, workload: Any) -> list[Any]:
    """All jobs of all its tasks."""
    with server.client() as client:
        return [job for task in workload.experiment.tasks for job in client.job.list(task=task)]


def log_of(server: BeakerProcess, job: str) -> list[bytes]:
    """What a job printed."""
    reader = LogReader(server.layout.job_log(job))
    try:
        return [line for _, line in reader.read()]
    finally:
        reader.close()


def check(server: BeakerProcess, workload: Any, shared: Path) -> None:
    """One job a task, which ran once and was successful, and of which nothing is missing."""
    from beaker import BeakerWorkloadStatus

    jobs = jobs_of(server, workload)
    assert len(jobs) == JOBS
    for job in jobs:
        assert BeakerWorkloadStatus.from_any(job.status.status) == BeakerWorkloadStatus.succeeded, job
        assert job.status.exit_code == 0
        assert (shared / job.task_id).read_text() == "ran\n"
        assert log_of(server, job.id) == [b"%d" % number for number in range(1, LINES + 1)]
        result = server.layout.files(job.assignment_details.result_dataset_id)
        assert (result / "x").read_text() == "done\n"


def is_through(server: BeakerProcess, workload: Any) -> bool:
    """Whether all jobs are finalized."""
    jobs = jobs_of(server, workload)
    return len(jobs) >= JOBS and all(job.status.HasField("finalized") for job in jobs)


def test_killed_with_jobs_running(beakers: Beakers, tmp_path: Path, door: Door) -> None:
    """Whenever the server is killed, the next one goes on: containers are adopted, logs are whole, no job is
    lost or runs twice, and nothing is left."""
    shared = tmp_path / "shared"
    shared.mkdir()
    config = tmp_path / "beaker.yml"
    config.write_text(CONFIG.format(jobs=JOBS, shared=shared))
    chance = random.Random(5)
    kills = rounds = 0
    server = beakers.spawn(config)
    while kills < KILLS:
        rounds += 1
        with server.client() as client:
            workload = submit(client, f"round-{rounds}", shared)
        given_up = time.monotonic() + LIMIT
        while not is_through(server, workload):
            assert time.monotonic() < given_up, "the jobs end"
            time.sleep(chance.uniform(0.0, 1.5))
            server.kill()
            kills += 1
            server = beakers.spawn(config)
        check(server, workload, shared)
    owner = owner_of(server.layout.root)
    until(lambda: door.containers.labelled(OWNER_LABEL, owner) == [], "no container is left")
