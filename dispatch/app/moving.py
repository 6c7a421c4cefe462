"""How bytes would move in a planned run: between the workspace and each engine that a step is to run on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dispatch import transfer
from dispatch.app.running import Running
from dispatch.location import HostPath, Location, Spool
from dispatch.plan import Place, RunPlan, Standing
from dispatch.workspace.local import LocalWorkspace

if TYPE_CHECKING:
    from pathlib import Path

    from dispatch.engine.base import Engine
    from dispatch.workspace.base import Workspace


def ways(running: Running, plan: RunPlan, workspace: Workspace, here: Path) -> Mapping[Place, transfer.Cell]:
    """The ways of inputs and results for each place where something runs, by the table of ``transfer``.

    ``here`` is any path of this machine. Asks engines that planning has asked before, and no others.
    ConfigurationError where no way leads.
    """
    # What matters to the table is the kind of place alone.
    location: Location = HostPath(here) if isinstance(workspace, LocalWorkspace) else Spool(here)
    found = {}
    for place in dict.fromkeys(step.place for step in plan.standing(Standing.RUN)):
        engine: Engine = (
            running.engines.docker()
            if place is Place.CONTAINER
            else running.engines.processes(running.runtimes.own.directory)
        )
        found[place] = transfer.cell(location, engine.capabilities())
    return found
