"""Executors: they run a planned graph on an engine, and make containers' jobs out of claimed steps.

Owns the way from a planned step to a job, and from a job's end to the facts that are recorded. The loop itself is
``dispatcher``'s; what a container finds at which path is ``job``'s.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from dispatch import job as jobs
from dispatch.dispatcher import Dispatcher, Observer, StepOutcome, Work
from dispatch.engine.base import Capabilities, Engine, Event, JobSpec, Mount, Network, Reason, Resources
from dispatch.environment import ImageRef
from dispatch.errors import DispatchError, StepError
from dispatch.graph import SHELL
from dispatch.info import AttemptFacts, StepRecord, StepState
from dispatch.location import HostPath
from dispatch.plan import PlannedStep, RunPlan, Standing
from dispatch.registrable import Registrable
from dispatch.runtime.outcome import OutcomeState
from dispatch.schedule import ResourceAssignment, Scheduler
from dispatch.transfer import mount_source
from dispatch.units import format_size
from dispatch.workspace.base import Attempt, Workspace

SCRATCH = ("home", "tmp", "cache")


@dataclass(frozen=True)
class Materials:
    """What all jobs of a run share.

    ``images`` maps names of environments to what the engine has of them; ``runtimes`` likewise to the runtime
    directory to mount; ``source`` is the exported tree; ``workdir`` the working directory in the container and
    ``paths`` the import paths there; ``env`` what the settings add to every step's environment.
    """

    images: Mapping[str, ImageRef]
    runtimes: Mapping[str, Path]
    source: Path
    workdir: str
    paths: tuple[str, ...]
    env: Mapping[str, str]
    commit: str
    tree: str
    default_format: str | None = None
    image_names: Mapping[str, str] = field(default_factory=dict)


class ContainerJobs:
    """The dispatcher's job factory for engines that run containers."""

    def __init__(
        self, plan: RunPlan, materials: Materials, workspace: Workspace, capabilities: Capabilities, run: str
    ) -> None:
        self._plan = plan
        self._materials = materials
        self._workspace = workspace
        self._capabilities = capabilities
        self._run = run

    def prepare(self, record: StepRecord, attempt: Attempt, assignment: ResourceAssignment) -> JobSpec:
        """Write the job's directory and say what to run; see :class:`dispatch.dispatcher.JobFactory`."""
        planned = self._plan[record.name]
        places = jobs.CONTAINER.inputs(planned.node.dependencies)
        label = jobs.StepLabel(record.name, record.unique_id, record.type, attempt.number)
        jobs.write_step_job(
            attempt.directory / "job", label, self._task(planned, places), self._materials.workdir
        )
        for part in SCRATCH:
            (attempt.directory / "scratch" / part).mkdir(parents=True, exist_ok=True)
        attempt.result.mkdir(parents=True, exist_ok=True)
        options = planned.node.options
        return JobSpec(
            key=attempt.key,
            run=self._run,
            step=record.name,
            attempt=attempt.number,
            image=self._materials.images[planned.image],
            command=jobs.CONTAINER.command(),
            attempt_dir=attempt.directory,
            mounts=tuple(self._mounts(planned, attempt, places, record)),
            source=HostPath(self._materials.source),
            working_dir="/",
            env=self._environment(planned, label, places),
            resources=Resources(
                cpus=assignment.cpus,
                memory=assignment.memory,
                shared_memory=assignment.shared_memory,
                gpus=assignment.gpus,
            ),
            network=Network(options.network or Network.BRIDGE.value),
        )

    def _task(self, planned: PlannedStep, places: Mapping[str, str]) -> jobs.PythonTask | jobs.ShellTask:
        node = planned.node
        if node.type == SHELL:
            return jobs.ShellTask(node.arguments["command"], node.arguments, places)
        assert planned.description is not None
        return jobs.PythonTask(
            module=planned.description.module,
            qualname=planned.description.qualname,
            version=planned.description.version,
            format=node.options.format or self._materials.default_format,
            arguments=node.arguments,
            inputs=places,
            paths=self._materials.paths,
        )

    def _environment(
        self, planned: PlannedStep, label: jobs.StepLabel, places: Mapping[str, str]
    ) -> Mapping[str, str]:
        user = {**self._materials.env, **dict(planned.node.options.env)}
        inputs = jobs.input_values(planned.node, places)
        return jobs.environment(label, inputs, user, planned.node.options.resources.cpu_count)

    def _mounts(
        self, planned: PlannedStep, attempt: Attempt, places: Mapping[str, str], record: StepRecord
    ) -> list[Mount]:
        here, container = attempt.directory, jobs.CONTAINER
        mounts = [
            Mount(HostPath(here / "job"), container.job),
            Mount(HostPath(here / "output"), container.output, read_only=False),
            Mount(HostPath(here / "scratch"), container.scratch, read_only=False),
            Mount(self._workspace.work_location(record), container.work, read_only=False),
        ]
        if planned.node.type != SHELL:
            mounts.append(Mount(HostPath(self._materials.runtimes[planned.image]), container.runtime))
        for name, place in places.items():
            location = self._workspace.locate(self._unique_id(name))
            if location is None:
                raise StepError(
                    f"step {planned.node.name!r}: the result of {name!r} has vanished", "run again"
                )
            mounts.append(Mount(mount_source(location, self._capabilities), place))
        return mounts

    def _unique_id(self, name: str) -> str:
        record = self._plan[name].record
        assert record is not None
        return record.unique_id

    def facts(self, record: StepRecord, attempt: Attempt, event: Event) -> AttemptFacts:
        """Judge an ended attempt: the outcome decides, and without one the engine's reason."""
        outcome, fault = None, ""
        try:
            outcome = jobs.read_outcome(attempt.directory / "output")
        except StepError as unreadable:
            fault = unreadable.message
        completed = outcome is not None and outcome.state is OutcomeState.COMPLETED
        node = self._plan[record.name].node
        error = "" if completed else fault or _failure(outcome, event, node.options.resources.memory_bytes)
        ended = datetime.fromtimestamp(event.time, timezone.utc)
        return AttemptFacts(
            state=StepState.COMPLETED if completed else StepState.FAILED,
            started=outcome.started if outcome else None,
            ended=ended,
            exit_code=outcome.exit_code if outcome and outcome.exit_code is not None else event.exit_code,
            reason=_reason(outcome, event).value,
            phase=outcome.phase if outcome else "",
            error=error,
            exception=dict(outcome.exception) if outcome and outcome.exception else None,
            image=self._materials.image_names.get(
                self._plan[record.name].image, self._plan[record.name].image
            ),
            image_digest=str(getattr(self._materials.images[self._plan[record.name].image], "id", "")),
            commit=self._materials.commit,
            tree=self._materials.tree,
            engine=self._capabilities.name,
            interpreter=outcome.interpreter if outcome else None,
            phases=_phases(attempt.directory / "phases.json"),
        )


