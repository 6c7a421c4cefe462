"""Placement on Beaker: which clusters can hold a step, which have room, and what users' schedulers say."""

from __future__ import annotations

from enum import Enum, IntEnum
from types import SimpleNamespace
from typing import Any

import pytest
from beaker import BeakerJobPriority, BeakerTaskResources

from dispatch._beaker import BeakerUnreachableError
from dispatch._beaker.client import Unavailable
from dispatch.engine.base import Placement
from dispatch.errors import (
    ConfigurationError,
    DispatchError,
    ResourceAssignmentError,
    UnrecoverableResourceAssignmentError,
)
from dispatch.params import Params
from dispatch.schedule import ResourceAssignment as Assignment
from dispatch.schedule import beaker as scheduling
from dispatch.schedule.base import GroupFullError
from dispatch.schedule.beaker import (
    AvailableBeakerScheduler,
    BeakerPlacing,
    BeakerScheduler,
    ResourceAssignment,
    Rules,
    SimpleBeakerScheduler,
    Terms,
    read_terms,
)
from dispatch.schedule.beaker.gputypes import is_type
from dispatch.schedule.beaker.placing import PATIENCE, PAUSE
from dispatch.step import StepResources
from dispatch.testing.beaker_fleet import GIB, FakeClusters, asking, node
from dispatch.testing.scheduler import FakeScheduler

A100, A40GB, L4, L40, H100 = (
    "NVIDIA_A100_80GB",
    "NVIDIA_A100_40GB",
    "NVIDIA_L4",
    "NVIDIA_L40",
    "NVIDIA_H100",
)
EVERY = (A100, A40GB, L4, L40, H100, "NVIDIA_L40S", "NVIDIA_V100")


def several() -> FakeClusters:
    """Clusters with GPUs of several types, of mixed types, and with none."""
    source = FakeClusters()
    source.add("ai2/jupiter", node("j1", 8, H100), node("j2", 8, H100), alias="ai2/jove", limit=3600.0)
    source.add("ai2/saturn", node("s1", 8, A100), node("s2", 4, A100))
    source.add("ai2/mixed", node("m1", 8, A100), node("m2", 8, L40))
    source.add("ai2/cpus", node("c1", cpus=16, memory=64), node("c2", cpus=4, memory=32))
    return source


NAMES = ["ai2/jupiter", "ai2/saturn", "ai2/mixed", "ai2/cpus"]


def connected(scheduler: BeakerScheduler, source: FakeClusters) -> BeakerScheduler:
    """A scheduler that looks at a source."""
    scheduler.connect(None, source.fleet())
    return scheduler


def simple(source: FakeClusters, names: list[str] = NAMES, priority: Any = "normal") -> BeakerScheduler:
    """The default scheduler."""
    return connected(SimpleBeakerScheduler(names, priority), source)


def available(source: FakeClusters, names: list[str] = NAMES) -> BeakerScheduler:
    """The scheduler that waits for room."""
    return connected(AvailableBeakerScheduler(names, "normal"), source)


@pytest.mark.parametrize(
    ("wanted", "kinds"),
    [
        ("a100", (A100, A40GB)),
        ("A100-80GB", (A100,)),
        ("NVIDIA A100-SXM4-80GB", (A100,)),
        ("NVIDIA A100-PCIE-40GB", (A40GB,)),
        ("a10080gb", (A100,)),
        ("NVIDIA_A100_80GB", (A100,)),
        ("NVIDIA H100 80GB HBM3", (H100,)),
        ("h100", (H100,)),
        ("l4", (L4,)),
        ("L40", (L40,)),
        ("l40s", ("NVIDIA_L40S",)),
        ("rtx8000", ("NVIDIA_RTX_8000",)),
        ("Quadro RTX 8000", ("NVIDIA_RTX_8000",)),
        ("NVIDIA RTX A6000", ("NVIDIA_RTX_A6000",)),
        ("Tesla V100-SXM2-32GB", ("NVIDIA_V100",)),
        ("nvidia", EVERY),
        ("mi300", ()),
        ("", EVERY),
        ("100", ()),
    ],
)
def test_types_of_gpus(wanted: str, kinds: tuple[str, ...]) -> None:
    """A type of GPU is meant as people write it, and no other is."""
    known = {*EVERY, *kinds}
    assert {kind for kind in known if is_type(kind, wanted)} == set(kinds)
    assert not is_type("", wanted)


