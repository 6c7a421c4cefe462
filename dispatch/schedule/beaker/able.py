"""Which clusters can ever hold a step, and in words why the others cannot.

Beaker is told clusters, not nodes: a cluster whose nodes have GPUs of several types can hold a step that asks
for one of them only if every node that may be chosen is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dispatch.errors import UnrecoverableResourceAssignmentError
from dispatch.schedule.beaker.fleet import Fleet, Machine, Place
from dispatch.schedule.beaker.terms import Terms, terms_of
from dispatch.schedule.demand import Demand
from dispatch.units import format_duration, format_size

if TYPE_CHECKING:
    from dispatch.schedule.beaker.base import ScheduledStep

_REMEDY = "ask for less in the step's `step_resources`, or name other clusters"


def clusters_for(step: ScheduledStep, clusters: Sequence[str]) -> tuple[str, ...]:
    """The names of the clusters to look at for a step: its own, where it names some."""
    machine = step.resources.machine
    if machine is not None:
        return (machine,)
    terms: Terms = terms_of(step.metadata)
    return terms.clusters or tuple(clusters)


def able(fleet: Fleet, names: Sequence[str], step: ScheduledStep, age: float) -> list[Place]:
    """Return those of the clusters that can hold a step, by what they have when idle.

    :raises UnrecoverableResourceAssignmentError: if none can, with what is asked for and what there is
    """
    demand = Demand.of(step.resources)
    places = fleet.places(names, age)
    reasons = {place.name: _obstacle(place, demand, step.timeout) for place in places}
    found = [place for place in places if not reasons[place.name]]
    if found:
        return found
    facts = "; ".join(f"{name} {reason}" for name, reason in reasons.items()) or "there is none"
    asked = in_words(demand, step.timeout)
    fact = f"it asks for {asked}, which no cluster can ever give: {facts}"
    raise UnrecoverableResourceAssignmentError(fact, _REMEDY)


def in_words(demand: Demand, timeout: float | None = None) -> str:
    """What is asked for."""
    words = [demand.gpus_in_words] if demand.gpus else []
    words += [demand.cpus_in_words] if demand.cpus else []
    words += [f"{format_size(demand.memory)} of memory"] if demand.memory else []
    words += [f"a time limit of {format_duration(timeout)}"] if timeout else []
    return ", ".join(words) or "a slot"


def _obstacle(place: Place, demand: Demand, timeout: float | None) -> str:
    """Why a cluster cannot hold a job; empty where it can."""
    limit = place.cluster.max_task_timeout
    if timeout is not None and limit is not None and timeout > limit:
        return f"allows {format_duration(limit)}"
    machines = place.machines
    if not machines:
        return "has no nodes"
    typed = [machine for machine in machines if machine.is_of_type(demand)]
    if any(machine.holds(demand) for machine in typed):
        return _mixed(machines, demand)
    if demand.gpus > max((machine.node.gpus for machine in typed), default=0):
        return f"has {_gpus(machines)}"
    if (demand.memory or 0) > max(machine.node.memory for machine in typed):
        return f"has {format_size(max(machine.node.memory for machine in typed))} of memory a node"
    return f"has {max(machine.node.cpus for machine in typed)} CPUs a node"


def _mixed(machines: Sequence[Machine], demand: Demand) -> str:
    """Why a cluster with the right GPUs could give others all the same."""
    if demand.gpu_type is None:
        return ""
    wrong = {
        machine.node.gpu_type
        for machine in machines
        if machine.node.gpus >= max(1, demand.gpus) and not machine.is_of_type(demand)
    }
    return f"has nodes with {', '.join(sorted(wrong))}, too, which it might give instead" if wrong else ""


def _gpus(machines: Sequence[Machine]) -> str:
    """The largest node of each type of GPU, in words."""
    most: dict[str, int] = {}
    for machine in machines:
        if machine.node.gpus:
            kind = machine.node.gpu_type or "a type that it does not tell"
            most[kind] = max(most.get(kind, 0), machine.node.gpus)
    return ", ".join(f"{count} of {kind} a node" for kind, count in sorted(most.items())) or "no GPUs"
