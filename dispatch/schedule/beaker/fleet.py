"""The clusters that steps can be placed on: what their nodes have, and what is free of it.

Owns how old a look may be: nodes are asked for once and again when there are others, what is free every few
seconds at most, whoever asks and however often. Decides nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dispatch.errors import EngineError, UnrecoverableResourceAssignmentError, did_you_mean
from dispatch.schedule.beaker.gputypes import is_type

if TYPE_CHECKING:
    from dispatch._beaker import Cluster, Node
    from dispatch._beaker.occupancy import Look
    from dispatch.schedule.demand import Demand

FRESH = 5.0
KNOWN = 120.0


class Source(Protocol):
    """Who is asked; see :class:`dispatch._beaker.occupancy.Occupancy`."""

    @property
    def organization(self) -> str:
        """The organisation of names that tell none."""

    def clusters(self, organization: str) -> list[Look]:
        """The clusters of an organisation."""

    def nodes(self, cluster: Cluster) -> list[Node]:
        """The nodes of a cluster."""


@dataclass(frozen=True)
class Machine:
    """A node: what it has in all, and how many of its slots are free (None: not told)."""

    node: Node
    slots: int
    free: int | None
    cordoned: bool

    def holds(self, demand: Demand) -> bool:
        """Whether it could run a job if nothing else ran on it. What Beaker does not tell is enough."""
        node = self.node
        return (
            demand.gpus <= node.gpus
            and (not node.cpus or (demand.cpus or 0) <= node.cpus)
            and (not node.memory or (demand.memory or 0) <= node.memory)
            and self.is_of_type(demand)
        )

    def is_of_type(self, demand: Demand) -> bool:
        """Whether its GPUs are of the type that is asked for, if any is."""
        return demand.gpu_type is None or is_type(self.node.gpu_type, demand.gpu_type)


@dataclass(frozen=True)
class Place:
    """A cluster, its nodes, and when it was looked at (by the fleet's clock)."""

    cluster: Cluster
    machines: tuple[Machine, ...]
    seen: float

    @property
    def name(self) -> str:
        """``org/name``."""
        return self.cluster.name


@dataclass(frozen=True)
class _Seen:
    at: float
    looks: Mapping[str, Look]


class Fleet:
    """Looks at clusters through a source. For one thread."""

    def __init__(
        self, source: Source, clock: Callable[[], float] = time.monotonic, fresh: float = FRESH
    ) -> None:
        self._source = source
        self.clock = clock
        self.fresh = fresh
        self._seen: dict[str, _Seen] = {}
        self._nodes: dict[str, Mapping[str, Node]] = {}

    def places(self, names: Sequence[str], age: float = KNOWN) -> list[Place]:
        """Return clusters by name, alias or id, each once, as they were ``age`` seconds ago at most.

        Without names, all of the organisation.

        :raises UnrecoverableResourceAssignmentError: for a name that there is not
        :raises EngineError: if Beaker does not answer, and did not before
        """
        own = self._source.organization
        if not names:
            return [self._place(look, own) for look in self._look(own, age).looks.values()]
        found: dict[str, Place] = {}
        for name in names:
            organization = name.partition("/")[0] if "/" in name else own
            look = self._find(name, organization, age)
            found[look.cluster.id] = self._place(look, organization)
        return list(found.values())

    def _find(self, name: str, organization: str, age: float) -> Look:
        looks = self._look(organization, age).looks
        short = name.rpartition("/")[2]
        for look in looks.values():
            cluster = look.cluster
            if name == cluster.id or short == cluster.name.partition("/")[2]:
                return look
        for look in looks.values():
            if short in look.cluster.aliases or name in look.cluster.aliases:
                return look
        known = [look.cluster.name for look in looks.values()]
        raise UnrecoverableResourceAssignmentError(
            f"there is no cluster {name!r}{did_you_mean(name, known)}",
            f"the clusters of {organization!r} are: {', '.join(known) or 'none'}",
        )

    def _look(self, organization: str, age: float) -> _Seen:
        seen, now = self._seen.get(organization), self.clock()
        if seen is not None and now - seen.at <= age:
            return seen
        try:
            looks = self._source.clusters(organization)
        except EngineError:
            # What clusters have does not change; what is free of it is a guess anyway, checked by Beaker.
            if seen is None:
                raise
            looks = list(seen.looks.values())
        # Asked again only after a while, though there was no answer: waiting for one holds up the run.
        self._seen[organization] = _Seen(self.clock(), {look.cluster.id: look for look in looks})
        return self._seen[organization]

    def _place(self, look: Look, organization: str) -> Place:
        machines = []
        for node in self._nodes_of(look).values():
            slots = look.slots.get(node.id)
            if slots is None:
                # Some servers tell of the nodes only that they are there.
                machines.append(Machine(node, node.gpus or 1, None, node.cordoned))
            else:
                closed = slots.cordoned > 0 and slots.free == 0
                machines.append(Machine(node, slots.total, slots.free, closed))
        return Place(look.cluster, tuple(machines), self._seen[organization].at)

    def _nodes_of(self, look: Look) -> Mapping[str, Node]:
        """The nodes; asked for again where the look tells of one that is not known, or no more of one."""
        known = self._nodes.get(look.cluster.id)
        if known is None or (look.slots and look.slots.keys() != known.keys()):
            known = {node.id: node for node in self._source.nodes(look.cluster)}
            self._nodes[look.cluster.id] = known
        return known
