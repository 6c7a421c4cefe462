"""Placement with the real client on several clusters: types of GPUs, closed nodes, what is free, queues."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from beaker import BeakerJobPriority, BeakerTaskResources
from beaker import beaker_pb2 as pb2

from dispatch._beaker import BeakerDoor
from dispatch._beaker.occupancy import Occupancy
from dispatch.beakerd.config import ClusterConfig, Config, NodeConfig
from dispatch.beakerd.spec import Resources
from dispatch.engine.base import Placement
from dispatch.errors import (
    ConfigurationError,
    ResourceAssignmentError,
    UnrecoverableResourceAssignmentError,
)
from dispatch.schedule.beaker import (
    AvailableBeakerScheduler,
    BeakerPlacing,
    BeakerScheduler,
    Fleet,
    ResourceAssignment,
    SimpleBeakerScheduler,
)
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_doors import door_of
from dispatch.testing.beaker_fleet import asking
from dispatch.testing.beaker_rows import HandJobs
from dispatch.testing.beaker_runs import Jobs, task

GIB = 1 << 30
CONFIG = Config(
    clusters=(
        ClusterConfig(
            "ai2/jupiter",
            (
                NodeConfig("j1", 32, 256 * GIB, 8, "NVIDIA_A100_80GB"),
                NodeConfig("j2", 32, 256 * GIB, 8, "NVIDIA_A100_80GB", cordoned="being mended"),
            ),
            aliases=("jove",),
            max_task_timeout=86400.0,
        ),
        ClusterConfig("ai2/saturn", (NodeConfig("s1", 16, 64 * GIB, 4, "NVIDIA_A100_40GB"),)),
        ClusterConfig(
            "ai2/mixed",
            (
                NodeConfig("m1", 16, 64 * GIB, 2, "NVIDIA_L40"),
                NodeConfig("m2", 16, 64 * GIB, 2, "NVIDIA_H100"),
            ),
        ),
        ClusterConfig("ai2/cpus", (NodeConfig("c1", 8, 32 * GIB), NodeConfig("c2", 8, 32 * GIB, slots=2))),
    )
)
NAMES = ["ai2/jupiter", "ai2/saturn", "ai2/mixed", "ai2/cpus"]


@pytest.fixture
def beaker(beakers: Beakers) -> LocalBeaker:
    """A server with several clusters."""
    return beakers.start(CONFIG)


@pytest.fixture
def door(beaker: LocalBeaker) -> Iterator[BeakerDoor]:
    """Our door to it."""
    made = door_of(beaker)
    yield made
    made.close()


class Clock:
    """A clock that stands still until it is told."""

    now = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The clock of the fleet."""
    return Clock()


def connected(scheduler: BeakerScheduler, door: BeakerDoor, clock: Clock) -> BeakerScheduler:
    """A scheduler that looks through the door."""
    scheduler.connect(door, Fleet(Occupancy(door.account), clock))
    return scheduler


@pytest.mark.parametrize(
    ("resources", "clusters"),
    [
        ({}, NAMES),
        ({"gpu_count": 8}, ["ai2/jupiter"]),
        ({"gpu_type": "a100"}, ["ai2/jupiter", "ai2/saturn"]),
        ({"gpu_type": "A100-80GB"}, ["ai2/jupiter"]),
        ({"gpu_type": "NVIDIA A100-SXM4-40GB", "gpu_count": 4}, ["ai2/saturn"]),
        ({"gpu_count": 3}, ["ai2/jupiter", "ai2/saturn"]),
        ({"memory": "65GiB"}, ["ai2/jupiter"]),
        ({"cpu_count": 9}, NAMES[:3]),
        ({"timeout": 2 * 86400.0, "gpu_count": 1}, ["ai2/saturn", "ai2/mixed"]),
        ({"beaker": {"clusters": ["ai2/jove", "ai2/cpus"]}}, ["ai2/jupiter", "ai2/cpus"]),
    ],
)
def test_simple(resources: dict[str, Any], clusters: list[str], beaker: LocalBeaker) -> None:
    """The clusters that can hold a step are found by what their nodes have."""
    with_door = door_of(beaker)
    step = asking(**resources)
    found = connected(SimpleBeakerScheduler(NAMES, "high"), with_door, Clock()).schedule(step)
    assert found == ResourceAssignment(clusters, step.resources, "high")
    with_door.close()


