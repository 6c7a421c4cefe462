"""Placement on one machine: what fits now, what later, what never."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from dispatch.engine.base import Capabilities, Holding, Resources
from dispatch.errors import ResourceAssignmentError, UnrecoverableResourceAssignmentError
from dispatch.location import HostPath
from dispatch.schedule import LocalScheduler, ResourceAssignment
from dispatch.schedule.base import GroupFullError
from dispatch.step import StepResources

GIB = 1024**3
ENGINE = Capabilities("docker", (HostPath,), uid=0, gid=0, cpus=2, memory=8 * GIB, gpus=("0", "1"))
MIXED = Capabilities(
    *("docker", (HostPath,), 0, 0),
    cpus=64,
    memory=512 * GIB,
    gpus=("0", "1", "2", "3"),
    gpu_types=("NVIDIA A100-SXM4-80GB", "NVIDIA H100 PCIe", "NVIDIA A100-SXM4-80GB", ""),
)


class Others:
    """What other clients hold: the same tuple until it is set anew."""

    def __init__(self, *held: Holding) -> None:
        self.held = held

    def __call__(self) -> tuple[Holding, ...]:
        return self.held


def holding(key: str = "theirs.1", directory: str = "/elsewhere/attempts/1", **resources: Any) -> Holding:
    """What a job of another client holds."""
    return Holding(key, directory, Resources(**resources))


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
        (StepResources(cpu_count=1.5), StepResources(cpu_count=1), r"1 CPU, 0\.5 are free"),
        (StepResources(memory="6GiB"), StepResources(memory="4GiB"), "4 GiB of memory, 2 GiB are free"),
        (StepResources(gpu_count=2), StepResources(gpu_count=1), "1 GPU, 0 are free"),
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
        (
            StepResources(gpu_type="h100"),
            "1 GPU of the type 'h100', the engine 'docker' has 2 of a type that it does not tell",
        ),
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


@pytest.mark.parametrize(
    ("resources", "gpus"),
    [
        (StepResources(gpu_type="h100"), ("1",)),
        (StepResources(gpu_type="A100", gpu_count=2), ("0", "2")),
        (StepResources(gpu_type="nvidia", gpu_count=3), ("0", "1", "2")),
        (StepResources(gpu_count=4), ("0", "1", "2", "3")),
        (StepResources(gpu_type="h100", gpu_count=0), ()),
    ],
)
def test_gpus_of_a_type(resources: StepResources, gpus: tuple[str, ...]) -> None:
    """A type is any part of the model's name; one without a number is one GPU of it."""
    assert LocalScheduler(MIXED, 4).schedule("a", resources).gpus == gpus


def test_gpus_of_a_type_that_are_taken() -> None:
    """Those of another type that are free do not help; nor can there ever be more than there are."""
    scheduler = LocalScheduler(MIXED, 4)
    scheduler.schedule("a", StepResources(gpu_type="h100"))
    with pytest.raises(ResourceAssignmentError, match="1 GPU of the type 'h100', 0 are free"):
        scheduler.schedule("b", StepResources(gpu_type="h100"))
    fact = (
        "2 GPUs of the type 'h100', the engine 'docker' has "
        "2 of NVIDIA A100-SXM4-80GB, 1 of NVIDIA H100 PCIe, 1 of a type that it does not tell"
    )
    with pytest.raises(UnrecoverableResourceAssignmentError, match=fact):
        scheduler.refuse_impossible(StepResources(gpu_type="h100", gpu_count=2))


@pytest.mark.parametrize(
    ("theirs", "wanted", "fact"),
    [
        ([{"cpus": 1.5}], StepResources(cpu_count=1), r"1 CPU, 0\.5 are free, other clients hold 1\.5"),
        (
            [{"memory": 3 * GIB}, {"memory": 4 * GIB}],
            StepResources(memory="2GiB"),
            "2 GiB of memory, 1 GiB are free, other clients hold 7 GiB",
        ),
        ([{"gpus": ("1",)}], StepResources(gpu_count=2), "2 GPUs, 1 are free, other clients hold 1"),
        ([{"cpus": 9.0}], StepResources(cpu_count=1), "0 are free, other clients hold 9"),
    ],
)
def test_what_others_hold(theirs: Sequence[Mapping[str, Any]], wanted: StepResources, fact: str) -> None:
    """What containers of other clients hold is not free, and the refusal says who has it."""
    others = Others(*(holding(**each) for each in theirs))
    scheduler = LocalScheduler(ENGINE, 4, others=others)
    with pytest.raises(ResourceAssignmentError, match=fact):
        scheduler.schedule("a", wanted)
    others.held = ()
    scheduler.schedule("a", wanted)


def test_what_others_do_not_say() -> None:
    """A container that asked for nothing takes nothing, and does not count as one of our steps."""
    scheduler = LocalScheduler(ENGINE, 1, others=Others(*[holding()] * 100))
    assert scheduler.schedule("a", StepResources(cpu_count=2, gpu_count=2)).gpus == ("0", "1")


