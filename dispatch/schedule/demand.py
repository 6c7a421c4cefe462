"""What a step asks for in plain numbers, and whether a machine can ever give it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from dispatch.engine.base import Capabilities
from dispatch.errors import UnrecoverableResourceAssignmentError
from dispatch.step import StepResources
from dispatch.units import format_size

GPU_SHARED_MEMORY = 5 * 1024**3
LOCAL = "local"
_REMEDY = "ask for less in the step's `step_resources`, or use a larger machine"


@dataclass(frozen=True)
class Demand:
    """What one step asks for: CPUs, bytes, and a number of GPUs, all of one type if it names one."""

    cpus: float | None
    memory: int | None
    shared_memory: int | None
    gpus: int
    gpu_type: str | None
    machine: str | None

    @classmethod
    def of(cls, resources: StepResources) -> Demand:
        """Read what a step asks for. A type of GPU without a number is one of it."""
        return _of(resources)

    def fitting(self, has: Capabilities) -> tuple[str, ...]:
        """Return the machine's GPUs of the type that is asked for."""
        if self.gpu_type is None:
            return has.gpus
        wanted = self.gpu_type.casefold()
        return tuple(
            gpu
            for gpu, kind in zip(has.gpus, has.gpu_types, strict=False)
            if kind and wanted in kind.casefold()
        )

    @property
    def cpus_in_words(self) -> str:
        """How many CPUs are asked for."""
        return f"{self.cpus or 0:g} {'CPU' if self.cpus == 1 else 'CPUs'}"

    @property
    def gpus_in_words(self) -> str:
        """How many GPUs are asked for."""
        kind = f" of the type {self.gpu_type!r}" if self.gpu_type is not None else ""
        return f"{self.gpus} {'GPU' if self.gpus == 1 else 'GPUs'}{kind}"


# A run asks thousands of times with few shapes, and reading a size costs more than all the rest.
@lru_cache(maxsize=1024)
def _of(resources: StepResources) -> Demand:
    gpus = resources.gpu_count
    if gpus is None:
        gpus = 0 if resources.gpu_type is None else 1
    shared_memory = resources.shared_memory_bytes
    if shared_memory is None and gpus:
        shared_memory = GPU_SHARED_MEMORY
    return Demand(
        cpus=resources.cpu_count,
        memory=resources.memory_bytes,
        shared_memory=shared_memory,
        gpus=gpus,
        gpu_type=resources.gpu_type,
        machine=resources.machine,
    )


def refuse_excess(demand: Demand, has: Capabilities) -> None:
    """Refuse what a machine could not give if nothing else ran on it.

    :raises UnrecoverableResourceAssignmentError: with what is asked for and what there is
    """
    engine = f"the engine {has.name!r}"
    if (demand.cpus or 0) > has.cpus:
        fact = f"it asks for {demand.cpus_in_words}, {engine} has {has.cpus}"
    elif (demand.memory or 0) > has.memory:
        asked = format_size(demand.memory or 0)
        fact = f"it asks for {asked} of memory, {engine} has {format_size(has.memory)}"
    elif demand.gpus > len(has.gpus):
        fact = f"it asks for {demand.gpus_in_words}, {engine} has {len(has.gpus)}"
    elif demand.gpus > len(demand.fitting(has)):
        fact = f"it asks for {demand.gpus_in_words}, {engine} has {_models(has)}"
    elif demand.machine not in (None, LOCAL):
        fact = f"it asks for the machine {demand.machine!r}, {engine} has only this one"
    else:
        return
    raise UnrecoverableResourceAssignmentError(fact, _REMEDY)


def _models(has: Capabilities) -> str:
    """The GPUs of a machine in words: how many of which model."""
    known = [kind for kind in has.gpu_types if kind]
    models = [f"{count} of {kind}" for kind, count in Counter(known).items()]
    if len(known) < len(has.gpus):
        models.append(f"{len(has.gpus) - len(known)} of a type that it does not tell")
    return ", ".join(models)
