"""The cache of a Beaker workspace, as a mapping from steps to results."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from dispatch.formats import AUTO
from dispatch.workspace.base import StepCache, StepCompletedError
from dispatch.workspace.names import is_unique_id
from dispatch.workspace.records import check_id, facts_of_process, record_of

if TYPE_CHECKING:
    from dispatch.workspace.base import StepLike
    from dispatch.workspace.beaker.steps import BeakerSteps


class BeakerStepCache(StepCache):
    """The results of a Beaker workspace, given by name or id; with copies on this machine.

    ``beaker`` is a client of beaker-py's, whose address and account are used. ``workspace`` is given by a
    workspace that the cache belongs to.
    """

    def __init__(
        self,
        beaker_workspace: str | None = None,
        beaker: Any = None,
        *,
        workspace: BeakerSteps | None = None,
    ) -> None:
        self._workspace = _open(beaker_workspace, beaker) if workspace is None else workspace

    def __contains__(self, step: object) -> bool:
        """Say whether the step has a result here."""
        unique_id = getattr(step, "unique_id", None)
        if not isinstance(unique_id, str) or not is_unique_id(unique_id):
            return False
        return unique_id in self._workspace.completed([unique_id])

    def __getitem__(self, step: StepLike) -> Any:
        """Return the step's result, made anew each time. KeyError where there is none."""
        return self._workspace.results.read(step.unique_id)

    def __setitem__(self, step: StepLike, value: Any) -> None:
        """Store a result. ValueError where the step has one; a step that is not to be cached is ignored."""
        record = record_of(step)
        if not record.cacheable:
            warnings.warn(
                f"step {record.unique_id} is not to be cached: its result is not stored", stacklevel=2
            )
            return
        check_id(record)
        workspace = self._workspace
        started = workspace.site.ports.now()
        try:
            attempt = workspace.claim(record, "")
        except StepCompletedError as error:
            raise ValueError(error.message) from error
        try:
            workspace.results.keep(attempt, record, started, value, getattr(step, "format", AUTO))
        except BaseException as error:
            workspace.fail(attempt, record, facts_of_process(started, workspace.site.ports.now(), error))
            raise

    def __delitem__(self, step: StepLike) -> None:
        """Remove a step's result. KeyError where there is none."""
        if step not in self:
            raise KeyError(step.unique_id)
        self._workspace.remove_result(step.unique_id)

    def __len__(self) -> int:
        """Return the number of results."""
        return self._workspace.num_results()


def _open(name: str | None, beaker: Any) -> BeakerSteps:
    from dispatch._beaker import options_of
    from dispatch.workspace.beaker.workspace import BeakerWorkspace

    return BeakerWorkspace(name, **({} if beaker is None else options_of(beaker)))
