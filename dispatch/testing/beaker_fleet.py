"""Clusters of a Beaker that is not there: what they have, what is free of it, and how often it was asked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from dispatch._beaker.model import Cluster, Node
from dispatch._beaker.occupancy import Look, NodeSlots
from dispatch.errors import EngineError
from dispatch.schedule.beaker import Fleet, ScheduledStep
from dispatch.step import StepResources

GIB = 1024**3


@dataclass
class FakeClusters:
    """A source for a fleet. ``asked`` are the questions; ``error`` is raised as long as it is set."""

    looks: list[Look] = field(default_factory=list)
    machines: dict[str, list[Node]] = field(default_factory=dict)
    organization: str = "ai2"
    asked: list[str] = field(default_factory=list)
    error: EngineError | None = None
    now: float = 1000.0

    def clusters(self, organization: str) -> list[Look]:
        """The looks at the clusters of an organisation."""
        self.asked.append(organization)
        if self.error is not None:
            raise self.error
        return [look for look in self.looks if look.cluster.name.startswith(f"{organization}/")]

    def nodes(self, cluster: Cluster) -> list[Node]:
        """The nodes of a cluster."""
        self.asked.append(cluster.name)
        return list(self.machines[cluster.id])

    def add(
        self, name: str, *nodes: Node, queued: int = 0, limit: float | None = None, alias: str = ""
    ) -> None:
        """Add a cluster; each node's slots are its GPUs, or its CPUs where it has none, all free."""
        key = f"id-{name.replace('/', '-')}"
        slots = {each.id: _slots(each) for each in nodes}
        total, free = (sum(getattr(each, part) for each in slots.values()) for part in ("total", "free"))
        cluster = Cluster(key, name, (alias,) if alias else (), total, free, queued, limit)
        self.looks.append(Look(cluster, slots))
        self.machines[key] = list(nodes)

    def take(self, host: str, count: int) -> None:
        """Have others use slots of a node."""
        for index, look in enumerate(self.looks):
            slots = look.slots.get(host)
            if slots is not None:
                changed = {**look.slots, host: replace(slots, free=slots.free - count)}
                self.looks[index] = replace(look, slots=changed)

    def tell_no_nodes(self) -> None:
        """Tell of clusters only, as some servers might."""
        self.looks = [replace(look, slots={}) for look in self.looks]

    def fleet(self) -> Fleet:
        """A fleet that looks here, by our clock."""
        return Fleet(self, lambda: self.now)


def node(
    host: str, gpus: int = 0, kind: str = "", cpus: int = 64, memory: int = 512, *, cordoned: bool = False
) -> Node:
    """A node, whose id is its name; ``memory`` is in GiB."""
    return Node(host, host, cpus, memory * GIB, gpus, kind, cordoned)


def asking(unique_id: str = "Train-a", timeout: float | None = None, **resources: object) -> ScheduledStep:
    """A step that asks for resources; ``beaker`` is what its metadata say under that key."""
    told = resources.pop("beaker", None)
    wanted = StepResources.from_config(resources)
    return ScheduledStep(
        "train", unique_id, wanted, {} if told is None else {"beaker": told}, timeout=timeout
    )


def _slots(node: Node) -> NodeSlots:
    total = node.gpus or node.cpus
    return NodeSlots(total, 0, total) if node.cordoned else NodeSlots(total, total, 0)