@pytest.mark.parametrize(
    ("resources", "fact"),
    [
        ({"gpu_count": 9}, "ai2/jupiter has 8 of NVIDIA_A100_80GB a node"),
        ({"gpu_type": "h100"}, "ai2/mixed has nodes with NVIDIA_L40, too"),
        ({"gpu_type": "v100"}, "ai2/cpus has no GPUs"),
        ({"memory": "1TiB"}, "ai2/jupiter has 256 GiB of memory a node"),
        ({"beaker": {"clusters": "ai2/pluto"}}, "there is no cluster 'ai2/pluto'"),
    ],
)
def test_never(resources: dict[str, Any], fact: str, beaker: LocalBeaker) -> None:
    """What no cluster can ever give is refused for good, with what each has."""
    with_door = door_of(beaker)
    for kind in (SimpleBeakerScheduler, AvailableBeakerScheduler):
        with pytest.raises(UnrecoverableResourceAssignmentError, match=fact):
            connected(kind(NAMES, "high"), with_door, Clock()).schedule(asking(**resources))
    with_door.close()


def test_an_organization_that_is_not_there(door: BeakerDoor, clock: Clock) -> None:
    """A cluster of an unknown organisation is an error that names it."""
    scheduler = connected(SimpleBeakerScheduler(["nowhere/x"], "low"), door, clock)
    with pytest.raises(Exception, match="organisation nowhere"):
        scheduler.schedule(asking())


def test_available(beaker: LocalBeaker, door: BeakerDoor, clock: Clock) -> None:
    """A step gets a cluster with free GPUs on one open node, and waits where others have them."""
    jobs = HandJobs(beaker)
    hosts = _hosts(beaker)
    scheduler = connected(AvailableBeakerScheduler(NAMES, "normal"), door, clock)
    big = asking("big", gpu_count=8)
    assert scheduler.schedule(big).cluster == "ai2/jupiter"
    scheduler.release("big")
    held = jobs.run(hosts["j1"], ("0", "1"))
    clock.now += 6.0
    with pytest.raises(ResourceAssignmentError, match=r"8 GPUs, .*ai2/jupiter: 6 of 16 slots free"):
        scheduler.schedule(big)
    assert scheduler.schedule(asking("a", gpu_type="a100", gpu_count=2)).cluster == "ai2/jupiter"
    assert scheduler.schedule(asking("b", gpu_type="a100", gpu_count=2)).cluster == "ai2/saturn"
    assert scheduler.schedule(asking("c", gpu_type="a100", gpu_count=4)).cluster == "ai2/jupiter"
    with pytest.raises(ResourceAssignmentError, match="3 GPUs of the type 'a100'"):
        scheduler.schedule(asking("d", gpu_type="a100", gpu_count=3))
    for name in "abc":
        scheduler.release(name)
    jobs.end(held)
    clock.now += 6.0
    assert scheduler.schedule(big).cluster == "ai2/jupiter"


def test_available_of_an_opened_node(beaker: LocalBeaker, door: BeakerDoor, clock: Clock) -> None:
    """A node that is closed gives nothing, and does so once it is open again."""
    scheduler = connected(AvailableBeakerScheduler(["ai2/jupiter"], "normal"), door, clock)
    scheduler.schedule(asking("a", gpu_count=8))
    with pytest.raises(ResourceAssignmentError):
        scheduler.schedule(asking("b", gpu_count=1))
    request = pb2.CordonNodeRequest(
        node_id=_hosts(beaker)["j2"],
        desired_state=pb2.CordonNodeRequest.DesiredState.DESIRED_STATE_NOT_CORDONED,
    )
    with beaker.client() as client:
        client.service.CordonNode(request, metadata=[("authorization", f"bearer {beaker.token()}")])
    clock.now += 2.0
    with pytest.raises(ResourceAssignmentError):
        scheduler.schedule(asking("b", gpu_count=1))
    clock.now += 4.0
    HandJobs(beaker).run(_hosts(beaker)["j1"], tuple("01234567"))
    assert scheduler.schedule(asking("b", gpu_count=8)).cluster == "ai2/jupiter"


def test_available_goes_where_fewest_wait(beaker: LocalBeaker, door: BeakerDoor, clock: Clock) -> None:
    """Of clusters with room, the one is taken for which the fewest jobs wait."""
    assert beaker.server.backend is not None
    names = ["ai2/jupiter", "ai2/saturn"]
    scheduler = connected(AvailableBeakerScheduler(names, "normal"), door, clock)
    assert scheduler.schedule(asking("a", gpu_count=1)).cluster == "ai2/jupiter"
    scheduler.release("a")
    jupiter = door.clusters.get("ai2/jupiter").id
    Jobs(beaker.server.backend).queue(task(clusters=(jupiter,), resources=Resources(gpus=16)))
    clock.now += 6.0
    assert scheduler.schedule(asking("a", gpu_count=1)).cluster == "ai2/saturn"