@pytest.mark.parametrize(
    ("resources", "clusters"),
    [
        ({}, NAMES),
        ({"cpu_count": 16}, NAMES),
        ({"cpu_count": 17}, NAMES[:3]),
        ({"memory": "64GiB"}, NAMES),
        ({"memory": "65GiB"}, NAMES[:3]),
        ({"gpu_count": 1}, NAMES[:3]),
        ({"gpu_type": "h100"}, ["ai2/jupiter"]),
        ({"gpu_type": "h100", "gpu_count": 8}, ["ai2/jupiter"]),
        ({"gpu_type": "A100-80GB", "gpu_count": 8}, ["ai2/saturn"]),
        ({"machine": "ai2/cpus"}, ["ai2/cpus"]),
        ({"beaker": {"clusters": ["ai2/jove", "ai2/cpus"]}}, ["ai2/jupiter", "ai2/cpus"]),
        ({"timeout": 3600.0}, NAMES),
        ({"timeout": 3601.0}, NAMES[1:]),
    ],
)
def test_simple_finds_those_with_enough(resources: dict[str, Any], clusters: list[str]) -> None:
    """Every cluster is named that can hold the step when idle; where types are mixed, none that may err."""
    step = asking(**resources)
    found = simple(several()).schedule(step)
    assert found == ResourceAssignment(clusters, step.resources, "normal")


@pytest.mark.parametrize(
    ("resources", "fact"),
    [
        ({"gpu_count": 9}, r"asks for 9 GPUs, which no cluster .* ai2/jupiter has 8 of NVIDIA_H100 a node"),
        ({"gpu_count": 9}, "ai2/cpus has no GPUs"),
        ({"gpu_type": "t4"}, r"1 GPU of the type 't4'.*ai2/saturn has 8 of NVIDIA_A100_80GB a node"),
        ({"gpu_type": "l40"}, "ai2/mixed has nodes with NVIDIA_A100_80GB, too, which it might give instead"),
        ({"memory": "1TiB"}, r"1 TiB of memory, which .* ai2/cpus has 64 GiB of memory a node"),
        ({"cpu_count": 65}, "65 CPUs, which .* ai2/saturn has 64 CPUs a node"),
        ({"machine": "ai2/pluto"}, "no cluster 'ai2/pluto'"),
        ({"machine": "other/pluto"}, "no cluster 'other/pluto'"),
        ({"beaker": {"clusters": "ai2/jupitr"}}, "did you mean 'ai2/jupiter'"),
        ({"timeout": 3601.0, "gpu_type": "h100"}, "time limit of 1 h 00 m, .* ai2/jupiter allows 1 h 00 m"),
    ],
)
def test_never(resources: dict[str, Any], fact: str) -> None:
    """What no cluster can ever give is refused for good, before anything starts, with what there is."""
    for scheduler in (simple(several()), available(several())):
        with pytest.raises(UnrecoverableResourceAssignmentError, match=fact):
            scheduler.refuse_impossible(asking(**resources))
        with pytest.raises(UnrecoverableResourceAssignmentError, match=fact):
            scheduler.schedule(asking(**resources))


def test_simple_asks_once() -> None:
    """What clusters have is asked once for a run's many steps, and again when it may have changed."""
    source = several()
    scheduler = simple(source)
    for number in range(200):
        scheduler.schedule(asking(f"Train-{number}", cpu_count=number % 16 + 1))
    assert source.asked == ["ai2", *NAMES]
    source.now += 121
    scheduler.schedule(asking())
    assert source.asked == ["ai2", *NAMES, "ai2"]


