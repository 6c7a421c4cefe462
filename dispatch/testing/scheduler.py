"""A scheduler that counts: how often it was asked, and what is held now and was held at most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping

from dispatch.errors import ResourceAssignmentError, UnrecoverableResourceAssignmentError
from dispatch.schedule import ResourceAssignment
from dispatch.schedule.base import GroupFullError
from dispatch.step import StepResources


class FakeScheduler:
    """Implements :class:`~dispatch.schedule.Scheduler`: room for ``parallelism`` steps, never for some.

    ``never`` holds unique ids; of a group in ``groups`` only so many run at once. While ``full`` is true
    there is no room at all.
    """

    def __init__(
        self, parallelism: int = 2, never: Container[str] = (), groups: Mapping[str, int] | None = None
    ) -> None:
        self._parallelism = parallelism
        self._never = never
        self._groups = dict(groups or {})
        self._group_of: dict[str, str] = {}
        self.group_peaks: Counter[str] = Counter()
        self.full = False
        self.asked = 0
        self.held: set[str] = set()
        self.peak = 0

    def refuse_impossible(self, resources: StepResources) -> None:
        """Nothing is impossible by its resources; ``never`` refuses by id, when it is scheduled."""

    def schedule(
        self,
        unique_id: str,
        resources: StepResources,  # noqa: ARG002
        group: str | None = None,
    ) -> ResourceAssignment:
        """Reserve a place."""
        self.asked += 1
        if unique_id in self._never:
            raise UnrecoverableResourceAssignmentError("it asks for more than there is")
        if unique_id in self.held:
            raise AssertionError(f"{unique_id} holds a place already")
        if self.full or len(self.held) >= self._parallelism:
            raise ResourceAssignmentError("no room now")
        if group is not None:
            among = sum(1 for other in self._group_of.values() if other == group) + 1
            if among > self._groups.get(group, among):
                raise GroupFullError(f"the group {group!r} is full")
            self._group_of[unique_id] = group
            self.group_peaks[group] = max(self.group_peaks[group], among)
        self.held.add(unique_id)
        self.peak = max(self.peak, len(self.held))
        return ResourceAssignment()

    def release(self, unique_id: str) -> None:
        """Give a place back."""
        self.held.discard(unique_id)
        self._group_of.pop(unique_id, None)
