"""One scheduler in front of two, for runs whose steps are in two places."""

from __future__ import annotations

from collections.abc import Callable

from dispatch.resources import StepResources
from dispatch.schedule.base import ResourceAssignment, Scheduler


class RoutedScheduler:
    """Asks ``near`` for the steps that ``is_near`` knows by their unique ids, and ``far`` for all others."""

    def __init__(self, far: Scheduler, near: Scheduler, is_near: Callable[[str], bool]) -> None:
        self._far = far
        self._near = near
        self._is_near = is_near

    def schedule(
        self, unique_id: str, resources: StepResources, group: str | None = None
    ) -> ResourceAssignment:
        """See :class:`~dispatch.schedule.base.Scheduler`."""
        return self._of(unique_id).schedule(unique_id, resources, group)

    def refuse_impossible(self, resources: StepResources) -> None:
        """See :class:`~dispatch.schedule.base.Scheduler`: it is not told which place is meant, and both may be."""
        self._far.refuse_impossible(resources)

    def release(self, unique_id: str) -> None:
        """See :class:`~dispatch.schedule.base.Scheduler`."""
        self._of(unique_id).release(unique_id)

    def _of(self, unique_id: str) -> Scheduler:
        return self._near if self._is_near(unique_id) else self._far