def test_the_gpu_that_others_leave() -> None:
    """A step is given the GPU that no other client's container has."""
    scheduler = LocalScheduler(ENGINE, 4, others=Others(holding(gpus=("0",))))
    assert scheduler.schedule("a", StepResources(gpu_count=1)).gpus == ("1",)


def test_a_job_that_a_client_before_us_left(tmp_path: Path) -> None:
    """Its own step holds what the job has, however full all is; the same id elsewhere is a stranger's."""
    own = holding("train-abc.1", str(tmp_path / "attempts" / "1"), cpus=2.0, gpus=("1",))
    wanted = StepResources(cpu_count=2, gpu_count=1)
    others = Others(own)
    scheduler = LocalScheduler(ENGINE, 1, groups={"g": 1}, others=others, home=tmp_path)
    scheduler.schedule("other", StepResources(), "g")
    with pytest.raises(ResourceAssignmentError):
        scheduler.schedule("train-xyz", wanted)
    assert scheduler.schedule("train-abc", wanted, "g").gpus == ("1",)
    # Taken over, it is none of the others' any more.
    others.held = ()
    with pytest.raises(ResourceAssignmentError):
        scheduler.schedule("more", StepResources())
    scheduler.release("train-abc")
    scheduler.release("other")
    assert scheduler.schedule("train-xyz", wanted).gpus == ("0",)
    stranger = LocalScheduler(ENGINE, 1, others=Others(own), home=tmp_path / "another")
    with pytest.raises(ResourceAssignmentError):
        stranger.schedule("train-abc", wanted)


def test_groups() -> None:
    """Of a group run as many as its limit says, whatever else is free; others are not held up by it."""
    scheduler = LocalScheduler(ENGINE, 10, groups={"api": 2, "disk": 1})
    scheduler.schedule("a", StepResources(), "api")
    scheduler.schedule("b", StepResources(), "api")
    with pytest.raises(GroupFullError, match="2 steps of the group 'api' run, and no more may"):
        scheduler.schedule("c", StepResources(), "api")
    scheduler.schedule("d", StepResources(), "disk")
    scheduler.schedule("e", StepResources())
    scheduler.release("a")
    scheduler.schedule("c", StepResources(), "api")
    with pytest.raises(UnrecoverableResourceAssignmentError, match="'apis', which is not known"):
        scheduler.schedule("f", StepResources(), "apis")


def test_what_is_refused_holds_nothing() -> None:
    """A step that does not fit takes no place in its group and no part of what there is."""
    scheduler = LocalScheduler(ENGINE, 10, groups={"g": 1})
    scheduler.schedule("a", StepResources(cpu_count=2))
    with pytest.raises(ResourceAssignmentError):
        scheduler.schedule("b", StepResources(cpu_count=1, memory="8GiB", gpu_count=2), "g")
    scheduler.schedule("c", StepResources(memory="8GiB", gpu_count=2), "g")


def test_the_account_is_exact() -> None:
    """After thousands of placements and releases all is free again, and nothing was overdrawn meanwhile."""
    draw = random.Random(4)
    scheduler = LocalScheduler(ENGINE, 6, groups={"g": 2})
    held: dict[str, tuple[StepResources, tuple[str, ...], str | None]] = {}
    for number in range(5000):
        if held and draw.random() < 0.5:
            gone = draw.choice(sorted(held))
            del held[gone]
            scheduler.release(gone)
        wanted = StepResources(
            cpu_count=draw.choice([None, 0.1, 0.3, 0.7, 1.1]),
            memory=draw.choice([None, "1GiB", 3_000_000_001]),
            gpu_count=draw.choice([None, 0, 1, 2]),
        )
        group = draw.choice([None, "g"])
        try:
            given = scheduler.schedule(str(number), wanted, group)
        except ResourceAssignmentError:
            continue
        held[str(number)] = wanted, given.gpus, group
        assert sum(each.cpu_count or 0 for each, _, _ in held.values()) <= 2 + 1e-9
        assert sum(each.memory_bytes or 0 for each, _, _ in held.values()) <= 8 * GIB
        gpus = [gpu for _, given_gpus, _ in held.values() for gpu in given_gpus]
        assert len(set(gpus)) == len(gpus)
        assert sum(each == "g" for _, _, each in held.values()) <= 2
        assert len(held) <= 6
    for name in held:
        scheduler.release(name)
    whole = StepResources(cpu_count=2, memory="8GiB", gpu_count=2)
    assert scheduler.schedule("whole", whole, "g").gpus == ("0", "1")


def test_a_full_group_comes_first() -> None:
    """Where all is full, a step whose group is full, too, waits for that: others may pass it."""
    scheduler = LocalScheduler(ENGINE, 1, groups={"g": 1})
    scheduler.schedule("a", StepResources(), "g")
    with pytest.raises(GroupFullError):
        scheduler.schedule("b", StepResources(), "g")
