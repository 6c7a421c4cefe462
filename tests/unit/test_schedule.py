"""Placement on one machine: what fits now, what later, what never."""

from __future__ import annotations

import pytest

from dispatch.engine.base import Capabilities
from dispatch.errors import ResourceAssignmentError, UnrecoverableResourceAssignmentError
from dispatch.location import HostPath
from dispatch.schedule import LocalScheduler, ResourceAssignment
from dispatch.step import StepResources

GIB = 1024**3
ENGINE = Capabilities("docker", (HostPath,), uid=0, gid=0, cpus=2, memory=8 * GIB, gpus=("0", "1"))


@pytest.mark.parametrize(
    ("resources", "assignment"),
    [
        (StepResources(), ResourceAssignment()),
        (StepResources(cpu_count=0.5, memory="1GiB"), ResourceAssignment(cpus=0.5, memory=GIB)),
        (StepResources(cpu_count=2, memory=8 * GIB), ResourceAssignment(cpus=2, memory=8 * GIB)),
        (StepResources(gpu_count=1), ResourceAssignment(gpus=("0",), shared_memory=5 * GIB)),
        (
            StepResources(gpu_count=2, shared_memory="1GiB"),
            ResourceAssignment(gpus=("0", "1"), shared_memory=GIB),
        ),
        (StepResources(shared_memory="64MiB"), ResourceAssignment(shared_memory=64 * 1024**2)),
        (StepResources(machine="local"), ResourceAssignment()),
    ],
)
def test_what_a_step_is_given(resources: StepResources, assignment: ResourceAssignment) -> None:
    """A step is given what it asks for, and GPU steps much shared memory unless they say otherwise."""
    assert LocalScheduler(ENGINE, 4).schedule("a", resources) == assignment


@pytest.mark.parametrize(
    ("held", "wanted", "fact"),
    [
        (StepResources(cpu_count=1.5), StepResources(cpu_count=1), r"1 CPUs, 0\.5 are free"),
        (StepResources(memory="6GiB"), StepResources(memory="4GiB"), "are free"),
        (StepResources(gpu_count=2), StepResources(gpu_count=1), "1 GPUs, 0 are free"),
    ],
)
def test_not_now(held: StepResources, wanted: StepResources, fact: str) -> None:
    """What is taken is refused for now, and given once it is free again."""
    scheduler = LocalScheduler(ENGINE, 4)
    scheduler.schedule("a", held)
    with pytest.raises(ResourceAssignmentError, match=fact):
        scheduler.schedule("b", wanted)
    scheduler.release("a")
    scheduler.schedule("b", wanted)


@pytest.mark.parametrize(
    ("resources", "fact"),
    [
        (StepResources(cpu_count=64), "64 CPUs, the engine 'docker' has 2"),
        (StepResources(memory="16GiB"), "16 GiB of memory, the engine 'docker' has 8 GiB"),
        (StepResources(gpu_count=8), "8 GPUs, the engine 'docker' has 2"),
        (StepResources(gpu_type="h100"), "'h100'"),
        (StepResources(machine="ai2/jupiter"), "'ai2/jupiter'"),
    ],
)
def test_never(resources: StepResources, fact: str) -> None:
    """What the machine can never hold is refused at once, with both numbers."""
    with pytest.raises(UnrecoverableResourceAssignmentError, match=fact):
        LocalScheduler(ENGINE, 4).schedule("a", resources)


def test_parallelism() -> None:
    """However little steps ask for, no more than the limit run at once."""
    scheduler = LocalScheduler(ENGINE, 2)
    scheduler.schedule("a", StepResources())
    scheduler.schedule("b", StepResources())
    with pytest.raises(ResourceAssignmentError, match="2 steps run"):
        scheduler.schedule("c", StepResources())
    scheduler.release("b")
    scheduler.schedule("c", StepResources())


def test_fractions_add_up() -> None:
    """Ten steps of a tenth of a CPU each and one of a whole fill two CPUs exactly."""
    scheduler = LocalScheduler(ENGINE, 100)
    for number in range(10):
        scheduler.schedule(str(number), StepResources(cpu_count=0.1))
    scheduler.schedule("whole", StepResources(cpu_count=1))
    with pytest.raises(ResourceAssignmentError):
        scheduler.schedule("more", StepResources(cpu_count=0.1))


def test_same_step_again() -> None:
    """A step that holds resources is given the same again, and holds them once."""
    scheduler = LocalScheduler(ENGINE, 1)
    first = scheduler.schedule("a", StepResources(gpu_count=1))
    assert scheduler.schedule("a", StepResources(gpu_count=1)) == first
    scheduler.release("a")
    scheduler.release("a")
    scheduler.release("never held")
    scheduler.schedule("b", StepResources(gpu_count=2))
