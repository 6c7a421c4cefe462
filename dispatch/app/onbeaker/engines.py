"""The engines of a run on Beaker: Beaker's for steps that have an image, this machine's for the rest."""

from __future__ import annotations

import sys
import time
from functools import cached_property
from typing import TYPE_CHECKING

from dispatch.app.engines import Engines
from dispatch.app.onbeaker.placing import scheduler_of, steps_of, terms_of
from dispatch.plan import Place, RunPlan, Standing

if TYPE_CHECKING:
    from pathlib import Path

    from dispatch._beaker import BeakerDoor
    from dispatch.app import App
    from dispatch.dispatcher import Observer
    from dispatch.engine.base import Engine
    from dispatch.engine.beaker import BeakerEngine, Bundles
    from dispatch.executor import Executor, ProcessMaterials
    from dispatch.executor.materials import Common
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

    @property
    def door(self) -> BeakerDoor:
        """Beaker, at the executor's workspace."""
        return self._app.beaker

    @cached_property
    def bundles(self) -> Bundles:
        """What many jobs read, on Beaker."""
        from dispatch.engine.beaker import Bundles

        return Bundles(self.door)

    def containers(self) -> Engine:
        """Beaker."""
        if self._beaker is None:
            from dispatch.engine.beaker import BeakerEngine

            self._beaker = BeakerEngine(self.door, self._origin, bundles=self.bundles)
        return self._beaker

    @property
    def _origin(self) -> str:
        """What tells the jobs of this workspace and account from all others'."""
        return f"{self._app.workspace.url} {self.door.account.user_id}"

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
        from dispatch.schedule.beaker import BeakerPlacing

        far = BeakerPlacing(
            self._scheduler,
            steps_of(plan),
            terms_of(self._setup),
            parallelism=self.limit(Place.CONTAINER),
            groups=self._app.settings.groups,
        )
        near = {
            step.record.unique_id
            for step in plan.standing(Standing.RUN)
            if step.place is Place.PROCESS and step.record is not None
        }
        if not near:
            return far
        from dispatch.schedule.routed import RoutedScheduler

        return RoutedScheduler(far, self.here(Place.PROCESS, runtime), near.__contains__)

    def executor(
        self, plan: RunPlan, here: ProcessMaterials, inside: Common | None, observer: Observer
    ) -> Executor:
        """Who runs a plan."""
        if inside is None:
            return super().executor(plan, here, inside, observer)
        from dispatch.executor import BeakerJobsExecutor, BeakerMaterials

        assert isinstance(inside, BeakerMaterials)
        scheduler = self.scheduler(Place.CONTAINER, here.runtime, plan)
        engine = self._both(plan, here.runtime)
        return BeakerJobsExecutor(engine, scheduler, self._app.workspace, inside, observer, time.monotonic)

    def check_account(self) -> None:
        """Find out whether Beaker answers, and knows us and the workspace."""

    def check_needs(self, plan: RunPlan) -> None:
        """Find out whether what a plan's steps need is there: clusters, images, room."""

    def close(self) -> None:
        """Stop our threads and connections; no job is touched."""
        super().close()
        if self._beaker is not None and self._routed is None:
            self._beaker.close()
