"""The door to Beaker: the one place where beaker-py is imported.

What comes through it are our own values and errors. Every call has a deadline: beaker-py by itself waits for
ever for a server that does not answer. Refuses to know steps, workspaces and engines.
"""

from dispatch._beaker import _quiet  # noqa: F401
from dispatch._beaker.client import options_of
from dispatch._beaker.door import BeakerDoor
from dispatch._beaker.model import (
    Cluster,
    CreatedDataset,
    Dataset,
    DatasetFile,
    Experiment,
    Image,
    Job,
    JobState,
    LogLine,
    Node,
)
from dispatch._beaker.problems import (
    BeakerConflictError,
    BeakerDamagedError,
    BeakerDeniedError,
    BeakerError,
    BeakerNotFoundError,
    BeakerUnreachableError,
    BeakerUntrustedError,
)
from dispatch._beaker.spec import DatasetMount, HostMount, SecretMount, TaskMount, TaskSpec, WekaMount

__all__ = [
    "BeakerConflictError",
    "BeakerDamagedError",
    "BeakerDeniedError",
    "BeakerDoor",
    "BeakerError",
    "BeakerNotFoundError",
    "BeakerUnreachableError",
    "BeakerUntrustedError",
    "Cluster",
    "CreatedDataset",
    "Dataset",
    "DatasetFile",
    "DatasetMount",
    "Experiment",
    "HostMount",
    "Image",
    "Job",
    "JobState",
    "LogLine",
    "Node",
    "SecretMount",
    "TaskMount",
    "TaskSpec",
    "WekaMount",
    "options_of",
]
