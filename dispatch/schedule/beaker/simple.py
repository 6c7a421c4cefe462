"""The scheduler that is used if none is named: any of the given clusters that has enough resources."""

from __future__ import annotations

from typing import Any

from dispatch.schedule.beaker.able import able, clusters_for
from dispatch.schedule.beaker.base import BeakerScheduler, ResourceAssignment
from dispatch.schedule.beaker.fleet import KNOWN
from dispatch.schedule.beaker.terms import clusters_of, priority_of, terms_of


@BeakerScheduler.register("simple")
class SimpleBeakerScheduler(BeakerScheduler):
    """Searches the given clusters for those with enough resources to match what a step requires.

    "Enough" is what nodes have in all: where nothing is free now, the job waits in Beaker's queue, for any of
    the clusters. ``clusters`` are names (none: all of the organisation), ``priority`` is that of all steps,
    save such as say another one in their ``step_metadata`` (``beaker: {priority: high}``; and ``clusters``).
    """

    def __init__(self, clusters: list[str], priority: Any = "normal") -> None:
        self.clusters = clusters
        self.priority = priority

    def schedule(self, step: Any) -> ResourceAssignment:
        """Return all clusters that can run a step; those whose nodes are all closed now come in only alone.

        :raises UnrecoverableResourceAssignmentError: if none has enough
        """
        places = able(self.fleet, self._names(step), step, KNOWN)
        open_now = [place for place in places if not all(each.cordoned for each in place.machines)]
        names = [place.name for place in open_now or places]
        return ResourceAssignment(names, step.resources, self._priority(step))

    def refuse_impossible(self, step: Any) -> None:
        """See :class:`BeakerScheduler`."""
        able(self.fleet, self._names(step), step, KNOWN)

    def _names(self, step: Any) -> tuple[str, ...]:
        return clusters_for(step, clusters_of(self.clusters))

    def _priority(self, step: Any) -> str:
        return terms_of(step.metadata).over(priority_of(self.priority)).priority
