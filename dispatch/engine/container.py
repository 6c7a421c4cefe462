"""A job as a container: labels, mounts and limits.

Owns which labels our containers carry, and what they mean. Decides, and does nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dispatch._docker.containers import Bind, ContainerSpec
from dispatch.engine import delivery
from dispatch.engine.base import ATTEMPT_LABEL, RUN_LABEL, STEP_LABEL, Holding, JobSpec, Mount, Resources
from dispatch.environment import ImageRef, LocalId, RegistryDigest
from dispatch.errors import EngineError
from dispatch.location import HostPath, SharedPath

KEY_LABEL = "dispatch.key"
DIRECTORY_LABEL = "dispatch.directory"
GPUS_LABEL = "dispatch.gpus"
CPUS_LABEL = "dispatch.cpus"
MEMORY_LABEL = "dispatch.memory"
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


def container_of(job: JobSpec, name: str, user: str, places: Sequence[Bind]) -> ContainerSpec:
    """Return the container that runs a job; ``places`` are mounted beside what the job itself names.

    :raises EngineError: for an image or a location that a local engine cannot use
    """
    resources = job.resources
    return ContainerSpec(
        image=_image(job.image),
        command=job.command,
        name=name,
        labels={
            RUN_LABEL: job.run,
            STEP_LABEL: job.step,
            ATTEMPT_LABEL: str(job.attempt),
            GPUS_LABEL: ",".join(resources.gpus),
            CPUS_LABEL: "" if resources.cpus is None else f"{resources.cpus:.9g}",
            MEMORY_LABEL: "" if resources.memory is None else str(resources.memory),
            KEY_LABEL: job.key,
            DIRECTORY_LABEL: str(job.attempt_dir),
        },
        env=job.env,
        user=user,
        working_dir=job.working_dir,
        binds=(*(_bind(mount) for mount in job.mounts), *places),
        network=job.network.value,
        memory=resources.memory,
        cpus=resources.cpus,
        shared_memory=resources.shared_memory,
        gpus=resources.gpus,
        tmpfs=delivery.memory_of(job.secrets, user),
        stdin=bool(job.secrets),
    )


def holding_of(labels: Mapping[str, str]) -> Holding:
    """Return what the labels of a container say that it holds.

    What cannot be read counts as nothing: another version may have written it.
    """
    cpus, memory = labels.get(CPUS_LABEL, ""), labels.get(MEMORY_LABEL, "")
    resources = Resources(
        cpus=float(cpus) if _NUMBER.fullmatch(cpus) else None,
        memory=int(memory) if memory.isascii() and memory.isdigit() else None,
        gpus=gpus_of(labels),
    )
    return Holding(labels.get(KEY_LABEL, ""), labels.get(DIRECTORY_LABEL, ""), resources)


def gpus_of(labels: Mapping[str, str]) -> tuple[str, ...]:
    """Return the ids of the GPUs that the labels of a container say it holds."""
    return tuple(each for each in labels.get(GPUS_LABEL, "").split(",") if each)


def _bind(mount: Mount) -> Bind:
    if not isinstance(mount.source, (HostPath, SharedPath)):
        raise EngineError(f"{mount.target}: a {type(mount.source).__name__} cannot be mounted by this engine")
    return Bind(str(mount.source.path), mount.target, mount.read_only)


def _image(image: ImageRef | None) -> str:
    if isinstance(image, LocalId):
        return image.id
    if isinstance(image, RegistryDigest):
        return image.reference
    if image is None:
        raise EngineError("a job without an image: this engine runs containers only")
    raise EngineError(f"image {image.id}: it is an image of Beaker, which this engine cannot run")