def test_a_new_node_is_seen() -> None:
    """A node that comes is asked about, though those of other clusters are known."""
    source = several()
    scheduler = simple(source)
    with pytest.raises(UnrecoverableResourceAssignmentError):
        scheduler.schedule(asking(cpu_count=128, machine="ai2/cpus"))
    source.looks = [look for look in source.looks if look.cluster.name != "ai2/cpus"]
    source.add("ai2/cpus", node("c1"), node("c3", cpus=128))
    source.now += 121
    assert scheduler.schedule(asking(cpu_count=128, machine="ai2/cpus")).cluster == ["ai2/cpus"]
    assert source.asked[-2:] == ["ai2", "ai2/cpus"]


def test_closed_nodes() -> None:
    """A cluster that takes no jobs now is named only where no other would do."""
    source = FakeClusters()
    source.add("ai2/closed", node("x1", 8, A100, cordoned=True))
    source.add("ai2/open", node("o1", 4, A100), node("o2", 4, A100, cordoned=True))
    names = ["ai2/closed", "ai2/open"]
    assert simple(source, names).schedule(asking(gpu_count=4)).cluster == ["ai2/open"]
    assert simple(source, names).schedule(asking(gpu_count=8)).cluster == ["ai2/closed"]
    assert available(source, names).schedule(asking(gpu_count=4)).cluster == "ai2/open"
    with pytest.raises(ResourceAssignmentError, match="ai2/closed: 0 of 8 slots free"):
        available(source, names).schedule(asking(gpu_count=8))


def test_no_clusters_are_all() -> None:
    """Without names all clusters of the organisation are meant."""
    assert simple(several(), []).schedule(asking(gpu_type="h100")).cluster == ["ai2/jupiter"]


def test_priorities() -> None:
    """A step's metadata prevail over the scheduler's priority."""
    scheduler = simple(several(), priority=BeakerJobPriority.high)
    assert scheduler.schedule(asking()).priority == "high"
    assert scheduler.schedule(asking(beaker={"priority": "urgent"})).priority == "urgent"


def test_available_takes_what_is_free() -> None:
    """A step waits until a node has as many GPUs free as it asks for, together."""
    source = FakeClusters()
    source.add("ai2/saturn", node("s1", 8, A100), node("s2", 8, A100))
    source.take("s1", 6)
    source.take("s2", 5)
    scheduler = available(source, ["ai2/saturn"])
    with pytest.raises(ResourceAssignmentError, match=r"4 GPUs, no .* \(ai2/saturn: 5 of 16 slots free\)"):
        scheduler.schedule(asking("a", gpu_count=4))
    assert scheduler.schedule(asking("a", gpu_count=3)).cluster == "ai2/saturn"
    with pytest.raises(ResourceAssignmentError, match="2 of 16 slots free"):
        scheduler.schedule(asking("b", gpu_count=3))
    assert scheduler.schedule(asking("b", gpu_count=2)).cluster == "ai2/saturn"
    with pytest.raises(ResourceAssignmentError, match="0 of 16 slots free"):
        scheduler.schedule(asking("c", gpu_count=1))


def test_available_counts_its_own_until_they_are_seen() -> None:
    """What was given away counts until Beaker shows it, and not twice after that."""
    source = FakeClusters()
    source.add("ai2/saturn", node("s1", 8, A100))
    scheduler = available(source, ["ai2/saturn"])
    scheduler.schedule(asking("a", gpu_count=6))
    with pytest.raises(ResourceAssignmentError):
        scheduler.schedule(asking("b", gpu_count=4))
    source.now += 6.0
    source.take("s1", 6)
    scheduler.schedule(asking("b", gpu_count=2))
    scheduler.release("b")
    scheduler.schedule(asking("c", gpu_count=2))
    with pytest.raises(ResourceAssignmentError):
        scheduler.schedule(asking("d", gpu_count=1))


def test_available_asks_every_few_seconds() -> None:
    """Two hundred steps that wait ask once, and again when five seconds have passed."""
    source = FakeClusters()
    source.add("ai2/saturn", node("s1", 8, A100))
    source.take("s1", 8)
    scheduler = available(source, ["ai2/saturn"])
    for _ in range(10):
        for number in range(200):
            with pytest.raises(ResourceAssignmentError):
                scheduler.schedule(asking(f"Train-{number}", gpu_count=number % 8 + 1))
        source.now += 1.0
    assert source.asked == ["ai2", "ai2/saturn", "ai2"]


