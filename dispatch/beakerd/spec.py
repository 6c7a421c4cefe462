"""Experiments as they are asked for: the JSON of a spec to typed values, and back.

Owns the spec's shape and the form in which a task is kept. :mod:`dispatch.beakerd.spec_reader` reads what is
sent; names of things (images, datasets, clusters) are resolved by ``store``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class ImageSource:
    """Exactly one of: a Beaker image by name or id, a reference of a registry or of the engine."""

    beaker: str | None = None
    docker: str | None = None


@dataclass(frozen=True)
class EnvVar:
    """A variable: a value, or the name of a secret of the workspace; with neither it is empty."""

    name: str
    value: str | None = None
    secret: str | None = None


@dataclass(frozen=True)
class DataMount:
    """Data at an absolute ``mount_path``; exactly one source. Datasets, results and secrets are read-only.

    ``result`` is the name of another task of the experiment, whose result is waited for; once it is there,
    ``beaker`` is its dataset.
    """

    mount_path: str
    sub_path: str | None = None
    beaker: str | None = None
    host_path: str | None = None
    weka: str | None = None
    result: str | None = None
    secret: str | None = None
    volume: str | None = None
    read_only: bool = True


@dataclass(frozen=True)
class Resources:
    """What a task needs at least. Sizes in bytes; cpus may be a fraction."""

    cpus: float = 0.0
    gpus: int = 0
    memory: int = 0
    shared_memory: int | None = None


@dataclass(frozen=True)
class TaskSpec:
    """One task. ``priority`` is a number of the API's JobPriority; times are in nanoseconds.

    ``command`` replaces the image's entrypoint, ``arguments`` its command; None leaves the image's own.
    """

    image: ImageSource
    name: str = ""
    command: tuple[str, ...] | None = None
    arguments: tuple[str, ...] | None = None
    env: tuple[EnvVar, ...] = ()
    mounts: tuple[DataMount, ...] = ()
    result_path: str | None = None
    resources: Resources = field(default_factory=Resources)
    clusters: tuple[str, ...] = ()
    hostnames: tuple[str, ...] = ()
    priority: int = 2
    preemptible: bool | None = None
    min_runtime: int = 0
    auto_resume: bool = True
    timeout: int | None = None
    host_networking: bool = False
    propagate_failure: bool = False
    propagate_preemption: bool = False


@dataclass(frozen=True)
class ExperimentSpec:
    """A whole experiment. ``allowed_retries`` is for each task."""

    tasks: tuple[TaskSpec, ...]
    description: str = ""
    budget: str | None = None
    groups: tuple[str, ...] = ()
    allowed_retries: int = 0


def dump_task(task: TaskSpec) -> str:
    """The text under which a task is kept in the database."""
    return json.dumps(asdict(task))


def load_task(text: str) -> TaskSpec:
    """The task that :func:`dump_task` made a text of."""
    kept = json.loads(text)
    kept["image"] = ImageSource(**kept["image"])
    kept["env"] = tuple(EnvVar(**each) for each in kept["env"])
    kept["mounts"] = tuple(DataMount(**each) for each in kept["mounts"])
    kept["resources"] = Resources(**kept["resources"])
    for name in ("clusters", "hostnames"):
        kept[name] = tuple(kept[name])
    for name in ("command", "arguments"):
        kept[name] = None if kept[name] is None else tuple(kept[name])
    return TaskSpec(**kept)