def _reason(outcome: jobs.Outcome | None, event: Event) -> Reason:
    if outcome is not None and outcome.state is OutcomeState.CANCELLED and event.reason is Reason.STEP:
        return Reason.CANCELLED
    return event.reason


def _failure(outcome: jobs.Outcome | None, event: Event, memory: int | None) -> str:
    """Say in one line why an attempt failed."""
    if event.reason is Reason.OOM:
        limit = f": its limit is {format_size(memory)}" if memory else ""
        return f"killed for memory{limit}"
    if outcome is None:
        if event.message:
            return event.message
        return f"ended without a result (exit code {event.exit_code})"
    if outcome.state is OutcomeState.CANCELLED:
        return "cancelled"
    if outcome.exception:
        message = outcome.exception["message"].strip().split("\n")[0]
        return f"{outcome.exception['type']}: {message}" if message else outcome.exception["type"]
    if outcome.phase != "run":
        return f"failed in the phase {outcome.phase!r} (exit code {outcome.exit_code})"
    return f"the command exited with code {outcome.exit_code}"


def _phases(path: Path) -> dict[str, float]:
    try:
        found = json.loads(path.read_bytes())
        return {str(name): float(value) for name, value in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        # Times of phases are a convenience taken from a log: a run never fails for want of them.
        return {}


class Executor(Registrable):
    """Runs a planned graph. The dispatcher is the same for all; engines and jobs differ."""

    default_implementation = "docker"

    @abstractmethod
    def execute(self, plan: RunPlan, run: str) -> Mapping[str, StepOutcome]:
        """Bring every step that is to run to a verdict; cached ones are not in the answer."""


@Executor.register("docker")
class DockerExecutor(Executor):
    """Runs each step in a container of its own on a Docker Engine."""

    def __init__(
        self,
        engine: Engine,
        scheduler: Scheduler,
        workspace: Workspace,
        materials: Materials,
        observer: Observer,
        clock: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._scheduler = scheduler
        self._workspace = workspace
        self._materials = materials
        self._observer = observer
        self._clock = clock

    def execute(self, plan: RunPlan, run: str) -> Mapping[str, StepOutcome]:
        """See :meth:`Executor.execute`. Raises EngineError if the engine goes away in the middle."""
        factory = ContainerJobs(plan, self._materials, self._workspace, self._engine.capabilities(), run)
        dispatcher = Dispatcher(
            engine=self._engine,
            scheduler=self._scheduler,
            workspace=self._workspace,
            jobs=factory,
            observer=self._observer,
            clock=self._clock,
        )
        return dispatcher.run(works(plan), run)


def works(plan: RunPlan) -> Sequence[Work]:
    """The steps of a plan that have to run, with what each of them waits for."""
    unknown = plan.standing(Standing.UNKNOWN)
    if unknown:
        raise DispatchError(f"step {unknown[0].node.name!r}: not known yet what it is")
    todo = {step.node.name for step in plan.standing(Standing.RUN)}
    return [
        Work(step.record, step.node.options.resources, tuple(n for n in step.node.dependencies if n in todo))
        for step in plan.steps
        if step.record is not None and step.node.name in todo
    ]