def test_available_spreads() -> None:
    """The fewest waiting jobs decide, then the fewest steps of ours, then the most free slots."""
    source = FakeClusters()
    source.add("ai2/busy", node("b1", 8, A100), queued=3)
    source.add("ai2/small", node("x1", 4, A100))
    source.add("ai2/large", node("l1", 8, A100))
    scheduler = available(source, ["ai2/busy", "ai2/small", "ai2/large"])
    found = [scheduler.schedule(asking(f"{number}", gpu_count=1)).cluster for number in range(16)]
    assert found[:8] == ["ai2/large", "ai2/small"] * 4
    assert found[8:] == ["ai2/large"] * 4 + ["ai2/busy"] * 4


def test_available_without_gpus() -> None:
    """A step without GPUs takes a share of a node without any, and only else goes beside others' GPUs."""
    source = several()
    source.take("s1", 8)
    source.take("s2", 4)
    scheduler = available(source, ["ai2/saturn", "ai2/cpus"])
    assert scheduler.schedule(asking("a", cpu_count=12)).cluster == "ai2/cpus"
    assert scheduler.schedule(asking("b", memory="16GiB")).cluster == "ai2/cpus"
    assert scheduler.schedule(asking("c", cpu_count=12)).cluster == "ai2/saturn"
    alone = available(source, ["ai2/cpus"])
    alone.schedule(asking("a", cpu_count=12))
    with pytest.raises(ResourceAssignmentError, match="12 CPUs"):
        alone.schedule(asking("b", cpu_count=12))


def test_available_where_nodes_tell_nothing() -> None:
    """Where only the cluster's free slots are told, no node has more than those."""
    source = FakeClusters()
    source.add("ai2/saturn", node("s1", 8, A100))
    source.tell_no_nodes()
    scheduler = available(source, ["ai2/saturn"])
    assert scheduler.schedule(asking("a", gpu_count=8)).cluster == "ai2/saturn"
    with pytest.raises(ResourceAssignmentError):
        scheduler.schedule(asking("b", gpu_count=1))


def test_the_last_look_stands_in() -> None:
    """Beaker may be away for a while: what was seen last is what there is, and it is not asked each time."""
    source = FakeClusters(error=BeakerUnreachableError("Beaker does not answer"))
    source.add("ai2/saturn", node("s1", 8, A100))
    scheduler = available(source, ["ai2/saturn"])
    with pytest.raises(BeakerUnreachableError):
        scheduler.schedule(asking("a", gpu_count=4))
    source.error = None
    scheduler.schedule(asking("a", gpu_count=4))
    source.error = BeakerUnreachableError("Beaker does not answer")
    source.now += 6.0
    asked = len(source.asked)
    scheduler.schedule(asking("b", gpu_count=4))
    scheduler.schedule(asking("c", gpu_count=4))
    assert len(source.asked) == asked + 1


class Mine(BeakerScheduler):
    """A user's scheduler that answers what it is told to."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.steps: list[Any] = []
        self.released: list[str] = []

    def schedule(self, step: Any) -> Any:
        """Answer, or raise."""
        self.steps.append(step)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def release(self, unique_id: str) -> None:
        """Remember."""
        self.released.append(unique_id)


class Priority(str, Enum):
    """As beaker-py 1 had it."""

    high = "high"
    preemptible = "preemptible"


class Number(IntEnum):
    """An enumeration of somebody's own."""

    other = 1


def placing(scheduler: BeakerScheduler, *steps: Any, **more: Any) -> BeakerPlacing:
    """The dispatcher's scheduler for steps."""
    return BeakerPlacing(scheduler, {step.unique_id: step for step in steps}, **more)


GIVEN = Assignment(cpus=2, memory=4 * GIB, gpu_count=1, shared_memory=5 * GIB)


