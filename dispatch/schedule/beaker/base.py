"""What users see of scheduling on Beaker: who decides, what is asked, and what is answered.

Importing this needs no beaker-py: a scheduler may be written, and configured, where none is installed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from dispatch.errors import ConfigurationError
from dispatch.registrable import Registrable
from dispatch.resources import StepResources

if TYPE_CHECKING:
    from dispatch._beaker import BeakerDoor
    from dispatch.schedule.beaker.fleet import Fleet

_TOO_EARLY = "use it in `schedule`: the executor connects the scheduler before it asks for the first step"


class ResourceAssignment(NamedTuple):
    """Resources assigned to a step.

    ``cluster`` is a cluster to run it on, or several of which one is enough; an empty list is any at all.
    ``resources`` are those to allocate there: an object with ``cpu_count``, ``gpu_count``, ``memory`` and
    ``shared_memory`` (a step's own resources, or beaker-py's ``BeakerTaskResources``), a mapping with these
    keys, or None for what the step asks for. ``priority`` is a name, or a member of beaker-py's enumeration.
    """

    cluster: Any
    resources: Any
    priority: Any


@dataclass(frozen=True)
class ScheduledStep:
    """A step as schedulers see it. ``timeout`` is how many seconds an attempt at it may run."""

    name: str
    unique_id: str
    resources: StepResources = field(default_factory=StepResources)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    timeout: float | None = None


class BeakerScheduler(Registrable, ABC):
    """Determines which resources and priority to assign to the execution of a step.

    Register your own: ``@BeakerScheduler.register("mine")``. Called from one thread.
    """

    default_implementation = "simple"

    # On the class, so that a subclass whose __init__ does not call ours has them, too.
    _door: BeakerDoor | None = None
    _client: Any = None
    _known: Fleet | None = None

    @property
    def beaker(self) -> Any:
        """The Beaker client: beaker-py's own, of the executor's account. It is there when steps run."""
        if self._client is None:
            if self._door is None:
                raise ConfigurationError(f"{type(self).__name__}: has no Beaker client yet", _TOO_EARLY)
            from dispatch._beaker.client import vendor

            self._client = vendor(self._door.account.client)
        return self._client

    @beaker.setter
    def beaker(self, client: Any) -> None:
        """Use another client."""
        self._client = client

    @property
    def fleet(self) -> Fleet:
        """The clusters, as our own schedulers look at them."""
        if self._known is None:
            raise ConfigurationError(f"{type(self).__name__}: has no clusters yet", _TOO_EARLY)
        return self._known

    def connect(self, door: BeakerDoor | None, fleet: Fleet) -> None:
        """Have it look at Beaker through a door. Nothing is sent."""
        self._door = door
        self._known = fleet

    @abstractmethod
    def schedule(self, step: Any) -> Any:
        """Determine the :class:`ResourceAssignment` for a step (a :class:`ScheduledStep`).

        :raises ResourceAssignmentError: if there are not enough free resources at the moment to run the
            step; it is asked for again
        :raises UnrecoverableResourceAssignmentError: if there never will be
        """

    def refuse_impossible(self, step: Any) -> None:
        """Say before anything starts whether a step can ever run; by default, nothing is known of that.

        :raises UnrecoverableResourceAssignmentError: if it cannot
        """

    def release(self, unique_id: str) -> None:
        """A step that was scheduled holds its resources no more."""
