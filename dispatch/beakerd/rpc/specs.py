"""A task's spec as the API's messages show it, of tasks and of jobs alike; and their times."""

from __future__ import annotations

from typing import Any

from beaker import beaker_pb2 as pb2

from dispatch.beakerd.spec import DataMount, TaskSpec

GIB = 1 << 30
SHARED_MEMORY = 5 * GIB
_FURTHEST = (1 << 63) - 1


def container_spec(task: TaskSpec) -> Any:
    """What runs. Shared memory is what it is without a word in the spec, too."""
    return pb2.ContainerSpec(
        resource_request=pb2.ResourceRequest(
            cpu_count=task.resources.cpus or None,
            memory_bytes=task.resources.memory or None,
            gpu_count=task.resources.gpus,
            shared_memory_bytes=SHARED_MEMORY
            if task.resources.shared_memory is None
            else task.resources.shared_memory,
        ),
        image_id=task.image.beaker,
        docker_reference=task.image.docker,
        command=task.command or (),
        arguments=task.arguments or (),
        environment_variables=[
            pb2.EnvironmentVariable(
                name=variable.name,
                literal=None if variable.secret else variable.value or "",
                secret_reference=variable.secret,
            )
            for variable in task.env
        ],
        mounts=[_mount(mount) for mount in task.mounts],
        result_path=task.result_path,
        host_networking=task.host_networking,
    )


def system_details(task: TaskSpec, priority: Any) -> Any:
    """How it is run."""
    constraints = []
    if task.clusters:
        kind = pb2.JobPlacementConstraintType.JOB_PLACEMENT_CONSTRAINT_TYPE_CLUSTER
        constraints.append(pb2.JobPlacementConstraint(type=kind, values=task.clusters))
    if task.hostnames:
        kind = pb2.JobPlacementConstraintType.JOB_PLACEMENT_CONSTRAINT_TYPE_HOSTNAME
        constraints.append(pb2.JobPlacementConstraint(type=kind, values=task.hostnames))
    message = pb2.SystemDetails(
        priority=priority,
        placement_constraints=constraints,
        propagate_failure=task.propagate_failure,
        propagate_preemption=task.propagate_preemption,
        auto_resume=task.auto_resume,
    )
    message.min_runtime.FromNanoseconds(task.min_runtime)
    if task.timeout is not None:
        message.timeout.FromNanoseconds(task.timeout)
    return message


def nanoseconds(when: Any) -> int:
    """A Timestamp in nanoseconds; one beyond what the tables hold is the last that they do."""
    return max(-_FURTHEST, min(int(when.ToNanoseconds()), _FURTHEST))


def _mount(mount: DataMount) -> Any:
    mode = pb2.MountMode.MOUNT_MODE_READ_ONLY if mount.read_only else pb2.MountMode.MOUNT_MODE_READ_WRITE
    return pb2.Mount(
        mount_path=mount.mount_path,
        sub_path=mount.sub_path,
        dataset_id=mount.beaker,
        host_path=mount.host_path,
        secret_reference=mount.secret,
        mode=mode,
    )