@pytest.mark.parametrize(
    ("answer", "clusters", "priority"),
    [
        (ResourceAssignment("ai2/a", BeakerTaskResources(2, 1, "4GiB"), "high"), ("ai2/a",), "high"),
        (
            ResourceAssignment(["ai2/a", "ai2/b"], {"cpuCount": 2, "gpuCount": 1, "memory": "4GiB"}, None),
            ("ai2/a", "ai2/b"),
            "low",
        ),
        (("ai2/a", {"cpu_count": 2, "gpu_count": 1, "memory": "4GiB"}, "URGENT"), ("ai2/a",), "urgent"),
        (ResourceAssignment([], None, BeakerJobPriority.immediate), (), "immediate"),
        ({"cluster": "ai2/a"}, ("ai2/a",), "low"),
        (
            SimpleNamespace(
                cluster=SimpleNamespace(organization_name="ai2", name="a"),
                resources=SimpleNamespace(cpu_count=2.0, gpu_count=1, memory="4GiB", shared_memory=None),
                priority=Priority.high,
            ),
            ("ai2/a",),
            "high",
        ),
    ],
)
def test_what_schedulers_may_answer(answer: Any, clusters: tuple[str, ...], priority: str) -> None:
    """Assignments are understood as beaker-py's objects of both versions, mappings, and our own."""
    step = asking(cpu_count=2, memory="4GiB", gpu_count=1)
    found = placing(Mine(answer), step, rules=Rules(Terms(priority="low"))).schedule(
        step.unique_id, step.resources
    )
    assert found == Assignment(
        *(GIVEN.cpus, GIVEN.memory, GIVEN.shared_memory),
        gpu_count=GIVEN.gpu_count,
        placement=Placement(clusters, priority),
    )


def test_the_old_priority() -> None:
    """What beaker-py 1 called the priority ``preemptible`` is the lowest, and may be preempted."""
    step = asking()
    found = placing(Mine(ResourceAssignment("ai2/a", None, Priority.preemptible)), step)
    assert found.schedule(step.unique_id, step.resources).placement == Placement(("ai2/a",), "low", True)


@pytest.mark.parametrize(
    ("answer", "fact"),
    [
        (None, "answers NoneType, which is no assignment"),
        ("ai2/a", "answers str, which is no assignment"),
        (ResourceAssignment(7, None, "low"), "7 is no name of a cluster"),
        (ResourceAssignment(["ai2/a", None], None, "low"), "None is no name"),
        (ResourceAssignment("ai2/a", 7, "low"), "answers int for resources, which has no cpu_count"),
        (ResourceAssignment("ai2/a", {"memory": "16G"}, "low"), "resources with memory: '16G' is not a size"),
        (ResourceAssignment("ai2/a", {"cpu_count": -1}, "low"), "cpu_count: -1"),
        (ResourceAssignment("ai2/a", {"gpu_count": "two"}, "low"), "gpu_count"),
        (ResourceAssignment("ai2/a", None, "hihg"), "'hihg' is none, did you mean 'high'"),
        (ResourceAssignment("ai2/a", None, Number.other), "priority"),
        (ResourceAssignment("ai2/a", None, 3), "priority: 3 is none"),
        (KeyError("x"), "the scheduler Mine fails: KeyError: 'x'"),
    ],
)
def test_what_schedulers_may_not_answer(answer: Any, fact: str) -> None:
    """Rubbish, and a scheduler's own faults, are errors of its step, without a traceback."""
    step = asking()
    with pytest.raises(ConfigurationError, match=fact):
        placing(Mine(answer), step).schedule(step.unique_id, step.resources)


def test_terms_of_settings_and_steps() -> None:
    """What a step's metadata say of its place in the queue prevails over the settings."""
    settings = read_terms(
        {"priority": "low", "preemptible": False, "min_runtime": "1h", "budget": "ai2/default"}
    )
    plain = asking("a")
    own = asking(
        "b", beaker={"preemptible": True, "min_runtime": 90, "budget": "ai2/mine", "priority": "high"}
    )
    scheduler = placing(simple(several(), ["ai2/cpus"], None), plain, own, rules=Rules(settings))
    assert scheduler.schedule("a", plain.resources).placement == Placement(
        ("ai2/cpus",), "low", False, 3600.0, "ai2/default"
    )
    assert scheduler.schedule("b", own.resources).placement == Placement(
        ("ai2/cpus",), "high", True, 90.0, "ai2/mine"
    )


