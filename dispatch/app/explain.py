"""Why a step stands where it stands: its plan, what the workspace remembers, and the nearest earlier step.

Owns what is asked of the workspace for it, and the sentences. Changes nothing, and says no more than is
recorded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from dispatch.errors import ConfigurationError, SourceError, WorkspaceError, did_you_mean
from dispatch.info import AttemptFacts, StepInfo, StepRecord, StepState
from dispatch.plan import PlannedStep, RunPlan, Standing, unscoped
from dispatch.plan.difference import Explanation, explain
from dispatch.plan.planner import CHANGED
from dispatch.units import format_duration
from dispatch.workspace.base import RunSort, Workspace

if TYPE_CHECKING:
    from pathlib import Path

    from dispatch.app.source import SourceTree

_SHORT = 12
_MANY = 5

ChangedFiles = Callable[[str], "Sequence[str] | None"]


@dataclass(frozen=True)
class Why:
    """What is known of a planned step.

    ``facts`` are sentences; ``needs`` the steps that have to run first; ``info`` is what the workspace knows
    of this very step, ``explanation`` how it differs from the nearest one before (None where that is not the
    question); ``nearest_run`` is the run that made that one.
    """

    planned: PlannedStep
    facts: tuple[str, ...]
    needs: tuple[str, ...] = ()
    info: StepInfo | None = None
    explanation: Explanation | None = None
    nearest_run: str | None = None


def changed_files(source: SourceTree) -> ChangedFiles:
    """Return what names the Python files that differ between an old tree and the snapshot, if git knows."""

    def changed(tree: str) -> Sequence[str] | None:
        with contextlib.suppress(SourceError):
            return source.repository.changed_python(tree, source.ref)
        return None

    return changed


def why(plan: RunPlan, workspace: Workspace, step: str, changed: ChangedFiles = lambda _: None) -> Why:
    """Explain one step of a plan. ConfigurationError, with a guess, where the plan has none of that name."""
    names = [each.node.name for each in plan.steps]
    if step not in names:
        raise ConfigurationError(
            f"there is no step {step!r}{did_you_mean(step, names)}", f"the steps are: {', '.join(names)}"
        )
    return _Asking(plan, workspace, plan[step], changed).answer()


class _Asking:
    """One question about one step."""

    def __init__(
        self, plan: RunPlan, workspace: Workspace, planned: PlannedStep, changed: ChangedFiles
    ) -> None:
        self._plan = plan
        self._workspace = workspace
        self._planned = planned
        self._changed = changed

    def answer(self) -> Why:
        """Find out."""
        planned, record = self._planned, self._planned.record
        if record is None:
            return Why(planned, ("`dispatch build` makes the image that can tell",))
        needs = self._plan.needs(planned.node.name) if planned.standing is Standing.RUN else ()
        if not record.cacheable:
            return Why(planned, (f"not kept: {_whose_word(planned)}",), needs)
        info = self._info(record.unique_id)
        facts = tuple(self._facts(info)) if info is not None else ()
        if planned.standing is Standing.CACHED or planned.replaces:
            return Why(planned, facts, needs, info)
        found = explain(record, self._known, self._current, self._previous)
        run = None if found.nearest is None else self._run_of(found.nearest.unique_id)
        return Why(planned, facts, needs, info, found, run)

    def _facts(self, info: StepInfo) -> Iterator[str]:
        attempt = info.attempt
        if info.state is StepState.COMPLETED and attempt is not None:
            yield f"computed {self._origin(info, attempt)}"
            yield from self._other_source(attempt)
        elif info.state is StepState.RUNNING:
            yield _holder(attempt)
        elif info.state is StepState.FAILED and attempt is not None:
            error = attempt.error or attempt.reason or "no reason is known"
            log = self._workspace.log_path(info.unique_id)
            number = _number(info.unique_id, log)
            which = f"attempt {number} failed" if number else "failed"
            yield f"{which} {self._origin(info, attempt)}: {error}"
            if log is not None:
                yield f"log: {log}"
        elif attempt is not None and attempt.state is StepState.COMPLETED:
            yield (
                f"was computed {self._origin(info, attempt)}, but the result is gone: it was removed, or is "
                f"damaged (`dispatch check` tells)"
            )

    def _origin(self, info: StepInfo, attempt: AttemptFacts) -> str:
        """When, how long, by which run, in which image and from which source."""
        parts = [_moment(attempt.ended or attempt.started)]
        if attempt.duration is not None:
            parts.append(f"in {format_duration(attempt.duration.total_seconds())}")
        run = self._run_of(info.unique_id)
        if run is not None:
            parts.append(f"by run {run}")
        if attempt.image:
            digest = attempt.image_digest.removeprefix("sha256:")[:_SHORT]
            parts.append(f"in image {attempt.image!r}{f' ({digest})' if digest else ''}")
        if attempt.commit:
            parts.append(f"from commit {attempt.commit[:_SHORT]}")
        return " ".join(parts)

    def _other_source(self, attempt: AttemptFacts) -> Iterator[str]:
        if CHANGED not in self._planned.reason or not attempt.tree:
            return
        files = self._changed(attempt.tree)
        if files is None:
            yield f"the source is another than its tree {attempt.tree[:_SHORT]}, which git does not know here"
        else:
            more = f" and {len(files) - _MANY} more" if len(files) > _MANY else ""
            yield f"changed since: {', '.join(files[:_MANY])}{more}"

    def _info(self, unique_id: str) -> StepInfo | None:
        try:
            return self._workspace.step_info(unique_id)
        except KeyError:
            return None

    @cached_property
    def _known(self) -> Sequence[StepInfo]:
        return self._workspace.search_step_info()

    @cached_property
    def _of_runs(self) -> dict[str, StepRecord]:
        """Steps whose results were not kept, by the unique ids that their identities give them."""
        return {unscoped(info.record): info.record for info in self._known if not info.record.cacheable}

    @cached_property
    def _planned_records(self) -> dict[str, StepRecord]:
        return {step.record.unique_id: step.record for step in self._plan.steps if step.record is not None}

    def _current(self, unique_id: str) -> StepRecord | None:
        return self._planned_records.get(unique_id)

    def _previous(self, unique_id: str) -> StepRecord | None:
        with contextlib.suppress(WorkspaceError):
            info = self._info(unique_id)
            if info is not None:
                return info.record
        return self._of_runs.get(unique_id)

    def _run_of(self, unique_id: str) -> str | None:
        """The newest run that computed a step, else the oldest that names it."""
        oldest = None
        for run in self._workspace.search_registered_runs(sort_by=RunSort.START_DATE):
            with contextlib.suppress(KeyError, WorkspaceError):
                record = self._workspace.run_record(run.name)
                verdicts = record.facts.get("verdicts", {})
                names = [
                    name for name, each in {**record.jobs, **record.targets}.items() if each == unique_id
                ]
                if any(verdicts.get(name) == StepState.COMPLETED.value for name in names):
                    return run.name
                oldest = run.name if names else oldest
        return oldest


def _holder(attempt: AttemptFacts | None) -> str:
    """Who works at a step, as far as that is known."""
    if attempt is None:
        return "somebody works at it"
    pid, run = attempt.environment.get("pid"), attempt.environment.get("run")
    host = attempt.platform.get("host")
    who = f"process {pid}" if pid else "somebody"
    where = f" on {host}" if host else ""
    return f"{who}{where} works at it{f' for run {run}' if run else ''} since {_moment(attempt.started)}"


def _number(unique_id: str, log: Path | None) -> str:
    """The number of the attempt that a log is of: its directory is named after the attempt's key."""
    key = log.parent.name if log is not None else ""
    number = key.removeprefix(f"{unique_id}.")
    return number if number != key and number.isdecimal() else ""


def _whose_word(planned: PlannedStep) -> str:
    if planned.node.options.cache_results is False:
        return "the config says cache_results: false"
    if planned.description is not None and planned.description.deterministic:
        return f"its class {planned.description.class_name} is not CACHEABLE"
    return "its class is not DETERMINISTIC"


def _moment(time: datetime | None) -> str:
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S") if time is not None else "at an unknown time"
