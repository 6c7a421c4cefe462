"""From beaker-py's messages to our values."""

from __future__ import annotations

from dispatch._beaker import _quiet  # noqa: F401  # isort: skip

from dataclasses import fields
from typing import Any

from beaker import beaker_pb2 as pb2
from beaker._dataset import _DatasetStorage

from dispatch._beaker.calls import NO_BEAKER
from dispatch._beaker.model import Cluster, Dataset, DatasetFile, Experiment, Image, Job, JobState, Node
from dispatch._beaker.problems import BeakerError

_STORAGE = {each.name for each in fields(_DatasetStorage)}
_STATES: dict[int, JobState] = {
    pb2.WorkloadStatus.STATUS_SUBMITTED: JobState.QUEUED,
    pb2.WorkloadStatus.STATUS_QUEUED: JobState.QUEUED,
    pb2.WorkloadStatus.STATUS_INITIALIZING: JobState.STARTING,
    pb2.WorkloadStatus.STATUS_READY_TO_START: JobState.STARTING,
    pb2.WorkloadStatus.STATUS_RUNNING: JobState.RUNNING,
    pb2.WorkloadStatus.STATUS_STOPPING: JobState.ENDING,
    pb2.WorkloadStatus.STATUS_UPLOADING_RESULTS: JobState.ENDING,
    pb2.WorkloadStatus.STATUS_SUCCEEDED: JobState.SUCCEEDED,
    pb2.WorkloadStatus.STATUS_FAILED: JobState.FAILED,
    pb2.WorkloadStatus.STATUS_CANCELED: JobState.CANCELED,
}


def made_id(what: str, made: Any) -> str:
    """The id of what was made, as REST tells it."""
    found = made.get("id") if isinstance(made, dict) else None
    if not isinstance(found, str) or not found:
        raise BeakerError(f"{what}: Beaker answers without an id", NO_BEAKER)
    return found


def storage_of(what: str, made: Any) -> _DatasetStorage:
    """How a dataset's files are written. What a later Beaker tells beyond what is known here is left out."""
    told: Any = made.get("storage") if isinstance(made, dict) else None
    try:
        return _DatasetStorage(**{name: value for name, value in told.items() if name in _STORAGE})
    except (AttributeError, TypeError) as error:
        raise BeakerError(f"{what}: Beaker does not say how it is written", NO_BEAKER) from error


def seconds(message: Any, field: str) -> float | None:
    """A time of a message, or None where it is not set."""
    if not message.HasField(field):
        return None
    stamp = getattr(message, field)
    return float(stamp.seconds + stamp.nanos / 1e9)


def state_of(status: int) -> JobState:
    """How far a job is; what we do not know is not its end."""
    return _STATES.get(status, JobState.QUEUED)


def dataset_of(raw: Any) -> Dataset:
    """Read a dataset."""
    return Dataset(
        raw.id,
        raw.name,
        raw.author_id,
        raw.workspace_id,
        raw.description,
        seconds(raw, "created") or 0.0,
        raw.HasField("committed"),
    )


def file_of(raw: Any) -> DatasetFile:
    """Read a file of a dataset."""
    known = (
        raw.HasField("digest") and raw.digest.algorithm == pb2.DatasetFile.AlgorithmType.ALGORITHM_TYPE_SHA256
    )
    return DatasetFile(raw.path, raw.size, raw.digest.value.hex() if known else "")


def experiment_of(raw: Any) -> Experiment:
    """Read the experiment of a workload."""
    experiment = raw.experiment
    return Experiment(
        experiment.id,
        experiment.name,
        experiment.description,
        experiment.author_id,
        experiment.workspace_id,
        experiment.tasks[0].id if experiment.tasks else "",
        seconds(experiment, "created") or 0.0,
        experiment.HasField("canceled"),
    )


def job_of(raw: Any) -> Job:
    """Read a job."""
    status, details = raw.status, raw.assignment_details
    return Job(
        id=raw.id,
        task_id=raw.task_id,
        workload_id=raw.workload_id,
        state=state_of(status.status),
        created=seconds(status, "created") or 0.0,
        scheduled=seconds(status, "scheduled"),
        started=seconds(status, "started"),
        exited=seconds(status, "exited"),
        finalized=seconds(status, "finalized"),
        exit_code=status.exit_code if status.HasField("exit_code") else None,
        canceled_code=int(status.canceled_code),
        message=status.message or status.canceled_for or status.failed_scheduling_message,
        result_dataset=details.result_dataset_id,
        node=details.node_id,
        retry_of=raw.retry_ancestor_id,
    )


def image_of(raw: Any) -> Image:
    """Read an image."""
    return Image(
        raw.id,
        raw.name,
        raw.author_id,
        raw.workspace_id,
        raw.description,
        seconds(raw, "created") or 0.0,
        raw.HasField("committed"),
        raw.docker_id or raw.docker_tag or raw.original_tag,
    )


def cluster_of(raw: Any) -> Cluster:
    """Read a cluster; what is occupied only if that was asked for."""
    told = raw.HasField("cluster_occupancy")
    counts = raw.cluster_occupancy.slot_counts
    limit = raw.max_task_timeout
    return Cluster(
        raw.id,
        f"{raw.organization_name}/{raw.name}",
        tuple(raw.aliases),
        counts.total,
        counts.available if told else None,
        raw.cluster_job_queue_size if told else None,
        limit.seconds + limit.nanos / 1e9 if raw.HasField("max_task_timeout") else None,
    )


def node_of(raw: Any, free: dict[str, int]) -> Node:
    """Read a node; ``free`` has free slots by node id, where they are known."""
    resources = raw.node_resources
    kind = pb2.GpuType.Name(resources.gpu_type).removeprefix("GPU_TYPE_") if resources.gpu_type else ""
    return Node(
        raw.id,
        raw.hostname,
        resources.cpu_count,
        resources.memory_bytes,
        len(resources.gpu_ids),
        kind if resources.gpu_ids else "",
        raw.HasField("cordon_details"),
        free.get(raw.id),
    )
