"""Gives a run its name in the workspace, or finds the unfinished run to go on with or to follow.

The name comes first: results that live as long as a run are found by it, so the plan is fitted to it before
anything is stored.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dispatch.errors import ConfigurationError, WorkspaceError
from dispatch.plan import RunPlan, Standing, for_run
from dispatch.workspace.base import Workspace
from dispatch.workspace.driving import RunCompletedError, RunHeldError
from dispatch.workspace.names import invent, is_name

if TYPE_CHECKING:
    from dispatch.info import StepRecord
    from dispatch.workspace.driving import Driver

KEPT_BY_RUN = "kept by this run"
_TRIES = 20


@dataclass(frozen=True)
class Seat:
    """A run with its own plan, and our right to drive it; None where somebody else does."""

    name: str
    plan: RunPlan
    driver: Driver | None
    resumed: bool = False


def register(
    workspace: Workspace,
    plan: RunPlan,
    name: str | None,
    facts: Mapping[str, Any],
    below: Callable[[int], int],
    since: datetime | None = None,
) -> Seat:
    """Store the run with us as its driver, or take the unfinished one of the same targets.

    Without a name that is one that nobody drives; with a name it may be somebody else's to drive, and ours
    to follow; also if it was completed after ``since``, when we had begun to plan. ConfigurationError for a
    name that is malformed, or taken by another run.
    """
    if name is None:
        left = orphan(workspace, plan)
        seat = _resume(workspace, plan, left) if left is not None else None
        # One that somebody else went on with in this moment is that client's.
        if seat is not None and seat.driver is not None:
            return seat
    for _ in range(1 if name is not None else _TRIES):
        chosen = name if name is not None else invent(below)
        # A malformed name is refused below, by whoever owns the rule.
        fitted = for_run(plan, chosen) if is_name(chosen) else plan
        records = _records(fitted)
        targets = [records[target] for target in fitted.targets]
        try:
            driver = workspace.open_run(
                targets, chosen, jobs=records.values(), facts={"steps": list(records), **facts}
            )
            return Seat(driver.run, fitted, driver)
        except ValueError as error:
            seat = None
            if name is not None:
                seat = _resume(workspace, plan, name) or _completed(workspace, plan, name, since)
            if seat is not None:
                return seat
            fault = error
    raise ConfigurationError(str(fault), "choose another name, or leave it out") from fault


def held(workspace: Workspace, plan: RunPlan, name: str | None) -> Seat | None:
    """The run of this name and these targets, if somebody alive drives it; else None. Changes nothing."""
    if name is None or not is_unfinished(workspace, plan, name):
        return None
    driving = workspace.driver_of(name)
    return Seat(name, for_run(plan, name), None) if driving is not None and driving.alive else None


def orphan(workspace: Workspace, plan: RunPlan) -> str | None:
    """The newest run of the plan's targets that has no end, and that nobody drives any more."""
    found = []
    for name in workspace.open_runs():
        with contextlib.suppress(KeyError, WorkspaceError):
            driving = workspace.driver_of(name)
            if driving is not None and not driving.alive and is_unfinished(workspace, plan, name):
                found.append((workspace.run_record(name).start_date, name))
    return max(found)[1] if found else None


def is_unfinished(workspace: Workspace, plan: RunPlan, name: str) -> bool:
    """Whether a run is one to go on with: of the plan's targets, and without all its results."""
    try:
        run = workspace.run_record(name)
    except KeyError:
        return False
    return run.state != "completed" and dict(run.targets) == _targets(for_run(plan, name))


def _resume(workspace: Workspace, plan: RunPlan, name: str) -> Seat | None:
    """Go on with a run, or follow whoever does; None where it is not ours to go on with."""
    if not is_unfinished(workspace, plan, name):
        return None
    fitted = for_run(plan, name)
    try:
        driver = workspace.drive(name)
    except RunHeldError:
        return Seat(name, fitted, None)
    except (KeyError, RunCompletedError):
        return None
    return Seat(name, _with_kept(fitted, workspace), driver, resumed=True)


def _completed(workspace: Workspace, plan: RunPlan, name: str, since: datetime | None) -> Seat | None:
    """The run that another client completed while we planned it."""
    try:
        run = workspace.run_record(name)
    except KeyError:
        return None
    fitted = for_run(plan, name)
    meanwhile = since is not None and run.ended is not None and run.ended >= since
    ours = dict(run.targets) == _targets(fitted) and workspace.driver_of(name) is not None
    return Seat(name, fitted, None) if meanwhile and ours else None


def _records(plan: RunPlan) -> dict[str, StepRecord]:
    return {step.node.name: step.record for step in plan.steps if step.record is not None}


def _targets(plan: RunPlan) -> dict[str, str]:
    records = _records(plan)
    return {target: records[target].unique_id for target in plan.targets if target in records}


def _with_kept(plan: RunPlan, workspace: Workspace) -> RunPlan:
    """Take those steps for done whose results this very run has already, though no other run may use them."""
    kept = set(_kept(plan, workspace))
    return replace(
        plan,
        steps=tuple(
            replace(step, standing=Standing.CACHED, reason=KEPT_BY_RUN) if step.node.name in kept else step
            for step in plan.steps
        ),
    )


def _kept(plan: RunPlan, workspace: Workspace) -> Iterable[str]:
    for step in plan.standing(Standing.RUN):
        record = step.record
        if record is not None and not record.cacheable and workspace.locate(record.unique_id) is not None:
            yield step.node.name
