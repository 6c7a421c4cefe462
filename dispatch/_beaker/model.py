"""What Beaker knows, as plain values. Times are seconds since the epoch, None for what has not happened."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Dataset:
    """A dataset. Its name is unique for its author, or in its workspace: servers differ."""

    id: str
    name: str
    author_id: str
    workspace_id: str
    description: str
    created: float
    committed: bool


@dataclass(frozen=True)
class CreatedDataset:
    """A dataset that we made and may write to until it is committed. ``storage`` is the door's own."""

    dataset: Dataset
    storage: Any


@dataclass(frozen=True)
class DatasetFile:
    """A file of a dataset: path, bytes, and SHA-256 in lowercase hex, empty where Beaker has none yet."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Experiment:
    """An experiment with one task. ``task_id`` is empty where it has none."""

    id: str
    name: str
    description: str
    author_id: str
    workspace_id: str
    task_id: str
    created: float
    canceled: bool


class JobState(enum.Enum):
    """How far a job is."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    ENDING = "ending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_end(self) -> bool:
        """Whether nothing comes after it."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED)


@dataclass(frozen=True)
class Job:
    """One job of an experiment's task. ``finalized`` is when its results and logs were complete.

    ``canceled_code`` is Beaker's number: 1 and 2 preempted, 4 by a person, 5 for its time limit, 0 none.
    ``retry_of`` is the id of the first job whose retry it is, or empty.
    """

    id: str
    task_id: str
    workload_id: str
    state: JobState
    created: float
    scheduled: float | None
    started: float | None
    exited: float | None
    finalized: float | None
    exit_code: int | None
    canceled_code: int
    message: str
    result_dataset: str
    node: str
    retry_of: str


@dataclass(frozen=True)
class LogLine:
    """A line of a job's log, without its newline; ``time`` is in nanoseconds and strictly increases."""

    time: int
    text: bytes


@dataclass(frozen=True)
class Image:
    """An image. ``docker`` is the tag or id that it was made from, as Beaker tells it."""

    id: str
    name: str
    author_id: str
    workspace_id: str
    description: str
    created: float
    committed: bool
    docker: str = ""


@dataclass(frozen=True)
class Node:
    """A machine of a cluster. ``gpu_type`` is Beaker's word (``NVIDIA_A100_80GB``), empty for none."""

    id: str
    hostname: str
    cpus: int
    memory: int
    gpus: int
    gpu_type: str
    cordoned: bool
    free_gpus: int | None = None


@dataclass(frozen=True)
class Cluster:
    """A cluster, by ``org/name``. Slots are GPUs, or, of a cluster without, what Beaker counts as one job.

    ``free_slots`` and ``queued`` are None where occupancy was not asked for.
    """

    id: str
    name: str
    aliases: tuple[str, ...]
    slots: int
    free_slots: int | None
    queued: int | None
    max_task_timeout: float | None
