"""An experiment as its author sees it: everything that its tasks are given and leave, by the real client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from beaker import (
    BeakerDataMount,
    BeakerEnvVar,
    BeakerExperimentSpec,
    BeakerTaskSpec,
    BeakerWorkloadStatus,
)

from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.busybox import REFERENCE
from dispatch.testing.processes import until

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("busybox_image")]


def sh(name: str, command: str, **more: Any) -> Any:
    """A task of busybox' shell."""
    words = ["/bin/sh", "-c", command]
    return BeakerTaskSpec.new(name, docker_image=REFERENCE, result_path="/results", command=words, **more)


def end(client: Any, *tasks: Any) -> dict[str, Any]:
    """Run an experiment, and return the last job of each task."""
    workload = client.experiment.create(spec=BeakerExperimentSpec(tasks=list(tasks)))

    def ended() -> bool:
        jobs = [client.workload.get_latest_job(workload, task=task) for task in workload.experiment.tasks]
        return all(job is not None and job.status.HasField("finalized") for job in jobs)

    until(ended, "the experiment ends")
    return {
        task.name: client.workload.get_latest_job(workload, task=task) for task in workload.experiment.tasks
    }


def status(job: Any) -> BeakerWorkloadStatus:
    """A job's status."""
    return BeakerWorkloadStatus.from_any(job.status.status)


def files(client: Any, job: Any) -> dict[str, bytes]:
    """All files of a job's result, verified by the client."""
    dataset = client.job.get_results(job)
    return {
        file.path: b"".join(client.dataset.stream_file(dataset, file.path))
        for file in client.dataset.list_files(dataset)
    }


def lines(client: Any, job: Any) -> list[str]:
    """What a job printed."""
    return [entry.message.decode() for entry in client.job.logs(job)]


def test_all_that_a_task_is_given(beaker: LocalBeaker, tmp_path: Path) -> None:
    """Datasets whole and in part, secrets as variables and files, results of other tasks."""
    (tmp_path / "in" / "d").mkdir(parents=True)
    (tmp_path / "in" / "a").write_text("A\n")
    (tmp_path / "in" / "d" / "b").write_text("B\n")
    with beaker.client() as client:
        dataset = client.dataset.create("given", tmp_path / "in", commit=True)
        client.secret.write("key", "s3cr3t")
        first = sh("first", "echo from-first > /results/x")
        second = sh(
            "second",
            'cat /whole/a /part/b /one /result/x /key; echo " $KEY";'
            " echo '{\"loss\": 0.5}' > /results/metrics.json; cp /result/x /results/y",
            env_vars=[BeakerEnvVar(name="KEY", secret="key")],
            datasets=[
                BeakerDataMount.new("/whole", beaker=dataset.id),
                BeakerDataMount.new("/part", beaker="me/given", sub_path="d"),
                BeakerDataMount.new("/one", beaker="me/given", sub_path="d/b"),
                BeakerDataMount.new("/result", result="first"),
                BeakerDataMount.new("/key", secret="key"),
            ],
        )
        jobs = end(client, first, second)
        assert {name: status(job) for name, job in jobs.items()} == dict.fromkeys(
            ("first", "second"), BeakerWorkloadStatus.succeeded
        )
        assert lines(client, jobs["second"]) == ["A", "B", "B", "from-first", "s3cr3t s3cr3t"]
        assert files(client, jobs["first"]) == {"x": b"from-first\n"}
        assert files(client, jobs["second"]) == {"metrics.json": b'{"loss": 0.5}\n', "y": b"from-first\n"}
        assert dict(jobs["second"].metrics) == {"loss": 0.5}
        assert client.job.get_results(jobs["second"]).HasField("committed")


def test_a_task_that_fails(beaker: LocalBeaker) -> None:
    """Its exit code, log and result are there."""
    with beaker.client() as client:
        (job,) = end(client, sh("main", "echo why; echo x > /results/x; exit 7")).values()
        assert (status(job), job.status.exit_code) == (BeakerWorkloadStatus.failed, 7)
        assert lines(client, job) == ["why"]
        assert files(client, job) == {"x": b"x\n"}


def test_a_workload_that_is_canceled(beaker: LocalBeaker) -> None:
    """Its job hears of it, and may still leave something."""
    command = "trap 'echo bye > /results/x; exit 0' TERM; echo up; while :; do sleep 0.1; done"
    with beaker.client() as client:
        workload = client.experiment.create(spec=BeakerExperimentSpec(tasks=[sh("main", command)]))

        def job() -> Any:
            return client.workload.get_latest_job(workload)

        until(lambda: job() is not None and lines(client, job()) == ["up"], "the job is up")
        list(client.workload.cancel(workload))
        until(lambda: job().status.HasField("finalized"), "the job ends")
        assert status(job()) == BeakerWorkloadStatus.canceled
        assert files(client, job()) == {"x": b"bye\n"}
