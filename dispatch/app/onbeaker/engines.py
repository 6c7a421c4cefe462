"""The engines of a run on Beaker: Beaker's for steps that have an image, this machine's for the rest."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection
from functools import cached_property
from typing import TYPE_CHECKING

from dispatch.app.beakerdoor import origin_of
from dispatch.app.engines import Engines
from dispatch.app.onbeaker.placing import scheduler_of, step_of, steps_of, terms_of
from dispatch.plan import Place, RunPlan, Standing

if TYPE_CHECKING:
    from pathlib import Path

    from dispatch._beaker import BeakerDoor
    from dispatch.app import App
    from dispatch.dispatcher import Observer
    from dispatch.engine.base import Engine
    from dispatch.engine.beaker import BeakerEngine
    from dispatch.executor import Executor, ProcessMaterials
    from dispatch.executor.materials import Common
    from dispatch.graph import StepNode
    from dispatch.schedule import Scheduler
    from dispatch.schedule.beaker import BeakerScheduler
    from dispatch.settings.beaker import BeakerSetup


class BeakerEngines(Engines):
    """The engines of one run. ``scheduler`` is a program's own, in place of the settings'."""

    def __init__(
        self,
        app: App,
        parallelism: int | None,
        setup: BeakerSetup,
        scheduler: BeakerScheduler | None = None,
    ) -> None:
        super().__init__(app, parallelism)
        self._setup = setup
        self._given = scheduler
        self._beaker: BeakerEngine | None = None
        self._run = ""
        self._left_over: set[str] | None = None

    @property
    def door(self) -> BeakerDoor:
        """Beaker, at the executor's workspace."""
        return self._app.beaker

    def beaker(self) -> BeakerEngine:
        """The engine for containers: Beaker."""
        if self._beaker is None:
            from dispatch.app.onbeaker.data import extras_of
            from dispatch.engine.beaker import BeakerEngine

            workspace, cache = self._app.workspace, self._app.surroundings.cache
            place = workspace.attempt_directory("any", 1)
            self._beaker = BeakerEngine(
                self.door,
                origin=origin_of(workspace.url, self.door.account.user_id),
                attempts=place.parent if place is not None else cache / "attempts",
                cache=cache / "beaker-jobs",
                extras=extras_of(self._setup, self.door),
            )
        return self._beaker

    def containers(self) -> Engine:
        """Beaker."""
        return self.beaker()

    def limit(self, place: Place) -> int:
        """How many steps run at once at most: without a number of the user's, as many as there are."""
        if place is Place.CONTAINER and not (self._parallelism or self._app.settings.executor.parallelism):
            return sys.maxsize
        return super().limit(place)

    @cached_property
    def _scheduler(self) -> BeakerScheduler:
        from dispatch._beaker.occupancy import Occupancy
        from dispatch.schedule.beaker import Fleet

        found = self._given or scheduler_of(self._setup, self._app.settings)
        found.connect(self.door, Fleet(Occupancy(self.door.account)))
        return found

    def scheduler(self, place: Place, runtime: Path, plan: RunPlan | None = None) -> Scheduler:
        """Who places the steps of a plan: on Beaker, and those that are for this machine here."""
        if place is Place.PROCESS or plan is None:
            return self.here(place, runtime)
        from dispatch.schedule.beaker.placing import BeakerPlacing, Rules

        local = any(step.place is Place.PROCESS for step in plan.standing(Standing.RUN))
        return BeakerPlacing(
            self._scheduler,
            steps_of(plan),
            Rules(terms_of(self._setup), self.limit(Place.CONTAINER), self._app.settings.groups),
            running=self._left,
            here=self.here(Place.PROCESS, runtime) if local else None,
        )

    def _left(self) -> Collection[str]:
        """The unique ids whose jobs an earlier client of this run left when we took it over."""
        if self._left_over is None:
            handles = self.beaker().find(self._run) if self._run else []
            self._left_over = {handle.key.rpartition(".")[0] for handle in handles}
        return self._left_over

    def fits(self, node: StepNode) -> None:
        """Refuse what a step asks for by itself, where no cluster ever can give it."""
        from dispatch.schedule.beaker.placing import BeakerPlacing

        step = step_of(node)
        BeakerPlacing(self._scheduler, {step.unique_id: step}).refuse_impossible(step.resources)

    def executor(
        self,
        plan: RunPlan,
        here: ProcessMaterials,
        inside: Common | None,
        observer: Observer,
        run: str = "",
    ) -> Executor:
        """Who runs a plan; jobs of the run that an earlier client left have their places already."""
        if inside is None:
            return super().executor(plan, here, inside, observer)
        self._run, self._left_over = run, None
        from dispatch.executor import BeakerJobsExecutor, BeakerMaterials

        assert isinstance(inside, BeakerMaterials)
        scheduler = self.scheduler(Place.CONTAINER, here.runtime, plan)
        engine = self._both(plan, here.runtime)
        return BeakerJobsExecutor(engine, scheduler, self._app.workspace, inside, observer, time.monotonic)

    def close(self) -> None:
        """Stop our threads and connections; no job is touched."""
        super().close()
        if self._beaker is not None and self._routed is None:
            self._beaker.close()
        self._app.close_beaker()
