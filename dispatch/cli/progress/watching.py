"""From a planned run to what a display needs of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispatch.cli.plan import image_of
from dispatch.cli.progress.story import Watched, WatchedStep
from dispatch.plan import Place, RunPlan, Standing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dispatch.app.earlier import Earlier
    from dispatch.app.running import Running
    from dispatch.workspace.base import Workspace


def watched(running: Running, plan: RunPlan, workspace: Workspace) -> Watched:
    """Return what a display needs of the run."""
    todo = plan.standing(Standing.RUN)
    steps = [
        WatchedStep(
            name=step.node.name,
            unique_id=step.record.unique_id,
            image=image_of(step),
            type=step.record.type,
            needs=plan.needs(step.node.name),
        )
        for step in todo
        if step.record is not None
    ]

    def known() -> Earlier:
        from dispatch.app.earlier import earlier

        return earlier(workspace, [step.name for step in steps])

    contained = any(step.place is Place.CONTAINER for step in todo)
    return Watched(
        steps=steps,
        cached=len(plan.standing(Standing.CACHED)),
        width=running.engines.limit(Place.CONTAINER if contained else Place.PROCESS),
        log=logs_of(workspace),
        usage=running.engines.usage,
        earlier=known,
    )


def logs_of(workspace: Workspace) -> Callable[[str], Path | None]:
    """Return what finds an attempt's log by its key, ``<unique id>.<n>``; None where there is none yet."""

    def find(key: str) -> Path | None:
        unique_id, _, number = key.rpartition(".")
        return workspace.log_of_attempt(unique_id, int(number)) if number.isdecimal() else None

    return find