def test_how_often_it_is_asked(beaker: LocalBeaker, door: BeakerDoor, clock: Clock) -> None:
    """Two hundred waiting steps cost the server one request in five seconds, and nodes are asked for once."""
    counted: list[str] = []
    occupancy = Occupancy(door.account)

    class Counting:
        organization = "ai2"

        def clusters(self, organization: str) -> Any:
            counted.append("clusters")
            return occupancy.clusters(organization)

        def nodes(self, cluster: Any) -> Any:
            counted.append("nodes")
            return occupancy.nodes(cluster)

    jobs, hosts = HandJobs(beaker), _hosts(beaker)
    jobs.run(hosts["s1"], tuple("0123"))
    scheduler = AvailableBeakerScheduler(["ai2/saturn"], "normal")
    scheduler.connect(door, Fleet(Counting(), clock))
    steps = [asking(f"Train-{number}", gpu_count=1) for number in range(200)]
    placing = BeakerPlacing(scheduler, {step.unique_id: step for step in steps}, clock=clock)
    for _ in range(20):
        for step in steps:
            with pytest.raises(ResourceAssignmentError):
                placing.schedule(step.unique_id, step.resources)
        clock.now += 0.5
    assert counted == ["clusters", "nodes", "clusters"]


class Written(BeakerScheduler):
    """As users wrote them for Tango, with the calls of beaker-py 2."""

    def schedule(self, step: Any) -> Any:
        """The first cluster with a node that has as many GPUs."""
        for cluster in self.beaker.cluster.list():
            for each in self.beaker.node.list(cluster=cluster):
                if len(each.node_resources.gpu_ids) >= (step.resources.gpu_count or 0) > 0:
                    return ResourceAssignment(
                        cluster=f"{cluster.organization_name}/{cluster.name}",
                        resources=BeakerTaskResources(
                            cpu_count=step.resources.cpu_count,
                            gpu_count=step.resources.gpu_count,
                            memory=step.metadata.get("memory", "1GiB"),
                        ),
                        priority=BeakerJobPriority.high,
                    )
        raise ResourceAssignmentError("no GPUs")


def test_a_users_own(door: BeakerDoor, clock: Clock) -> None:
    """A scheduler of the user's own is given beaker-py's client, and its answer becomes a placement."""
    step, none, wrong = asking("a", gpu_count=4), asking("b"), asking("c", gpu_count=1)
    scheduler = connected(Written(), door, clock)
    placing = BeakerPlacing(scheduler, {each.unique_id: each for each in (step, none, wrong)})
    found = placing.schedule("a", step.resources)
    assert found.placement == Placement(("ai2/jupiter",), "high")
    assert (found.gpu_count, found.memory, found.cpus) == (4, GIB, None)
    with pytest.raises(ResourceAssignmentError, match="no GPUs"):
        placing.schedule("b", none.resources)
    scheduler.beaker = object()
    with pytest.raises(ConfigurationError, match="the scheduler Written fails: AttributeError"):
        placing.schedule("c", wrong.resources)


def test_beaker_goes_away(beaker: LocalBeaker, door: BeakerDoor, clock: Clock) -> None:
    """While the server is down steps are held back, and what was seen is good for a while."""
    scheduler = connected(AvailableBeakerScheduler(["ai2/saturn"], "normal"), door, clock)
    steps = {name: asking(name, gpu_count=1) for name in "abc"}
    placing = BeakerPlacing(scheduler, steps, clock=clock)
    placing.schedule("a", steps["a"].resources)
    beaker.stop()
    clock.now += 6.0
    placing.schedule("b", steps["b"].resources)
    fresh = connected(SimpleBeakerScheduler(["ai2/saturn"], "normal"), door, clock)
    with pytest.raises(ResourceAssignmentError, match="cannot be asked for room now"):
        BeakerPlacing(fresh, steps, clock=clock).schedule("c", steps["c"].resources)


def _hosts(beaker: LocalBeaker) -> dict[str, str]:
    with beaker.client() as client:
        return {each.hostname: each.id for each in client.node.list()}
