"""The scheduler that submits nothing before there is room: steps wait here instead of in Beaker's queue.

Owns the account of what it gave away and Beaker does not show yet. A slot is what Beaker counts: a GPU of a
node that has any, else a share of the node. Of a node with GPUs nobody tells what is left of its CPUs: there
is always room for a step without GPUs, but nodes without any are taken first.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dispatch.errors import ResourceAssignmentError
from dispatch.schedule.beaker.able import able, in_words
from dispatch.schedule.beaker.base import BeakerScheduler, ResourceAssignment
from dispatch.schedule.beaker.fleet import Machine, Place
from dispatch.schedule.beaker.simple import SimpleBeakerScheduler
from dispatch.schedule.demand import Demand

# Between a job's submission and its being seen in a slot or in the queue.
UNSEEN = 3.0


@dataclass(frozen=True)
class _Given:
    """What a step of ours has of a cluster, and since when."""

    cluster: str
    demand: Demand
    at: float


@dataclass(frozen=True)
class _Room:
    """How many slots of a cluster are free that can hold a step now, and whether its nodes have GPUs."""

    place: Place
    free: int
    borrowed: bool


@BeakerScheduler.register("available")
class AvailableBeakerScheduler(SimpleBeakerScheduler):
    """Gives a step a cluster where slots that can hold it are free at this moment.

    Of several it is the one with the fewest jobs waiting, then the one that has the fewest steps of this run,
    then the one with the most free slots. ``clusters`` and ``priority`` are as for ``simple``.
    """

    def __init__(self, clusters: list[str], priority: Any = "normal") -> None:
        super().__init__(clusters, priority)
        self._given: dict[str, _Given] = {}

    def schedule(self, step: Any) -> ResourceAssignment:
        """Return the one cluster to use.

        :raises ResourceAssignmentError: if nowhere is room now
        :raises UnrecoverableResourceAssignmentError: if there never will be
        """
        fleet, demand = self.fleet, Demand.of(step.resources)
        places = able(fleet, self._names(step), step, fleet.fresh)
        rooms = [room for place in places if (room := self._room(place, demand)) is not None]
        if not rooms:
            shown = ", ".join(f"{place.name}: {self._free(place)}" for place in places)
            fact = f"it asks for {in_words(demand)}, no cluster has that free"
            raise ResourceAssignmentError(f"{fact} ({shown})")
        ours = Counter(given.cluster for given in self._given.values())
        best = min(
            rooms,
            key=lambda room: (
                room.borrowed,
                room.place.cluster.queued or 0,
                ours[room.place.name],
                -room.free,
            ),
        )
        self._given[step.unique_id] = _Given(best.place.name, demand, fleet.clock())
        return ResourceAssignment(best.place.name, step.resources, self._priority(step))

    def release(self, unique_id: str) -> None:
        """See :class:`BeakerScheduler`."""
        self._given.pop(unique_id, None)

    def _room(self, place: Place, demand: Demand) -> _Room | None:
        """What there is for a step; None for no room."""
        machines, free = self._open(place)
        fitting = [index for index, machine in enumerate(machines) if machine.holds(demand)]
        if not demand.gpus:
            bare = [index for index in fitting if not machines[index].node.gpus]
            if not any(free[index] >= _slots(machines[index], demand) for index in bare):
                return _Room(place, 0, borrowed=True) if len(bare) < len(fitting) else None
            fitting = bare
        if not any(free[index] >= _slots(machines[index], demand) for index in fitting):
            return None
        return _Room(place, sum(free[index] for index in fitting), borrowed=False)

    def _open(self, place: Place) -> tuple[list[Machine], list[int]]:
        """The nodes that take jobs, and their free slots, less what Beaker cannot have counted yet."""
        machines = [machine for machine in place.machines if not machine.cordoned]
        free = _free_slots(place, machines)
        for given in self._given.values():
            if given.cluster != place.name or given.at < place.seen - UNSEEN:
                continue
            # Where it will be is Beaker's choice; the tightest place leaves most to the next one.
            likely = [
                index
                for index, machine in enumerate(machines)
                if machine.holds(given.demand) and free[index] >= _slots(machine, given.demand) > 0
            ]
            if likely:
                index = min(likely, key=lambda each: free[each])
                free[index] -= _slots(machines[index], given.demand)
        return machines, free

    def _free(self, place: Place) -> str:
        return f"{sum(self._open(place)[1])} of {sum(machine.slots for machine in place.machines)} slots free"


def _free_slots(place: Place, machines: Sequence[Machine]) -> list[int]:
    """What is free of each node; of one that does not tell, as much as the cluster tells in all."""
    total = place.cluster.free_slots or 0
    return [machine.free if machine.free is not None else min(machine.slots, total) for machine in machines]


def _slots(machine: Machine, demand: Demand) -> int:
    """How many of a node's slots a job takes; of a node with GPUs, its GPUs."""
    if machine.node.gpus:
        return demand.gpus
    shares = [
        part / whole
        for part, whole in ((demand.cpus, machine.node.cpus), (demand.memory, machine.node.memory))
        if part and whole
    ]
    return max(1, math.ceil(max(shares, default=0) * machine.slots - 1e-9))
