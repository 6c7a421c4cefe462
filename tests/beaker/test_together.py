"""Tasks of one experiment in real containers: results that are handed on, failures that are shared."""

from __future__ import annotations

import time
from typing import Any

import pytest
from beaker import BeakerCancelationCode, BeakerExperimentSpec, BeakerTaskSpec, BeakerWorkloadStatus

from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.busybox import REFERENCE

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("busybox_image")]

LIMIT = 120.0


def task(name: str, shell: str, **more: Any) -> BeakerTaskSpec:
    """A task of busybox' shell."""
    return BeakerTaskSpec.new(
        name, docker_image=REFERENCE, result_path="/results", command=["/bin/sh", "-c", shell], **more
    )


def create(client: Any, *tasks: BeakerTaskSpec) -> Any:
    """Make an experiment."""
    return client.experiment.create(spec=BeakerExperimentSpec(tasks=list(tasks)))


def last(client: Any, workload: Any, place: int) -> Any:
    """The last job of a task."""
    return client.workload.get_latest_job(workload, task=workload.experiment.tasks[place])


def ended(client: Any, workload: Any) -> Any:
    """The workload, once it has ended."""
    given_up = time.monotonic() + LIMIT
    while True:
        got = client.workload.get(workload.experiment.id)
        if got.status in (
            BeakerWorkloadStatus.succeeded,
            BeakerWorkloadStatus.failed,
            BeakerWorkloadStatus.canceled,
        ):
            return got
        assert time.monotonic() < given_up, got
        time.sleep(0.05)


def test_a_result_is_handed_on(beaker: LocalBeaker) -> None:
    """The second task finds what the first one wrote, in its own container."""
    with beaker.client() as client:
        use = task("use", "cat /in/deep/a > /results/b && cat /only/a >> /results/b")
        use = use.with_dataset("/in", result="make").with_dataset("/only", result="make", sub_path="deep")
        made = create(client, use, task("make", "mkdir /results/deep && echo 42 > /results/deep/a"))
        assert ended(client, made).status == BeakerWorkloadStatus.succeeded
        dataset = last(client, made, 0).assignment_details.result_dataset_id
        path = beaker.layout.files(dataset) / "b"
        assert path.read_bytes() == b"42\n42\n"


def test_a_failure_stops_what_runs_and_what_waits(beaker: LocalBeaker) -> None:
    """With propagateFailure: the other's container is stopped long before its end."""
    with beaker.client() as client:
        waits = task("waits", "true").with_dataset("/in", result="fails")
        made = create(
            client,
            task("fails", "sleep 1; exit 7", propagate_failure=True),
            task("runs", "sleep 3600"),
            waits,
        )
        assert ended(client, made).status == BeakerWorkloadStatus.failed
        jobs = [last(client, made, place) for place in range(3)]
        assert jobs[0].status.exit_code == 7
        assert [job.status.canceled_code for job in jobs[1:]] == [
            BeakerCancelationCode.sibling_task_failed,
            BeakerCancelationCode.sibling_task_failed,
        ]
        assert [job.status.HasField("exited") for job in jobs] == [True, True, False]


def test_what_is_canceled_ends_and_can_be_begun_again(beaker: LocalBeaker) -> None:
    """The container is stopped; a restart of the same experiment runs it anew."""
    with beaker.client() as client:
        made = create(client, task("main", "echo here > /results/x; sleep 3600"))
        jobs = []
        for _ in range(2):
            given_up = time.monotonic() + LIMIT
            while client.workload.get(made.experiment.id).status != BeakerWorkloadStatus.running:
                assert time.monotonic() < given_up
                time.sleep(0.05)
            client.workload.cancel(made)
            assert ended(client, made).status == BeakerWorkloadStatus.canceled
            jobs.append(last(client, made, 0))
            assert client.workload.restart_tasks(made).status == BeakerWorkloadStatus.queued
        client.workload.cancel(made)
        ended(client, made)
        assert jobs[0].id != jobs[1].id
        for job in jobs:
            assert job.status.canceled_code == BeakerCancelationCode.manual
            assert job.status.exit_code != 0
            assert (job.status.exited.ToDatetime() - job.status.started.ToDatetime()).total_seconds() < LIMIT
