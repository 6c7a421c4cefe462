"""The door to Beaker: the one place where beaker-py is imported.

What comes through it are our own values and errors. Every call has a deadline: beaker-py by itself waits for
ever for a server that does not answer. Refuses to know steps, workspaces and engines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from dispatch._beaker.client import options_of
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

# These load the vendor's library, which takes longer than many a command.
_LATE = {
    "DatasetMount": "spec",
    "HostMount": "spec",
    "SecretMount": "spec",
    "TaskMount": "spec",
    "TaskSpec": "spec",
    "WekaMount": "spec",
    "options_of": "client",
}


def __getattr__(name: str) -> Any:
    """Load a name when it is first used."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_LATE[name]}"), name)
