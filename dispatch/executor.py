"""Executors: they run a planned graph on an engine, and make containers' jobs out of claimed steps.

Owns the way from a planned step to a job, and from a job's end to the facts that are recorded. The loop is
``dispatcher``'s; what a container finds at which path is ``job``'s.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from dispatch import job as jobs
from dispatch.dispatcher import Dispatcher, Observer, Pace, StepOutcome, Work
from dispatch.engine.base import Capabilities, Engine, Event, JobSpec, Mount, Network, Reason, Resources
from dispatch.environment import ImageRef, RegistryDigest
from dispatch.errors import ConfigurationError, StepError
from dispatch.formats import AUTO
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
ENTRYPOINT_CODES = range(64, 79)
_LAST_BYTES = 4096
_WORD = re.compile(r"^dispatch: (?!phase )(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Materials:
    """What all jobs of a run share.

    ``images`` maps names of environments to what the engine has of them; ``runtimes`` likewise to the runtime
    directory to mount; ``source`` is the exported tree; ``workdir`` the working directory in the container
    and ``paths`` the import paths there; ``env`` what the settings add to every step's environment.
    ``commit``, ``tree`` and ``code`` (the digest of all ``*.py``) are recorded. ``default_format`` is for
    steps that leave the format open.
    """

    images: Mapping[str, ImageRef]
    runtimes: Mapping[str, Path]
    source: Path
    workdir: str
    paths: tuple[str, ...]
    env: Mapping[str, str]
    commit: str
    tree: str
    code: str = ""
    default_format: str | None = None


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
        mounts = tuple(self._mounts(planned, attempt, places, record))
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
            mounts=mounts,
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
        leaves_open = planned.description.format["name"] == AUTO.NAME
        return jobs.PythonTask(
            module=planned.description.module,
            qualname=planned.description.qualname,
            version=planned.description.version,
            format=node.options.format or (self._materials.default_format if leaves_open else None),
            arguments=node.arguments,
            inputs=places,
            paths=self._materials.paths,
        )

    def _environment(
        self, planned: PlannedStep, label: jobs.StepLabel, places: Mapping[str, str]
    ) -> Mapping[str, str]:
        user = {**self._materials.env, **dict(planned.node.options.env)}
        inputs = jobs.input_values(planned.node, places)
        return jobs.environment(label, inputs, user, planned.resources.cpu_count)

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
                    f"step {planned.node.name!r}: the result of {name!r} has vanished",
                    "repeat the command: it is computed again",
                )
            if planned.node.type != SHELL:
                # The runtime loads what it is given: whom to trust is decided here.
                self._workspace.check_trust(self._unique_id(name))
            mounts.append(Mount(mount_source(location, self._capabilities), place))
        return mounts

    def _unique_id(self, name: str) -> str:
        record = self._plan[name].record
        assert record is not None
        return record.unique_id

    def facts(self, record: StepRecord, attempt: Attempt, event: Event) -> AttemptFacts:
        """Judge an ended attempt: the outcome decides, and without one the engine's reason.

        Times are the engine's where it told the phases apart, for what the step's own clock says may be cut
        to seconds or wrong.
        """
        planned, materials = self._plan[record.name], self._materials
        outcome, fault = None, ""
        try:
            outcome = jobs.read_outcome(attempt.directory / "output")
        except StepError as unreadable:
            fault = unreadable.message
        completed = outcome is not None and outcome.state is OutcomeState.COMPLETED
        end = _End(outcome, event, planned, attempt.directory / "out.log")
        ended = datetime.fromtimestamp(event.time, timezone.utc)
        phases = _phases(attempt.directory / "phases.json")
        started = ended - timedelta(seconds=sum(phases.values())) if phases else None
        return AttemptFacts(
            state=StepState.COMPLETED if completed else StepState.FAILED,
            started=started or (outcome.started if outcome else None),
            ended=ended,
            exit_code=outcome.exit_code if outcome and outcome.exit_code is not None else event.exit_code,
            reason=end.reason().value,
            phase=outcome.phase if outcome else "",
            error="" if completed else fault or end.failure(),
            exception=dict(outcome.exception) if outcome and outcome.exception else None,
            image=planned.image,
            image_digest=_digest(materials.images[planned.image]),
            commit=materials.commit,
            tree=materials.tree,
            engine=self._capabilities.name,
            interpreter=outcome.interpreter if outcome else None,
            phases=phases,
            code=materials.code,
        )


@dataclass(frozen=True)
class _End:
    """All that tells why an attempt ended."""

    outcome: jobs.Outcome | None
    event: Event
    planned: PlannedStep
    log: Path

    def reason(self) -> Reason:
        """The engine's reason, but for a job that was stopped from outside and says so itself."""
        stopped = self.outcome is not None and self.outcome.state is OutcomeState.CANCELLED
        return Reason.CANCELLED if stopped and self.event.reason is Reason.STEP else self.event.reason

    def failure(self) -> str:
        """Say in one line why an attempt failed."""
        outcome, event = self.outcome, self.event
        if event.reason is Reason.OOM:
            memory = self.planned.resources.memory_bytes
            return f"killed for memory: its limit is {format_size(memory)}" if memory else "killed for memory"
        if outcome is not None and outcome.state is OutcomeState.CANCELLED:
            return "cancelled"
        if outcome is not None and outcome.exception:
            message = outcome.exception["message"].strip().split("\n")[0]
            return f"{outcome.exception['type']}: {message}" if message else outcome.exception["type"]
        if event.reason is not Reason.STEP and event.message:
            return event.message
        more = self._entrypoint_says() or event.message
        return self._exit() + (f": {more}" if more else "")

    def _exit(self) -> str:
        outcome, code = self.outcome, self.event.exit_code
        if outcome is None:
            return "ended without a result" + ("" if code is None else f" (exit code {code}{_signal(code)})")
        if outcome.phase != "run":
            return f"failed in the phase {outcome.phase!r} (exit code {outcome.exit_code})"
        who = "the command" if self.planned.node.type == SHELL else "the step"
        return f"{who} exited with code {outcome.exit_code}{_signal(outcome.exit_code)}"

    def _entrypoint_says(self) -> str:
        """Return the entrypoint's last word in the log if it was the entrypoint that gave up.

        A command's own exit code may be one of the entrypoint's.
        """
        outcome = self.outcome
        if outcome is not None and outcome.phase == "run" and self.planned.node.type == SHELL:
            return ""
        code = self.event.exit_code if outcome is None else outcome.exit_code
        if code not in ENTRYPOINT_CODES:
            return ""
        words = _WORD.findall(_tail(self.log))
        return words[-1].strip() if words else ""


