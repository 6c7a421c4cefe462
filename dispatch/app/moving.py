"""How bytes would move in a planned run: between the workspace and each engine that a step is to run on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dispatch import transfer
from dispatch.plan import Place, RunPlan, Standing

if TYPE_CHECKING:
    from pathlib import Path

    from dispatch.app.engines import Engines
    from dispatch.engine.base import Engine
    from dispatch.workspace.base import Workspace


def ways(
    engines: Engines, plan: RunPlan, workspace: Workspace, runtime: Path
) -> Mapping[Place, transfer.Cell]:
    """The ways of inputs and results for each place where something runs, by the table of ``transfer``.

    Asks engines that planning has asked before, and no others. ConfigurationError where no way leads.
    """
    found = {}
    for place in dict.fromkeys(step.place for step in plan.standing(Standing.RUN)):
        engine: Engine = engines.containers() if place is Place.CONTAINER else engines.processes(runtime)
        found[place] = transfer.cell_of(workspace.keeps, engine.capabilities())
    return found
