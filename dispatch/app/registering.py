"""Gives a run its name in the workspace, or goes on with the unfinished run that has it.

The name comes first: results that live as long as a run are found by it, so the plan is fitted to it before
anything is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from dispatch.errors import ConfigurationError
from dispatch.plan import RunPlan, Standing, for_run
from dispatch.workspace.base import Workspace
from dispatch.workspace.names import invent, is_name

KEPT_BY_RUN = "kept by this run"
_TRIES = 20


def register(
    workspace: Workspace,
    plan: RunPlan,
    name: str | None,
    facts: Mapping[str, Any],
    below: Callable[[int], int],
) -> tuple[str, RunPlan]:
    """Store the run, or find the unfinished one of the same targets, and return its name and its own plan.

    ConfigurationError for a name that is malformed, or taken by another run.
    """
    for _ in range(1 if name is not None else _TRIES):
        chosen = name if name is not None else invent(below)
        # A malformed name is refused below, by whoever owns the rule.
        fitted = for_run(plan, chosen) if is_name(chosen) else plan
        records = {step.node.name: step.record for step in fitted.steps if step.record is not None}
        targets = [records[target] for target in fitted.targets]
        try:
            run = workspace.register_run(
                targets, chosen, jobs=records.values(), facts={"steps": list(records), **facts}
            )
            return run.name, fitted
        except ValueError as error:
            wanted = {each.name: each.unique_id for each in targets}
            if name is not None and _is_unfinished(workspace, name, wanted):
                return name, _with_kept(fitted, workspace)
            fault = error
    raise ConfigurationError(str(fault), "choose another name, or leave it out") from fault


def _is_unfinished(workspace: Workspace, name: str, targets: Mapping[str, str]) -> bool:
    """Whether a run is one to go on with: of the same targets, and without all its results."""
    try:
        run = workspace.run_record(name)
    except KeyError:
        return False
    return run.state != "completed" and dict(run.targets) == targets


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
