"""Placement on one machine: packs steps into its CPUs, memory and GPUs, up to a number of steps at once.

Owns the account of what the steps of this run hold. A step that asks for no CPUs or memory reserves none:
the number of steps alone holds it back. Refuses to start anything.
"""

from __future__ import annotations

from dispatch.engine.base import Capabilities
from dispatch.errors import ResourceAssignmentError, UnrecoverableResourceAssignmentError
from dispatch.schedule.base import ResourceAssignment
from dispatch.step import StepResources
from dispatch.units import format_size

GPU_SHARED_MEMORY = 5 * 1024**3
LOCAL = "local"
# Fractions such as 0.1 do not add up exactly in floats.
_ROUNDING = 1e-6
_REMEDY = "ask for less in the step's `step_resources`, or use a larger machine"


class LocalScheduler:
    """Schedules for an engine on one machine; at most ``parallelism`` steps hold something at a time."""

    def __init__(self, capabilities: Capabilities, parallelism: int) -> None:
        self._capabilities = capabilities
        self._parallelism = parallelism
        self._held: dict[str, ResourceAssignment] = {}

    def schedule(
        self,
        unique_id: str,
        resources: StepResources,
        group: str | None = None,  # noqa: ARG002
    ) -> ResourceAssignment:
        """See :class:`~dispatch.schedule.base.Scheduler`; a step that holds already gets the same again."""
        if unique_id in self._held:
            return self._held[unique_id]
        self.refuse_impossible(resources)
        if len(self._held) >= self._parallelism:
            raise ResourceAssignmentError(f"{len(self._held)} steps run, and no more may at once")
        wanted_gpus = resources.gpu_count or 0
        gpus = self._free_gpus()
        self._refuse_excess("CPUs", resources.cpu_count or 0, self._free_cpus())
        self._refuse_excess("bytes of memory", resources.memory_bytes or 0, self._free_memory())
        self._refuse_excess("GPUs", wanted_gpus, len(gpus))
        shared_memory = resources.shared_memory_bytes
        if shared_memory is None and wanted_gpus:
            shared_memory = GPU_SHARED_MEMORY
        assignment = ResourceAssignment(
            cpus=resources.cpu_count,
            memory=resources.memory_bytes,
            shared_memory=shared_memory,
            gpus=gpus[:wanted_gpus],
        )
        self._held[unique_id] = assignment
        return assignment

    def release(self, unique_id: str) -> None:
        """See :class:`~dispatch.schedule.base.Scheduler`."""
        self._held.pop(unique_id, None)

    def refuse_impossible(self, resources: StepResources) -> None:
        """See :class:`~dispatch.schedule.base.Scheduler`: judged by what the machine has when idle."""
        has, engine = self._capabilities, f"the engine {self._capabilities.name!r}"
        memory = resources.memory_bytes or 0
        if (resources.cpu_count or 0) > has.cpus:
            fact = f"it asks for {resources.cpu_count:g} CPUs, {engine} has {has.cpus}"
        elif memory > has.memory:
            fact = f"it asks for {format_size(memory)} of memory, {engine} has {format_size(has.memory)}"
        elif (resources.gpu_count or 0) > len(has.gpus):
            fact = f"it asks for {resources.gpu_count} GPUs, {engine} has {len(has.gpus)}"
        elif resources.gpu_type is not None:
            fact = f"it asks for a GPU of the type {resources.gpu_type!r}, {engine} does not know types"
        elif resources.machine not in (None, LOCAL):
            fact = f"it asks for the machine {resources.machine!r}, {engine} has only this one"
        else:
            return
        raise UnrecoverableResourceAssignmentError(fact, _REMEDY)

    def _refuse_excess(self, what: str, wanted: float, free: float) -> None:
        if wanted > free + _ROUNDING:
            raise ResourceAssignmentError(f"it asks for {wanted:g} {what}, {free:g} are free")

    def _free_cpus(self) -> float:
        return self._capabilities.cpus - sum(held.cpus or 0 for held in self._held.values())

    def _free_memory(self) -> int:
        return self._capabilities.memory - sum(held.memory or 0 for held in self._held.values())

    def _free_gpus(self) -> tuple[str, ...]:
        taken = {gpu for held in self._held.values() for gpu in held.gpus}
        return tuple(gpu for gpu in self._capabilities.gpus if gpu not in taken)