def _signal(code: int | None) -> str:
    """The signal that an exit code above 128 stands for, as POSIX sh has it."""
    if code is not None and code > 128:
        with contextlib.suppress(ValueError):
            return f", {signal.Signals(code - 128).name}"
    return ""


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _LAST_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _digest(image: ImageRef) -> str:
    return image.reference if isinstance(image, RegistryDigest) else image.id


def _phases(path: Path) -> dict[str, float]:
    try:
        found = {str(name): float(value) for name, value in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        # Times of phases are a convenience taken from a log: a run never fails for want of them.
        return {}
    return found if all(math.isfinite(value) and value >= 0 for value in found.values()) else {}


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
            pace=Pace(clock=self._clock),
        )
        return dispatcher.run(works(plan), run)


def works(plan: RunPlan) -> Sequence[Work]:
    """The steps of a plan that have to run, with what each of them waits for."""
    unknown = plan.standing(Standing.UNKNOWN)
    if unknown:
        raise ConfigurationError(
            f"step {unknown[0].node.name!r}: not known yet what it is", "build its image first"
        )
    todo = {step.node.name for step in plan.standing(Standing.RUN)}
    return [
        Work(step.record, step.resources, tuple(n for n in step.node.dependencies if n in todo))
        for step in plan.steps
        if step.record is not None and step.node.name in todo
    ]
