"""What an experiment is to run, as our value, and the form in which Beaker takes it.

Owns the words of Beaker's specification. An experiment of ours has one task, is never retried by Beaker (the
dispatcher alone retries), and is resumed by it only where it is said so.
"""

from __future__ import annotations

from dispatch._beaker import _quiet  # noqa: F401  # isort: skip

from collections.abc import Mapping
from dataclasses import dataclass, field

from beaker import (
    BeakerConstraints,
    BeakerDataMount,
    BeakerDataSource,
    BeakerEnvVar,
    BeakerExperimentSpec,
    BeakerImageSource,
    BeakerJobPriority,
    BeakerResultSpec,
    BeakerTaskContext,
    BeakerTaskResources,
    BeakerTaskSpec,
)

from dispatch._beaker.problems import BeakerError
from dispatch.environment import BeakerId, RegistryDigest

# What Beaker itself makes of a task that says in the old form that it is not to be preempted.
PROTECTED = 8 * 3600.0
_NANO = 1_000_000_000


@dataclass(frozen=True)
class DatasetMount:
    """A dataset, or what is at ``subpath`` in it (a directory or a file), read-only at ``target``."""

    dataset: str
    target: str
    subpath: str = ""


@dataclass(frozen=True)
class HostMount:
    """A path of the machine on which the job runs, at ``target``; jobs may write to it."""

    path: str
    target: str


@dataclass(frozen=True)
class WekaMount:
    """A bucket, or what is at ``subpath`` in it, at ``target``; jobs may write to it."""

    bucket: str
    target: str
    subpath: str = ""


@dataclass(frozen=True)
class SecretMount:
    """A secret of the workspace as the file ``target``."""

    secret: str
    target: str


TaskMount = DatasetMount | HostMount | WekaMount | SecretMount


@dataclass(frozen=True)
class TaskSpec:
    """One task. Whatever is None, empty or 0 is left to Beaker.

    ``image`` is an image of Beaker, or a reference of a registry. ``command`` replaces the image's own.
    ``secret_env`` names a secret of the workspace for each variable. What is below ``result_path`` in the end
    becomes the job's result. Sizes are in bytes, times in seconds. ``preemptible`` is true for a job that may
    be ended for another one once it ran for ``min_runtime``; with ``auto_resume`` Beaker starts it anew after
    that.
    """

    image: BeakerId | RegistryDigest | str
    command: tuple[str, ...]
    name: str = "main"
    description: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    secret_env: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[TaskMount, ...] = ()
    result_path: str = ""
    cpus: float | None = None
    memory: int | None = None
    shared_memory: int | None = None
    gpus: int = 0
    clusters: tuple[str, ...] = ()
    priority: str = ""
    preemptible: bool | None = None
    min_runtime: float | None = None
    auto_resume: bool = False
    time_limit: float | None = None
    budget: str = ""

    def for_beaker(self) -> BeakerExperimentSpec:
        """Return the experiment in beaker-py's form. BeakerError for a priority that there is none of."""
        task = BeakerTaskSpec(
            name=self.name,
            image=self._image(),
            command=list(self.command) or None,
            env_vars=self._variables() or None,
            datasets=[_mount(each) for each in self.mounts] or None,
            result=BeakerResultSpec(path=self.result_path) if self.result_path else None,
            resources=self._resources(),
            constraints=BeakerConstraints(cluster=list(self.clusters)) if self.clusters else None,
            context=self._context(),
        )
        # Given to its constructor, a number of seconds is taken for one of nanoseconds if it is a whole one.
        task.timeout = _nanoseconds(self.time_limit)
        return BeakerExperimentSpec(
            description=self.description or None, tasks=[task], budget=self.budget or None
        )

    def _image(self) -> BeakerImageSource:
        if isinstance(self.image, BeakerId):
            return BeakerImageSource(beaker=self.image.id)
        if isinstance(self.image, RegistryDigest):
            return BeakerImageSource(docker=self.image.reference)
        return BeakerImageSource(docker=self.image)

    def _variables(self) -> list[BeakerEnvVar]:
        plain = [BeakerEnvVar(name=name, value=value) for name, value in self.env.items()]
        return plain + [BeakerEnvVar(name=name, secret=secret) for name, secret in self.secret_env.items()]

    def _resources(self) -> BeakerTaskResources:
        return BeakerTaskResources(
            cpu_count=self.cpus,
            gpu_count=self.gpus or None,
            memory=_size(self.memory),
            shared_memory=_size(self.shared_memory),
        )

    def _context(self) -> BeakerTaskContext:
        """The old word ``preemptible`` cannot be told together with whether the task is resumed."""
        protected = self.min_runtime
        if self.preemptible is False and protected is None:
            protected = PROTECTED if self.time_limit is None else min(PROTECTED, self.time_limit)
        priority = None
        if self.priority:
            priority = BeakerJobPriority.__members__.get(self.priority)
            if priority is None:
                known = ", ".join(BeakerJobPriority.__members__)
                raise BeakerError(f"priority {self.priority!r}: there is none", f"use one of {known}")
        context = BeakerTaskContext(priority=priority, auto_resume=self.auto_resume)
        context.min_runtime = _nanoseconds(protected)
        return context


def _mount(mount: TaskMount) -> BeakerDataMount:
    if isinstance(mount, SecretMount):
        return BeakerDataMount(source=BeakerDataSource(secret=mount.secret), mount_path=mount.target)
    if isinstance(mount, HostMount):
        return BeakerDataMount(source=BeakerDataSource(host_path=mount.path), mount_path=mount.target)
    if isinstance(mount, WekaMount):
        source = BeakerDataSource(weka=mount.bucket)
    else:
        source = BeakerDataSource(beaker=mount.dataset)
    return BeakerDataMount(source=source, mount_path=mount.target, sub_path=mount.subpath or None)


def _size(size: int | None) -> str | None:
    """In KiB, which all of Beaker's readers know; a rest of one is rounded up."""
    return None if size is None else f"{-(-size // 1024)}KiB"


def _nanoseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * _NANO)
