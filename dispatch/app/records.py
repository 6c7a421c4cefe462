"""Reads what a workspace holds, for commands to show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dispatch.errors import ConfigurationError, did_you_mean
from dispatch.info import StepInfo, StepState
from dispatch.location import BeakerDataset, HostPath, SharedPath
from dispatch.workspace.base import RunSort, Workspace
from dispatch.workspace.runs import RunRecord

LATEST = "latest"
RUNNING = "running"
ORPHANED = "orphaned"
TEXT_LIMIT = 16 * 1024 * 1024


@dataclass(frozen=True)
class RunRow:
    """A run in a list. ``steps`` counts all its steps."""

    name: str
    started: datetime
    state: str
    steps: int


@dataclass(frozen=True)
class StepRow:
    """A step of a run as it stands now. ``verdict`` is what became of it in that run, if that has ended.

    ``result`` is where that is: a path of this machine, or a dataset. ``log`` is there only where it is known
    without asking another machine.
    """

    name: str
    unique_id: str
    state: str
    started: datetime | None
    ended: datetime | None
    image: str
    image_id: str
    error: str
    result: str | None
    log: Path | None

    @property
    def seconds(self) -> float | None:
        """How long the attempt took, None where that is not known."""
        return (self.ended - self.started).total_seconds() if self.started and self.ended else None


@dataclass(frozen=True)
class RunReport:
    """A run with its steps, in the order of the configuration.

    ``commit`` is empty outside of a repository; ``dirty`` says that not the commit ran, but the working tree,
    and ``differences`` are the files that tell how these differ.
    """

    name: str
    state: str
    started: datetime
    steps: tuple[StepRow, ...]
    commit: str = ""
    dirty: bool = False
    differences: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Result:
    """A step's result: its directory, and its text where it is JSON or text."""

    path: Path
    format: str
    text: str | None


def list_runs(workspace: Workspace, limit: int) -> list[RunRow]:
    """The newest runs first."""
    found = workspace.search_registered_runs(sort_by=RunSort.START_DATE, stop=limit)
    return [
        RunRow(record.name, record.start_date, state_of(workspace, record), len(_steps(record)))
        for record in workspace.run_records(run.name for run in found)
    ]


def show(workspace: Workspace, name: str) -> RunReport:
    """A run by name, or ``latest``; ConfigurationError where there is none."""
    name = named(workspace, name)
    run = workspace.run_record(name)
    # A run that is gone on with has those of its former end until it ends anew.
    facts = run.facts if run.state else {}
    verdicts: Mapping[str, str] = facts.get("verdicts", {})
    reasons: Mapping[str, str] = facts.get("reasons", {})
    infos = workspace.infos_of_run(name)
    steps = tuple(
        _row(workspace, step, infos[step], (verdicts.get(step, ""), reasons.get(step, "")))
        for step in _steps(run)
    )
    differences = workspace.differences(name)
    return RunReport(
        name,
        state_of(workspace, run),
        run.start_date,
        steps,
        commit=str(run.facts.get("commit", "")),
        dirty=run.facts.get("dirty") is True or bool(differences),
        differences=differences,
    )


def state_of(workspace: Workspace, run: RunRecord) -> str:
    """How a run ended, else RUNNING, or ORPHANED where whoever drove it is gone."""
    driving = None if run.state else workspace.driver_of(run.name)
    return run.state or (RUNNING if driving is None or driving.alive else ORPHANED)


def result(workspace: Workspace, run: str, step: str) -> Result:
    """The result of a step of a run; ConfigurationError where there is no such run, step or result."""
    info = step_of(workspace, named(workspace, run), step)
    directory = _here(workspace, info.unique_id)
    if directory is None:
        logged = workspace.log_path(info.unique_id) is not None
        remedy = f"see `dispatch logs {run} {step}`" if logged else f"see `dispatch show {run}`"
        raise ConfigurationError(f"step {step!r} has no result: it is {info.state.value}", remedy)
    for name in ("data.json", "data.txt", "data.jsonl"):
        path = directory / name
        if path.is_file() and path.stat().st_size <= TEXT_LIMIT:
            return Result(directory, name.rpartition(".")[2], path.read_text("utf-8"))
    names = sorted(path.name for path in directory.iterdir())
    return Result(directory, names[0].rpartition(".")[2] if len(names) == 1 else "directory", None)


