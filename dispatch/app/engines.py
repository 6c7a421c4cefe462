"""The engines and the executor of one run, made when they are first needed.

Owns which engine a plan needs: containers, processes of this machine, or both behind one. Importing the parts
takes longer than a run in which everything is cached, so each is imported where it is made.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dispatch.app import App
from dispatch.location import BeakerDataset
from dispatch.plan import Place, RunPlan, Standing
from dispatch.workspace.local import LocalWorkspace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dispatch.dispatcher import Observer
    from dispatch.engine.base import Capabilities, Engine, Handle, Usage
    from dispatch.engine.docker import DockerEngine
    from dispatch.engine.gpus import Gpu
    from dispatch.engine.routed import RoutedEngine
    from dispatch.executor import Executor, ProcessMaterials
    from dispatch.executor.materials import Common
    from dispatch.schedule import LocalScheduler, Scheduler

# Containers leave their processors idle while they start; processes do not.
PARALLELISM = {Place.CONTAINER: 2, Place.PROCESS: 1}
NO_LIMIT = -1


class Engines:
    """The engines of one run. ``parallelism`` wins over the settings; -1 is no limit of ours."""

    def __init__(self, app: App, parallelism: int | None) -> None:
        self._app = app
        self._parallelism = parallelism
        self._docker: DockerEngine | None = None
        self._containers: Engine | None = None
        self._processes: Engine | None = None
        self._routed: RoutedEngine | None = None
        self._working: Engine | None = None

    def docker(self) -> DockerEngine:
        """The engine for containers."""
        if self._docker is None:
            from dispatch.engine.docker import DockerEngine

            self._docker = DockerEngine(self._app.door, uid=os.getuid(), gid=os.getgid())
        return self._docker

    def processes(self, runtime: Path) -> Engine:
        """The engine for processes of this machine, which load the given runtime."""
        if self._processes is None:
            from dispatch.engine.process import ProcessEngine, StartMethod

            setting = self._app.settings.executor.start_method
            self._processes = self._with_inputs(
                ProcessEngine(
                    python=sys.executable,
                    runtime=runtime,
                    environ=self._app.surroundings.environ,
                    start_method=StartMethod(setting) if setting else StartMethod.FORK,
                )
            )
        return self._processes

    def containers(self) -> Engine:
        """The engine for steps that have an image."""
        if self._containers is None:
            self._containers = self._with_inputs(self.docker())
        return self._containers

    def _with_inputs(self, engine: Engine) -> Engine:
        """An engine of this machine, to which results are brought that are not on it."""
        workspace = self._app.workspace
        if workspace.keeps is not BeakerDataset:
            return engine
        from dispatch.engine.fetching import FetchingEngine

        return FetchingEngine(engine, workspace.bring)

    def scheduler(self, place: Place, runtime: Path, plan: RunPlan | None = None) -> Scheduler:  # noqa: ARG002
        """Who places the steps of a run that has steps at ``place``, of its ``plan`` where one is known."""
        return self.here(place, runtime)

    def here(self, place: Place, runtime: Path) -> LocalScheduler:
        """Who places steps on the engines of this machine."""
        from dispatch.engine.gpus import gpus_here
        from dispatch.schedule import LocalScheduler

        engine: Engine = self.docker() if place is Place.CONTAINER else self.processes(runtime)
        settings, workspace = self._app.settings, self._app.workspace
        capabilities = engine.capabilities()
        if settings.executor.gpus is not None:
            capabilities = offering(capabilities, settings.executor.gpus, gpus_here())
        return LocalScheduler(
            capabilities,
            self.limit(place),
            groups=settings.groups,
            others=engine.others,
            home=workspace.dir if isinstance(workspace, LocalWorkspace) else None,
        )

    def limit(self, place: Place) -> int:
        """How many steps run at once at most, where some are at ``place``; resources may allow fewer."""
        limit = self._parallelism or self._app.settings.executor.parallelism or PARALLELISM[place]
        return sys.maxsize if limit == NO_LIMIT else limit

    def usage(self, handles: Sequence[Handle]) -> Mapping[str, Usage]:
        """Ask the engine of the executor that was made; see :meth:`dispatch.engine.base.Engine.usage`."""
        return self._working.usage(handles) if self._working is not None else {}

    def executor(
        self,
        plan: RunPlan,
        here: ProcessMaterials,
        inside: Common | None,
        observer: Observer,
        run: str = "",  # noqa: ARG002
    ) -> Executor:
        """Who runs a plan as the run of that name: with ``inside``, what containers need, in containers.

        What has no image runs here.
        """
        from dispatch.executor import DockerExecutor, LocalExecutor

        workspace, clock = self._app.workspace, time.monotonic
        if inside is None:
            scheduler = self.scheduler(Place.PROCESS, here.runtime)
            processes = self._working = self.processes(here.runtime)
            return LocalExecutor(processes, scheduler, workspace, here, observer, clock)
        from dispatch.executor import Materials

        assert isinstance(inside, Materials)
        scheduler = self.scheduler(Place.CONTAINER, here.runtime, plan)
        engine = self._both(plan, here.runtime)
        return DockerExecutor(engine, scheduler, workspace, inside, observer, clock)

    def _both(self, plan: RunPlan, runtime: Path) -> Engine:
        """The engine for containers, and in front of both where steps of the plan are processes, too."""
        engine = self.containers()
        if any(step.place is Place.PROCESS for step in plan.standing(Standing.RUN)):
            from dispatch.engine.routed import RoutedEngine

            engine = self._routed = RoutedEngine(engine, self.processes(runtime))
        self._working = engine
        return engine

    def close(self) -> None:
        """Stop our threads and processes; no container is touched."""
        if self._routed is not None:
            self._routed.close()
            return
        for engine in (self._processes, self._containers or self._docker):
            if engine is not None:
                engine.close()


def offering(capabilities: Capabilities, gpus: Sequence[str], here: Sequence[Gpu]) -> Capabilities:
    """Have an engine offer those GPUs that the settings name, of the types that it knows.

    One of this machine that is named by its UUID is called by its index, as all clients do: they find in each
    other's labels which are taken.
    """
    indexes = {gpu.uuid: gpu.id for gpu in here if gpu.uuid}
    ids = tuple(dict.fromkeys(indexes.get(gpu, gpu) for gpu in gpus))
    types = dict(zip(capabilities.gpus, capabilities.gpu_types, strict=False))
    return replace(capabilities, gpus=ids, gpu_types=tuple(types.get(gpu, "") for gpu in ids))
