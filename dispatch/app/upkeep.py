"""Looks after a workspace for the commands: searching, removing, checking, repairing, collecting.

Owns what a command may ask of a workspace and in which words it is refused. What is damaged, and what nothing
refers to, is known by ``workspace`` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from dispatch.app.records import named, step_of
from dispatch.errors import ConfigurationError
from dispatch.info import StepInfo, StepState
from dispatch.location import BeakerDataset
from dispatch.workspace.base import StepInfoSort, Workspace
from dispatch.workspace.local import LocalWorkspace

if TYPE_CHECKING:
    from dispatch.workspace.beaker.workspace import BeakerWorkspace
    from dispatch.workspace.check import Finding
    from dispatch.workspace.collect import Collection, Item
    from dispatch.workspace.repair import Repair, Repairs


@dataclass(frozen=True)
class StepQuery:
    """Which steps to list: part of the id or name, the state, and a slice, newest first."""

    match: str | None = None
    state: StepState | None = None
    sort: StepInfoSort = StepInfoSort.START_TIME
    limit: int | None = 20


def search(workspace: Workspace, query: StepQuery) -> tuple[Sequence[StepInfo], int]:
    """The steps that a query finds, and how many there are without its limit."""
    found = workspace.search_step_info(
        sort_by=query.sort,
        sort_descending=query.sort is StepInfoSort.START_TIME,
        match=query.match,
        state=query.state,
        stop=query.limit,
    )
    total = len(found)
    if query.limit is not None and total >= query.limit:
        total = workspace.num_steps(match=query.match, state=query.state)
    return found, total


@dataclass(frozen=True)
class Removal:
    """What would be removed: a step's result and record, or (no ``unique_id``) a run's record.

    ``runs`` are the runs that name the step.
    """

    run: str | None
    unique_id: str | None
    runs: tuple[str, ...] = ()


def plan_removal(workspace: Workspace, run: str | None, step: str | None, unique_id: str | None) -> Removal:
    """Find what a user wants removed. ConfigurationError where there is no such thing."""
    if unique_id is None and run is None:
        raise ConfigurationError(
            "nothing to remove is named", "name RUN, RUN and STEP, or a step with --id UNIQUE_ID"
        )
    if unique_id is None and step is None:
        assert run is not None
        return Removal(named(workspace, run), None)
    if unique_id is None:
        assert run is not None
        assert step is not None
        unique_id = step_of(workspace, named(workspace, run), step).unique_id
    users = [
        record.name
        for record in workspace.run_records(workspace.registered_runs())
        if unique_id in (*record.targets.values(), *record.jobs.values())
    ]
    return Removal(None, unique_id, tuple(users))


def remove(workspace: Workspace, removal: Removal) -> None:
    """Carry a removal out. ConfigurationError where the thing is not there; StepStateError while it runs."""
    try:
        if removal.unique_id is not None:
            workspace.remove_step(removal.unique_id)
        else:
            assert removal.run is not None
            workspace.remove_run(removal.run)
    except KeyError as error:
        raise ConfigurationError(
            f"{workspace.url}: has no {error.args[0]!r}", "see `dispatch runs` and `dispatch steps`"
        ) from error


def check(workspace: Workspace) -> list[Finding]:
    """Hold every result against its manifest, and every link and record against the results.

    On Beaker, by the digests that are kept there.
    """
    beaker = _on_beaker(workspace)
    if beaker is not None:
        from dispatch.workspace.beaker import upkeep as there

        return list(there.examine(beaker))
    from dispatch.workspace import check as checking

    return list(checking.examine(_on_disk(workspace)))


def plan_repair(workspace: Workspace) -> Repairs:
    """What `repair` would do."""
    beaker = _on_beaker(workspace)
    if beaker is not None:
        from dispatch.workspace.beaker import upkeep as there

        return there.plan_repair(beaker)
    from dispatch.workspace import repair

    return repair.plan(_on_disk(workspace))


def apply_repair(workspace: Workspace, repairs: Repairs) -> Sequence[Repair]:
    """Do it, and return what was done: what somebody works at meanwhile is left alone."""
    beaker = _on_beaker(workspace)
    if beaker is not None:
        from dispatch.workspace.beaker import upkeep as there

        return there.apply_repair(beaker, repairs)
    from dispatch.workspace import repair

    return repair.apply(_on_disk(workspace), repairs)


def plan_collection(workspace: Workspace, older_than: timedelta, now: datetime) -> Collection:
    """What nothing refers to any more."""
    beaker = _on_beaker(workspace)
    if beaker is not None:
        from dispatch.workspace.beaker import upkeep as there

        return there.plan_collection(beaker, older_than, now)
    from dispatch.workspace import collect

    return collect.plan(_on_disk(workspace), older_than, now)


def apply_collection(workspace: Workspace, collection: Collection) -> Sequence[Item]:
    """Remove it, and return what went: what is used meanwhile stays."""
    beaker = _on_beaker(workspace)
    if beaker is not None:
        from dispatch.workspace.beaker import upkeep as there

        return there.apply_collection(beaker, collection)
    from dispatch.workspace import collect

    return collect.apply(_on_disk(workspace), collection)


def _on_beaker(workspace: Workspace) -> BeakerWorkspace | None:
    if workspace.keeps is not BeakerDataset:
        return None
    from dispatch.workspace.beaker.workspace import BeakerWorkspace

    assert isinstance(workspace, BeakerWorkspace)
    return workspace


def _on_disk(workspace: Workspace) -> LocalWorkspace:
    if not isinstance(workspace, LocalWorkspace):
        raise ConfigurationError(
            f"{workspace.url}: has no files to look after", "name a workspace in a directory, or on Beaker"
        )
    return workspace