def log(workspace: Workspace, run: str, step: str) -> Path:
    """The log of a step of a run; ConfigurationError where there is none."""
    run = named(workspace, run)
    path = log_of(workspace, run, step)
    if path is None:
        state = step_of(workspace, run, step).state.value
        raise ConfigurationError(f"step {step!r} has no log: it is {state}", f"see `dispatch show {run}`")
    return path


def log_of(workspace: Workspace, run: str, step: str, attempt: int | None = None) -> Path | None:
    """The log of a run's step, or of one attempt at it, None where there is none yet.

    ConfigurationError where the run has no such step.
    """
    unique_id = step_of(workspace, run, step).unique_id
    return workspace.log_path(unique_id) if attempt is None else workspace.log_of_attempt(unique_id, attempt)


def steps_of(workspace: Workspace, run: str) -> list[str]:
    """The names of a run's steps, in the order of its configuration where that was kept."""
    return _steps(workspace.run_record(run))


def named(workspace: Workspace, name: str) -> str:
    """The name of a run that there is; ``latest`` is the newest. ConfigurationError where there is none."""
    if name == LATEST:
        latest = workspace.latest_run()
        if latest is None:
            raise ConfigurationError(
                f"there are no runs in {workspace.url}",
                "make one with `dispatch run`, or name another workspace",
            )
        return latest
    try:
        workspace.registered_run(name)
    except KeyError:
        known = list(workspace.registered_runs())
        raise ConfigurationError(
            f"no run {name!r} in {workspace.url}{did_you_mean(name, known)}", "see `dispatch runs`"
        ) from None
    return name


def step_of(workspace: Workspace, run: str, step: str) -> StepInfo:
    """What is known of a run's step; ConfigurationError, with a guess, where it has none of that name."""
    try:
        return workspace.step_info(workspace.step_of_run(run, step))
    except KeyError:
        known = _steps(workspace.run_record(run))
        raise ConfigurationError(
            f"run {run!r} has no step {step!r}{did_you_mean(step, known)}", f"its steps: {', '.join(known)}"
        ) from None


def _steps(run: RunRecord) -> list[str]:
    """The names of a run's steps, in the order of its configuration where that was kept."""
    return list(run.facts.get("steps", {**run.jobs, **run.targets}))


def place_of(workspace: Workspace, unique_id: str, info: StepInfo | None) -> str | None:
    """Where a step's result is, for people: a path of this machine, or a dataset; None where nowhere."""
    if workspace.keeps is BeakerDataset:
        return info.result_location if info is not None else None
    location = workspace.locate(unique_id)
    return str(location.path) if isinstance(location, (HostPath, SharedPath)) else None


def _here(workspace: Workspace, unique_id: str) -> Path | None:
    """The directory of a step's result on this machine, brought here where it is elsewhere."""
    location = workspace.locate(unique_id)
    if isinstance(location, BeakerDataset):
        workspace.bring(unique_id)
        return workspace.copy_of(unique_id)
    return location.path if isinstance(location, (HostPath, SharedPath)) else None


def _row(workspace: Workspace, step: str, info: StepInfo, end: tuple[str, str]) -> StepRow:
    verdict, reason = end
    facts = info.attempt
    state = verdict if verdict and info.state is not StepState.RUNNING else info.state.value
    return StepRow(
        name=step,
        unique_id=info.unique_id,
        state=state,
        started=info.start_time,
        ended=info.end_time,
        image=facts.image if facts else "",
        image_id=facts.image_digest if facts else "",
        error=info.error or ("" if info.state is StepState.COMPLETED else reason),
        result=place_of(workspace, info.unique_id, info),
        log=None if workspace.keeps is BeakerDataset else workspace.log_path(info.unique_id),
    )
