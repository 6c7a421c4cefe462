"""What the steps of a plan ask of engine and settings, held against what there is, before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dispatch.errors import ConfigurationError, UnrecoverableResourceAssignmentError, did_you_mean
from dispatch.plan import Place, RunPlan, Standing

if TYPE_CHECKING:
    from pathlib import Path

    from dispatch.app import App
    from dispatch.app.engines import Engines
    from dispatch.engine.base import Mount
    from dispatch.schedule import Scheduler


class Placing:
    """Checks plans of configurations in ``directory``; ``runtime`` is that of this machine's processes."""

    def __init__(self, app: App, engines: Engines, directory: Path, runtime: Path) -> None:
        self._app = app
        self._engines = engines
        self._directory = directory
        self._runtime = runtime

    def check(self, plan: RunPlan) -> Mapping[str, tuple[Mount, ...]]:
        """Return what is mounted into each step that is to run, by name.

        Asks no engine if nothing is to run.

        :raises ConfigurationError: for a step of an unknown group, one that its engine's machine can never
            hold, and mounts that cannot be
        """
        self._refuse_unknown_groups(plan)
        self._refuse_impossible(plan)
        return self._mounts(plan)

    def _refuse_unknown_groups(self, plan: RunPlan) -> None:
        known = list(self._app.settings.groups)
        for step in plan.steps:
            group = step.node.options.group
            if group is not None and group not in known:
                raise ConfigurationError(
                    f"step {step.node.name!r}: step_group: unknown group {group!r}"
                    f"{did_you_mean(group, known)}",
                    f"say in the settings how many of it may run at once: `groups: {{{group}: 1}}`",
                )

    def _refuse_impossible(self, plan: RunPlan) -> None:
        schedulers: dict[Place, Scheduler] = {}
        for step in plan.standing(Standing.RUN):
            if step.place not in schedulers:
                schedulers[step.place] = self._engines.scheduler(step.place, self._runtime, plan)
            try:
                schedulers[step.place].refuse_impossible(step.resources)
            except UnrecoverableResourceAssignmentError as error:
                raise ConfigurationError(f"step {step.node.name!r}: {error.message}", error.remedy) from error

    def _mounts(self, plan: RunPlan) -> Mapping[str, tuple[Mount, ...]]:
        settings, todo = self._app.settings, plan.standing(Standing.RUN)
        if not todo or not (settings.mounts or any(step.node.options.mounts for step in todo)):
            return {}
        from dispatch.app.mounting import Mounting, without_container
        from dispatch.location import HostPath

        contained = any(step.place is Place.CONTAINER for step in todo)
        here = not contained or HostPath in self._engines.containers().capabilities().accepts
        home, workspace = self._app.surroundings.home, self._app.workspace
        found = Mounting(settings, self._directory, home, workspace, here).of(plan)
        left_out = without_container(plan)
        if settings.mounts and left_out:
            self._app.say(f"the settings' mounts are not seen by steps without a container: {left_out}")
        return found
