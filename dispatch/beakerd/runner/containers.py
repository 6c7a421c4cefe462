"""A job as a container: what is asked of the engine.

Owns names, labels and the translation of resources: memory is a hard limit, cpus count where they are short,
GPUs are given by their ids if the engine has NVIDIA's runtime and the node's GPUs are not only declared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from dispatch._docker.archive import Item, pack
from dispatch._docker.containers import ContainerSpec, ContainerState, VolumeMount
from dispatch._docker.files import Files
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.runner.environment import HOST_GATEWAY, connection, mirror, variables
from dispatch.beakerd.runner.mounts import binds
from dispatch.beakerd.store.running import Job

OWNER_LABEL = "dispatch.beaker"
JOB_LABEL = "dispatch.beaker.job"
# Under which start of the engine the container was made.
ENGINE_LABEL = "dispatch.beaker.engine"
SHARED_MEMORY = 5 << 30
# The engine refuses less.
LEAST_MEMORY = 6 << 20
LEAST_SHARES = 2


def owner_of(root: Path) -> str:
    """What names the server with this state among others of the engine."""
    return hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]


def name_of(job: str) -> str:
    """The name of a job's container."""
    return f"beaker-{job.lower()}"


def simulates_gpus(job: Job, info: Mapping[str, Any]) -> bool:
    """Whether a job that asks for GPUs gets none that are real."""
    if not job.task.resources.gpus:
        return False
    return "nvidia" not in (info.get("Runtimes") or {}) or "GPU" in job.node.simulated


def container_of(backend: Backend, job: Job, image: str, simulated: bool) -> ContainerSpec:
    """Return the container to make, with everything laid down that is mounted into it.

    :raises JobFailure: when something that it needs is missing
    """
    task = job.task
    mounts = binds(backend, job)
    named = variables(backend, job, simulated)
    reached, place = connection(backend, job)
    mirrored, mirrors = mirror(backend)
    resources = task.resources
    volumes = () if task.result_path is None else (VolumeMount("", task.result_path, read_only=False),)
    return ContainerSpec(
        image=image,
        command=task.command or None,
        arguments=task.arguments,
        name=name_of(job.id),
        labels={
            OWNER_LABEL: owner_of(backend.layout.root),
            JOB_LABEL: job.id,
            ENGINE_LABEL: backend.door.bridge_stamp(),
        },
        env={**mirrored, **reached, **named},
        binds=(*mounts, *place, *mirrors),
        volumes=volumes,
        network="host" if task.host_networking else "bridge",
        memory=max(resources.memory, LEAST_MEMORY) if resources.memory else None,
        cpu_shares=max(round(resources.cpus * 1024), LEAST_SHARES) if resources.cpus else None,
        shared_memory=SHARED_MEMORY if resources.shared_memory is None else resources.shared_memory,
        gpus=job.gpus if resources.gpus and not simulated else (),
        extra_hosts=() if backend.addresses.bridge is None or task.host_networking else (HOST_GATEWAY,),
    )


def open_result(files: Files, job: Job, state: ContainerState) -> None:
    """Let the image's user write into the result of a container that is made: its volume is root's."""
    path = PurePosixPath(job.task.result_path or "/")
    if path.name and state.user.partition(":")[0] not in ("", "0", "root"):
        files.put(name_of(job.id), str(path.parent), pack([Item(path.name, mode=0o777)], 0, 0))
