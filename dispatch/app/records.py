"""Reads what a workspace holds, for commands to show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dispatch.errors import ConfigurationError, did_you_mean
from dispatch.info import StepInfo, StepState
from dispatch.location import HostPath
from dispatch.workspace.base import RunSort, Workspace
from dispatch.workspace.runs import RunRecord

LATEST = "latest"
RUNNING = "running"
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
    """A step of a run as it stands now. ``verdict`` is what became of it in that run, if that has ended."""

    name: str
    unique_id: str
    state: str
    started: datetime | None
    ended: datetime | None
    image: str
    image_id: str
    error: str
    result: Path | None
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
    rows = []
    for run in workspace.search_registered_runs(sort_by=RunSort.START_DATE, stop=limit):
        record = workspace.run_record(run.name)
        rows.append(RunRow(run.name, run.start_date, record.state or RUNNING, len(_steps(record))))
    return rows


def show(workspace: Workspace, name: str) -> RunReport:
    """A run by name, or ``latest``; ConfigurationError where there is none."""
    name = named(workspace, name)
    run = workspace.run_record(name)
    verdicts: Mapping[str, str] = run.facts.get("verdicts", {})
    reasons: Mapping[str, str] = run.facts.get("reasons", {})
    steps = tuple(
        _row(workspace, name, step, (verdicts.get(step, ""), reasons.get(step, ""))) for step in _steps(run)
    )
    differences = workspace.differences(name)
    return RunReport(
        name,
        run.state or RUNNING,
        run.start_date,
        steps,
        commit=str(run.facts.get("commit", "")),
        dirty=run.facts.get("dirty") is True or bool(differences),
        differences=differences,
    )


def result(workspace: Workspace, run: str, step: str) -> Result:
    """The result of a step of a run; ConfigurationError where there is no such run, step or result."""
    info = step_of(workspace, named(workspace, run), step)
    location = workspace.locate(info.unique_id)
    if not isinstance(location, HostPath):
        logged = workspace.log_path(info.unique_id) is not None
        remedy = f"see `dispatch logs {run} {step}`" if logged else f"see `dispatch show {run}`"
        raise ConfigurationError(f"step {step!r} has no result: it is {info.state.value}", remedy)
    directory = location.path
    for name in ("data.json", "data.txt", "data.jsonl"):
        path = directory / name
        if path.is_file() and path.stat().st_size <= TEXT_LIMIT:
            return Result(directory, name.rpartition(".")[2], path.read_text("utf-8"))
    names = sorted(path.name for path in directory.iterdir())
    return Result(directory, names[0].rpartition(".")[2] if len(names) == 1 else "directory", None)


def log(workspace: Workspace, run: str, step: str) -> Path:
    """The log of a step of a run; ConfigurationError where there is none."""
    info = step_of(workspace, named(workspace, run), step)
    path = workspace.log_path(info.unique_id)
    if path is None:
        raise ConfigurationError(
            f"step {step!r} has no log: it is {info.state.value}", f"see `dispatch show {run}`"
        )
    return path


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


def _row(workspace: Workspace, run: str, step: str, end: tuple[str, str]) -> StepRow:
    verdict, reason = end
    info = workspace.step_info(workspace.step_of_run(run, step))
    location = workspace.locate(info.unique_id)
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
        result=location.path if isinstance(location, HostPath) else None,
        log=workspace.log_path(info.unique_id),
    )
