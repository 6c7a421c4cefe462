"""The Scheduler protocol and what it hands out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dispatch.engine.base import Placement, Resources
from dispatch.errors import ResourceAssignmentError
from dispatch.step import StepResources


@dataclass(frozen=True)
class ResourceAssignment:
    """What a step is given: CPUs, bytes of memory and of shared memory (None: no limit), GPU device ids.

    Of an engine of many machines: how many GPUs, and where, in ``placement``.
    """

    cpus: float | None = None
    memory: int | None = None
    shared_memory: int | None = None
    gpus: tuple[str, ...] = ()
    gpu_count: int = 0
    placement: Placement | None = None

    @property
    def resources(self) -> Resources:
        """What the engine is told to give."""
        return Resources(self.cpus, self.memory, self.shared_memory, self.gpus, self.gpu_count)


class GroupFullError(ResourceAssignmentError):
    """As many steps of a group run as may; nothing that other steps could take is waited for."""


class Scheduler(Protocol):
    """Decides whether and with what a step may run now. Called from one thread."""

    def schedule(
        self, unique_id: str, resources: StepResources, group: str | None = None
    ) -> ResourceAssignment:
        """Reserve what a step asks for until ``release``, and a place in its group.

        :raises GroupFullError: when there is no place in its group now
        :raises ResourceAssignmentError: when there is no room for it now
        :raises UnrecoverableResourceAssignmentError: when there never will be
        """

    def refuse_impossible(self, resources: StepResources) -> None:
        """Say before anything starts whether there ever can be room; reserves nothing.

        :raises UnrecoverableResourceAssignmentError: when there never will be
        """

    def release(self, unique_id: str) -> None:
        """Give back what was reserved; a step without a reservation is ignored."""
