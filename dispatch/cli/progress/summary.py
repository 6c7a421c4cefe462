"""How a run ended, in numbers: what ran, what was cached and what that saved, retries, memory, and where.

Owns the numbers and the lines on stderr; tables are ``run``'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dispatch.app.records import place_of
from dispatch.app.running import RunSummary
from dispatch.cli.progress.story import Story
from dispatch.dispatcher.work import StepOutcome, Verdict
from dispatch.info import StepInfo
from dispatch.location import BeakerDataset
from dispatch.plan import PlannedStep, Standing
from dispatch.units import format_duration, format_size
from dispatch.workspace.base import Workspace
from dispatch.workspace.local import LocalWorkspace

_LISTED = 5


@dataclass(frozen=True)
class StepEnd:
    """How one step of a run stands at its end, whether it ran or not.

    ``state`` is its verdict, or that it was computed inside others. ``result`` is the path of its result.
    """

    step: PlannedStep
    state: str
    reason: str
    info: StepInfo | None
    result: str | None

    @property
    def name(self) -> str:
        """The step's name."""
        return self.step.node.name

    @property
    def seconds(self) -> float | None:
        """How long its latest attempt took, where that is known."""
        duration = self.info.duration if self.info is not None else None
        return duration.total_seconds() if duration is not None else None


def ends(summary: RunSummary, workspace: Workspace) -> list[StepEnd]:
    """Return the ends of all steps, in the plan's order."""
    found = []
    for step in summary.plan.steps:
        assert step.record is not None
        inside = StepOutcome(step.node.name, Verdict.COMPLETED, step.reason)
        outcome = summary.outcomes.get(step.node.name, inside)
        state = step.standing.value if outcome is inside else outcome.verdict.value
        info = outcome.info or summary.cached.get(step.record.unique_id)
        result = place_of(workspace, step.record.unique_id, info)
        found.append(StepEnd(step, state, outcome.reason, info, result))
    return found


@dataclass(frozen=True)
class Account:
    """The end of a run.

    ``saved`` are the seconds that the cached steps took when they ran, None where none is known. ``attempts``
    are those of this run, of the steps that had more than one. ``peak`` is the most memory that a step was
    seen to use, in bytes, with its name. ``results`` is the directory of
    the run's results, or, where they are on Beaker, the workspace's URL.
    """

    run: str
    state: str
    seconds: float
    steps: int
    verdicts: Mapping[Verdict, int]
    saved: float | None = None
    attempts: Mapping[str, int] = field(default_factory=dict)
    peak: tuple[str, int] | None = None
    results: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The same in JSON types; sizes in bytes, times in seconds."""
        return {
            "seconds": round(self.seconds, 3),
            "counts": {verdict.value: self.verdicts.get(verdict, 0) for verdict in Verdict},
            "saved_seconds": None if self.saved is None else round(self.saved, 3),
            "attempts": dict(self.attempts),
            "peak_memory": {"step": self.peak[0], "bytes": self.peak[1]} if self.peak else None,
            "results": self.results,
        }

    def lines(self) -> list[str]:
        """The same for people."""
        count = self.verdicts
        cached = count.get(Verdict.CACHED, 0)
        lines = [f"run {self.run}: {self.state}, {cached} of {self.steps} steps cached"]
        told = [(Verdict.COMPLETED, "ran"), *((each, each.value) for each in Verdict if each not in _GOOD)]
        ends = [f"{count[verdict]} {word}" for verdict, word in told if count.get(verdict)]
        lines.append(f"  took {format_duration(self.seconds)}{': ' if ends else ''}{', '.join(ends)}")
        if self.saved is not None:
            lines.append(f"  saved by the cache: {format_duration(self.saved)}, as long as its steps took")
        if self.attempts:
            named = [f"{name} {number}" for name, number in list(self.attempts.items())[:_LISTED]]
            more = f" and {len(self.attempts) - _LISTED} more steps" if len(self.attempts) > _LISTED else ""
            lines.append(f"  attempts: {', '.join(named)}{more}")
        if self.peak is not None:
            lines.append(f"  peak memory: {format_size(self.peak[1])} in {self.peak[0]}")
        if self.results is not None:
            lines.append(f"  results: {self.results}")
        return lines


_GOOD = (Verdict.CACHED, Verdict.COMPLETED)


def account(summary: RunSummary, story: Story, workspace: Workspace, seconds: float) -> Account:
    """Count up a run that took ``seconds``, the command's start included."""
    verdicts = Counter(outcome.verdict for outcome in summary.outcomes.values())
    known = [step for step in story.steps.values() if step.peak_memory]
    most = max(known, key=lambda step: step.peak_memory, default=None)
    results: str | None = None
    if isinstance(workspace, LocalWorkspace):
        results = str(workspace.dir / "runs" / summary.name)
    elif workspace.keeps is BeakerDataset:
        results = workspace.url
    return Account(
        run=summary.name,
        state=summary.state,
        seconds=seconds,
        steps=len(summary.plan.steps),
        verdicts=verdicts,
        saved=_saved(_cached(summary)),
        attempts={step.name: step.attempts for step in story.steps.values() if step.attempts > 1},
        peak=(most.name, most.peak_memory) if most else None,
        results=results,
    )


def _cached(summary: RunSummary) -> list[StepInfo]:
    """What is known of the steps that were cached: each once, however many names it has."""
    planned = (step.record for step in summary.plan.standing(Standing.CACHED))
    found = [summary.cached.get(record.unique_id) for record in planned if record is not None]
    found += [each.info for each in summary.outcomes.values() if each.verdict is Verdict.CACHED]
    return list({info.unique_id: info for info in found if info is not None}.values())


def _saved(infos: Sequence[StepInfo]) -> float | None:
    durations = [info.duration.total_seconds() for info in infos if info.duration is not None]
    return sum(durations) if durations else None