@pytest.mark.parametrize(
    ("said", "fact"),
    [
        ({"priorty": "low"}, "there is no key 'priorty', did you mean 'priority'"),
        ({"preemptible": "yes"}, "preemptible: expected true or false, got 'yes'"),
        ({"min_runtime": "soon"}, "min_runtime: 'soon' is not a duration"),
        ({"budget": 3}, "budget: expected a name"),
        ({"clusters": [1]}, "clusters: 1 is no name"),
        ({"priority": "best"}, "priority: 'best' is none"),
        ("high", "expected keys with values, got str"),
    ],
)
def test_terms_that_mean_nothing(said: Any, fact: str) -> None:
    """What a step says wrongly is an error that names the step and the key, before anything is asked."""
    with pytest.raises(ConfigurationError, match=f"step 'train': step_metadata.beaker: {fact}"):
        placing(Mine(None), asking(beaker=said))


def test_a_refusal_stands_for_a_moment() -> None:
    """A user's scheduler that has no room is not asked at every turn, but when something of ours ends."""
    now = [0.0]
    mine = Mine(ResourceAssignmentError("nothing is free"))
    one, two = asking("a"), asking("b")
    scheduler = placing(mine, one, two, clock=lambda: now[0])

    def refused(step: Any) -> None:
        with pytest.raises(ResourceAssignmentError, match="nothing is free"):
            scheduler.schedule(step.unique_id, step.resources)

    for _ in range(50):
        refused(one)
    assert len(mine.steps) == 1
    now[0] += PAUSE
    refused(one)
    assert len(mine.steps) == 2
    mine.answer = ResourceAssignment("ai2/a", None, "low")
    scheduler.schedule("b", two.resources)
    scheduler.release("b")
    assert mine.released == ["b"]
    scheduler.schedule("a", one.resources)


def test_limits_of_our_own() -> None:
    """No more steps run at once, of all and of a group, than the settings say; asking again is the same."""
    steps = [asking(name) for name in "abcd"]
    scheduler = placing(
        Mine(ResourceAssignment("ai2/a", None, "low")), *steps, rules=Rules(parallelism=2, groups={"g": 1})
    )
    first = scheduler.schedule("a", steps[0].resources, "g")
    assert scheduler.schedule("a", steps[0].resources, "g") is first
    with pytest.raises(GroupFullError):
        scheduler.schedule("b", steps[1].resources, "g")
    scheduler.schedule("b", steps[1].resources)
    with pytest.raises(ResourceAssignmentError, match="2 steps run"):
        scheduler.schedule("c", steps[2].resources)
    scheduler.release("a")
    scheduler.schedule("c", steps[2].resources, "g")
    scheduler.release("never held")
    with pytest.raises(UnrecoverableResourceAssignmentError, match="'x', which is not known"):
        scheduler.schedule("d", steps[3].resources, "x")


def test_no_limit() -> None:
    """Without a limit of ours any number runs at once."""
    steps = [asking(str(number)) for number in range(500)]
    scheduler = placing(Mine(ResourceAssignment("ai2/a", None, "low")), *steps)
    given = [scheduler.schedule(step.unique_id, step.resources) for step in steps]
    assert {each.placement.clusters for each in given if each.placement} == {("ai2/a",)}
    assert len(given) == 500


def test_jobs_that_run_already() -> None:
    """A step whose job an earlier client left running has its place, whatever is full, until it ends."""
    source = FakeClusters()
    source.add("ai2/saturn", node("s1", 8, A100))
    source.take("s1", 8)
    step = asking("a", gpu_count=8)
    scheduler = placing(
        available(source, ["ai2/saturn"]), step, rules=Rules(parallelism=0), running=lambda: {"a"}
    )
    assert scheduler.schedule("a", step.resources).gpu_count == 8
    assert source.asked == []
    scheduler.release("a")
    with pytest.raises(ResourceAssignmentError):
        scheduler.schedule("a", step.resources)


