"""Placement on one machine: packs steps into its CPUs, memory and GPUs, up to a number of steps at once.

Owns the account of what the steps of this run hold, and counts with it what other clients hold. A step that
asks for no CPUs or memory reserves none: the number of steps alone holds it back. Refuses to start anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from dispatch.engine.base import Capabilities, Holding
from dispatch.errors import ResourceAssignmentError, UnrecoverableResourceAssignmentError
from dispatch.schedule.base import GroupFullError, ResourceAssignment
from dispatch.schedule.demand import Demand, refuse_excess
from dispatch.step import StepResources
from dispatch.units import format_size

NO_GROUPS: Mapping[str, int] = {}


def _nobody() -> tuple[Holding, ...]:
    return ()


@dataclass
class _Total:
    """What several steps hold together. CPUs are in billionths: fractions of them add up exactly."""

    nano_cpus: int = 0
    memory: int = 0
    gpus: set[str] = field(default_factory=set)

    def add(self, cpus: float | None, memory: int | None, gpus: tuple[str, ...]) -> None:
        self.nano_cpus += _nano(cpus)
        self.memory += memory or 0
        self.gpus.update(gpus)

    def take_back(self, held: ResourceAssignment) -> None:
        self.nano_cpus -= _nano(held.cpus)
        self.memory -= held.memory or 0
        self.gpus.difference_update(held.gpus)


class LocalScheduler:
    """Schedules for an engine on one machine; at most ``parallelism`` steps hold something at a time.

    ``groups`` says how many of a group may at a time. ``others`` tells what other clients hold of the
    machine, the same tuple as long as that is unchanged. Jobs whose directories are below ``home`` are of
    the run's own workspace: one that a client before us left running is its step's, and holds for it.
    """

    def __init__(
        self,
        capabilities: Capabilities,
        parallelism: int,
        *,
        groups: Mapping[str, int] = NO_GROUPS,
        others: Callable[[], tuple[Holding, ...]] = _nobody,
        home: Path | None = None,
    ) -> None:
        self._capabilities = capabilities
        self._parallelism = parallelism
        self._groups = groups
        self._others = others
        self._home = home
        self._held: dict[str, tuple[ResourceAssignment, str | None]] = {}
        self._in_group: Counter[str | None] = Counter()
        self._own = _Total()
        self._foreign: tuple[Holding, ...] = ()
        self._theirs = _Total()
        self._left: dict[str, Holding] = {}

    def schedule(
        self, unique_id: str, resources: StepResources, group: str | None = None
    ) -> ResourceAssignment:
        """See :class:`~dispatch.schedule.base.Scheduler`; a step that holds already gets the same again.

        So does one whose job runs already: whatever is full, it holds what its job does.
        """
        if unique_id in self._held:
            return self._held[unique_id][0]
        demand = Demand.of(resources)
        refuse_excess(demand, self._capabilities)
        self._count_others()
        left = self._left.get(unique_id)
        if left is not None:
            gpus = left.resources.gpus
        else:
            self._refuse_crowd(group)
            gpus = self._fitting(demand)
        assignment = ResourceAssignment(demand.cpus, demand.memory, demand.shared_memory, gpus)
        self._held[unique_id] = assignment, group
        self._in_group[group] += 1
        self._own.add(assignment.cpus, assignment.memory, gpus)
        return assignment

    def release(self, unique_id: str) -> None:
        """See :class:`~dispatch.schedule.base.Scheduler`."""
        if unique_id in self._held:
            assignment, group = self._held.pop(unique_id)
            self._in_group[group] -= 1
            self._own.take_back(assignment)

    def refuse_impossible(self, resources: StepResources) -> None:
        """See :class:`~dispatch.schedule.base.Scheduler`: judged by what the machine has when idle."""
        refuse_excess(Demand.of(resources), self._capabilities)

    def _count_others(self) -> None:
        foreign = self._others()
        if foreign is self._foreign:
            return
        self._foreign, self._theirs, self._left = foreign, _Total(), {}
        for holding in foreign:
            held = holding.resources
            self._theirs.add(held.cpus, held.memory, held.gpus)
            if self._home is not None and PurePath(holding.directory).is_relative_to(self._home):
                self._left[holding.key.rpartition(".")[0]] = holding

    def _refuse_crowd(self, group: str | None) -> None:
        """Hold a step back that would be one too many, of its group or of all."""
        if group is not None and group not in self._groups:
            raise UnrecoverableResourceAssignmentError(f"it is of the group {group!r}, which is not known")
        if group is not None and self._in_group[group] >= self._groups[group]:
            fact = f"{self._in_group[group]} steps of the group {group!r} run, and no more may at once"
            raise GroupFullError(fact)
        if len(self._held) >= self._parallelism:
            raise ResourceAssignmentError(f"{len(self._held)} steps run, and no more may at once")

    def _fitting(self, demand: Demand) -> tuple[str, ...]:
        """Return GPUs for a step that fits into what is free now."""
        has, own, theirs = self._capabilities, self._own, self._theirs
        free_cpus = max(0, _nano(has.cpus) - own.nano_cpus - theirs.nano_cpus)
        if _nano(demand.cpus) > free_cpus:
            left = f"{free_cpus / 1e9:g} are free"
            raise _full(demand.cpus_in_words, left, f"{theirs.nano_cpus / 1e9:g}" if theirs.nano_cpus else "")
        free_memory = max(0, has.memory - own.memory - theirs.memory)
        if (demand.memory or 0) > free_memory:
            asked, left = (
                f"{format_size(demand.memory or 0)} of memory",
                f"{format_size(free_memory)} are free",
            )
            raise _full(asked, left, format_size(theirs.memory) if theirs.memory else "")
        if not demand.gpus:
            return ()
        fitting = demand.fitting(has)
        gpus = tuple(gpu for gpu in fitting if gpu not in own.gpus and gpu not in theirs.gpus)
        if demand.gpus > len(gpus):
            lent = len(theirs.gpus.intersection(fitting))
            raise _full(demand.gpus_in_words, f"{len(gpus)} are free", str(lent) if lent else "")
        return gpus[: demand.gpus]


def _nano(cpus: float | None) -> int:
    return round((cpus or 0) * 1e9)


def _full(asked: str, left: str, lent: str) -> ResourceAssignmentError:
    elsewhere = f", other clients hold {lent}" if lent else ""
    return ResourceAssignmentError(f"it asks for {asked}, {left}{elsewhere}")
