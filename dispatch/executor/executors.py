"""The executors of this machine: steps in containers, in processes, or some in each, by one dispatcher."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from dispatch.dispatcher import Dispatcher, JobFactory, Observer, Pace, StepOutcome
from dispatch.engine.base import Capabilities, Engine, Event, JobSpec
from dispatch.engine.routed import RoutedEngine
from dispatch.errors import ConfigurationError
from dispatch.executor.base import Executor
from dispatch.executor.beaker import BeakerJobs
from dispatch.executor.containers import ContainerJobs
from dispatch.executor.materials import BeakerMaterials, Common, Materials, ProcessMaterials
from dispatch.executor.processes import ProcessJobs
from dispatch.executor.sweeping import sweep
from dispatch.executor.work import works
from dispatch.info import AttemptFacts, StepRecord
from dispatch.plan import Place, RunPlan, Standing
from dispatch.schedule import ResourceAssignment, Scheduler
from dispatch.workspace.base import Attempt, Workspace

M = TypeVar("M", bound=Common)


class RoutedJobs:
    """A job factory that leaves each step to the one for the place where it runs."""

    def __init__(self, plan: RunPlan, factories: Mapping[Place, JobFactory]) -> None:
        self._plan = plan
        self._factories = factories

    def prepare(self, record: StepRecord, attempt: Attempt, assignment: ResourceAssignment) -> JobSpec:
        """See :class:`dispatch.dispatcher.JobFactory`."""
        return self._of(record).prepare(record, attempt, assignment)

    def facts(self, record: StepRecord, attempt: Attempt, event: Event) -> AttemptFacts:
        """See :class:`dispatch.dispatcher.JobFactory`."""
        return self._of(record).facts(record, attempt, event)

    def _of(self, record: StepRecord) -> JobFactory:
        return self._factories[self._plan[record.name].place]


class _EngineExecutor(Executor, Generic[M]):
    def __init__(
        self,
        engine: Engine,
        scheduler: Scheduler,
        workspace: Workspace,
        materials: M,
        observer: Observer,
        clock: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._scheduler = scheduler
        self._workspace = workspace
        self._materials = materials
        self._observer = observer
        self._clock = clock
        self._lock = threading.Lock()
        self._dispatcher: Dispatcher | None = None
        self._asked: list[tuple[Sequence[str] | None, float | None]] = []

    def execute(self, plan: RunPlan, run: str) -> Mapping[str, StepOutcome]:
        """See :meth:`Executor.execute`. Raises EngineError if the engine goes away in the middle."""
        wanted = works(plan)
        sweep(self._engine, self._workspace, run)
        dispatcher = Dispatcher(
            engine=self._engine,
            scheduler=self._scheduler,
            workspace=self._workspace,
            jobs=self._factory(plan, run),
            observer=self._observer,
            pace=Pace(clock=self._clock),
        )
        with self._lock:
            self._dispatcher = dispatcher
            asked, self._asked = self._asked, []
        for names, grace in asked:
            self.cancel(names, grace)
        try:
            return dispatcher.run(wanted, run)
        finally:
            # Before anybody records that the run has ended: after that, no client comes to sweep for it.
            self._engine.settle()

    def cancel(self, names: Sequence[str] | None, grace: float | None) -> None:
        """See :meth:`Executor.cancel`. What is asked before there is a dispatcher is told it at once."""
        with self._lock:
            dispatcher = self._dispatcher
            if dispatcher is None:
                self._asked.append((names, grace))
        if dispatcher is not None:
            dispatcher.cancel(names, grace)

    @abstractmethod
    def _factory(self, plan: RunPlan, run: str) -> JobFactory:
        """Return what makes jobs of the plan's steps."""

    def _routed(
        self,
        plan: RunPlan,
        run: str,
        beside: ProcessMaterials | None,
        contained: Callable[[RunPlan, M, Workspace, Capabilities, str], JobFactory],
    ) -> JobFactory:
        """Return what makes jobs for containers, and beside it, where that can be, jobs for this machine."""
        engine, materials, workspace = self._engine, self._materials, self._workspace
        if beside is None or not isinstance(engine, RoutedEngine):
            _refuse(plan, Place.PROCESS, "has no container to run in, and this run has nothing else for it")
            return contained(plan, materials, workspace, engine.capabilities(), run)
        inside, here = engine.containers.capabilities(), engine.processes.capabilities()
        factories: dict[Place, JobFactory] = {
            Place.CONTAINER: contained(plan, materials, workspace, inside, run),
            Place.PROCESS: ProcessJobs(plan, beside, workspace, here, run),
        }
        return RoutedJobs(plan, factories)


@Executor.register("docker")
class DockerExecutor(_EngineExecutor[Materials]):
    """Runs each step in a container of its own on a Docker Engine.

    With a :class:`~dispatch.engine.routed.RoutedEngine`, and materials for it, steps that have no image or
    must run on this machine are processes.
    """

    def _factory(self, plan: RunPlan, run: str) -> JobFactory:
        return self._routed(plan, run, self._materials.processes, ContainerJobs)


class BeakerJobsExecutor(_EngineExecutor[BeakerMaterials]):
    """Runs each step as an experiment of its own on Beaker; steps that must run here as for Docker."""

    def _factory(self, plan: RunPlan, run: str) -> JobFactory:
        return self._routed(plan, run, self._materials.processes, BeakerJobs)


@Executor.register("local")
class LocalExecutor(_EngineExecutor[ProcessMaterials]):
    """Runs each step in a process of its own in the current environment."""

    def _factory(self, plan: RunPlan, run: str) -> JobFactory:
        _refuse(plan, Place.CONTAINER, "needs a container, and this run has none")
        capabilities = self._engine.capabilities()
        return ProcessJobs(plan, self._materials, self._workspace, capabilities, run)


def _refuse(plan: RunPlan, place: Place, fact: str) -> None:
    for step in plan.standing(Standing.RUN):
        if step.place is place:
            raise ConfigurationError(f"step {step.node.name!r}: {fact}", "use another executor")