def test_steps_of_this_machine() -> None:
    """Steps that must run on the client's machine are placed there, and given back there."""
    here = FakeScheduler(1)
    one, two = asking("a", machine="local"), asking("b", machine="local")
    scheduler = placing(Mine(None), one, two, here=here)
    scheduler.refuse_impossible(one.resources)
    scheduler.schedule("a", one.resources)
    with pytest.raises(ResourceAssignmentError):
        scheduler.schedule("b", two.resources)
    scheduler.release("a")
    scheduler.schedule("b", two.resources)
    assert here.held == {"b"}


def test_beaker_away() -> None:
    """While Beaker does not answer steps wait, whoever asked it; in the end the error is said."""
    for error in (BeakerUnreachableError("it does not answer"), Unavailable("connection refused")):
        now = [0.0]
        mine = Mine(error)
        step = asking()
        scheduler = placing(mine, step, clock=lambda now=now: now[0])
        with pytest.raises(ResourceAssignmentError, match="cannot be asked for room now"):
            scheduler.schedule(step.unique_id, step.resources)
        now[0] += PATIENCE - 1
        with pytest.raises(ResourceAssignmentError):
            scheduler.schedule(step.unique_id, step.resources)
        now[0] += PAUSE
        with pytest.raises(DispatchError) as raised:
            scheduler.schedule(step.unique_id, step.resources)
        assert not isinstance(raised.value, ResourceAssignmentError)


def test_a_hook_that_fails_ends_nothing() -> None:
    """A user's ``release`` that raises is said, and the step's end stands."""

    class Broken(Mine):
        def release(self, unique_id: str) -> None:
            raise KeyError(unique_id)

    step = asking()
    scheduler = placing(Broken(ResourceAssignment("ai2/a", None, "low")), step, rules=Rules(parallelism=1))
    first = scheduler.schedule(step.unique_id, step.resources)
    scheduler.release(step.unique_id)
    assert scheduler.schedule(step.unique_id, step.resources) == first


def test_impossible_only_if_for_all() -> None:
    """Of steps that ask for the same, what one may still get is not refused before the run."""
    here = asking("a", cpu_count=32, beaker={"clusters": "ai2/cpus"})
    there = asking("b", cpu_count=32)
    scheduler = placing(simple(several()), here, there)
    scheduler.refuse_impossible(StepResources(cpu_count=32))
    with pytest.raises(UnrecoverableResourceAssignmentError):
        scheduler.schedule("a", here.resources)
    with pytest.raises(UnrecoverableResourceAssignmentError):
        placing(simple(several()), here).refuse_impossible(here.resources)


def test_made_from_config() -> None:
    """Schedulers are named in config; ``simple`` is meant where no type is given, and users add theirs."""
    assert BeakerScheduler.default_implementation == "simple"
    made = BeakerScheduler.from_params(Params({"clusters": ["ai2/a"], "priority": "high"}))
    assert type(made) is SimpleBeakerScheduler
    assert (made.clusters, made.priority) == (["ai2/a"], "high")
    made = BeakerScheduler.from_params(Params({"type": "available", "clusters": ["ai2/a"]}))
    assert type(made) is AvailableBeakerScheduler
    assert {"simple", "available"} <= set(BeakerScheduler.list_available())
    assert SimpleBeakerScheduler(["ai2/a"], "low").priority == "low"
    assert scheduling.ResourceAssignment._fields == ("cluster", "resources", "priority")


def test_connected_too_late() -> None:
    """A scheduler that looks at Beaker before it is connected is told so; a client can be given by hand."""
    scheduler = SimpleBeakerScheduler(["ai2/a"])
    for name in ("beaker", "fleet"):
        with pytest.raises(ConfigurationError, match=r"SimpleBeakerScheduler: has no .* yet"):
            getattr(scheduler, name)
    scheduler.beaker = client = object()
    assert scheduler.beaker is client
