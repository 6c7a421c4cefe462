"""The half of a workspace that a step's own process calls: a step starts, finishes or fails.

Owns who started what in this process and in which order it may end; storing and recording are left to the
workspace, in three verbs. A step that is not to be cached leaves no trace.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from dispatch.errors import StepStateError
from dispatch.info import StepRecord
from dispatch.workspace import records
from dispatch.workspace.base import Workspace
from dispatch.workspace.cache import is_used_up

if TYPE_CHECKING:
    from datetime import datetime

    from dispatch.step import Step
    from dispatch.workspace.base import StepLike

T = TypeVar("T")


@dataclass(frozen=True)
class Started:
    """A step that started in this process: its record, when, and the workspace's own token of the attempt."""

    record: StepRecord
    at: datetime
    token: Any


class WorkspaceHere(Workspace):
    """A workspace whose steps may run in this process; derive from it, and say what the three verbs do."""

    def __init__(self) -> None:
        self._here: dict[str, Started] = {}

    @abstractmethod
    def _begin(self, record: StepRecord) -> Started:
        """Claim the step for this process; StepStateError where that cannot be."""

    @abstractmethod
    def _keep(self, started: Started, value: Any, step: Step) -> None:
        """Store the value as the step's result, durably. Whatever it raises is the step's failure."""

    @abstractmethod
    def _give_up(self, started: Started, error: BaseException) -> None:
        """Record the failure."""

    def step_starting(self, step: StepLike) -> None:
        """Note that a step starts in this process; see :meth:`Workspace.step_starting`."""
        record = records.record_of(step)
        if record.cacheable:
            self._here[record.unique_id] = self._begin(record)

    def step_finished(self, step: Step, result: T) -> T:
        """Store the result of a step that was starting here; see :meth:`Workspace.step_finished`."""
        if not step.cache_results:
            return result
        started = self._started(step.unique_id)
        try:
            self._keep(started, result, step)
        except BaseException as error:
            self.step_failed(started.record, error)
            raise
        del self._here[step.unique_id]
        if is_used_up(result):
            stored: T = self.step_cache[step]
            return stored
        return result

    def step_failed(self, step: StepLike, e: BaseException) -> None:
        """Note that a step that was starting here failed; see :meth:`Workspace.step_failed`."""
        if step.cacheable if isinstance(step, StepRecord) else step.cache_results:
            self._give_up(self._started(step.unique_id), e)
            del self._here[step.unique_id]

    def _started(self, unique_id: str) -> Started:
        if unique_id not in self._here:
            raise StepStateError(
                f"step {unique_id}: was not starting in this process", "call step_starting first"
            )
        return self._here[unique_id]
