"""The Scheduler protocol and what it hands out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dispatch.errors import ResourceAssignmentError
from dispatch.step import StepResources


@dataclass(frozen=True)
class ResourceAssignment:
    """What a step is given: CPUs, bytes of memory and of shared memory (None: no limit), GPU device ids."""

    cpus: float | None = None
    memory: int | None = None
    shared_memory: int | None = None
    gpus: tuple[str, ...] = ()


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
