"""Following a run that another client drives, as a client of the same run.

Owns what the second client ends with: the first one's outcomes, or its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from dispatch.app.journaling import replay
from dispatch.app.records import ORPHANED
from dispatch.app.registering import Seat
from dispatch.app.watching import Pace, Watch, infos, outcomes
from dispatch.dispatcher import Observer, StepOutcome, Verdict
from dispatch.plan import PlannedStep, RunPlan, Standing
from dispatch.workspace.base import Workspace
from dispatch.workspace.journal import JournalStep

Say = Callable[[str], None]


@dataclass(frozen=True)
class Followed:
    """How a run ended that somebody else drove: that client's plan, and its outcomes."""

    plan: RunPlan
    outcomes: Mapping[str, StepOutcome]


def follow_run(workspace: Workspace, seat: Seat, observer: Observer, say: Say) -> Followed | None:
    """Follow a run to its end; None where its client died before.

    KeyboardInterrupt where the run was cancelled, and where the user wants to watch no longer, which is said.
    """
    driving = workspace.driver_of(seat.name)
    say(f"following run {seat.name}, which {driving} drives" if driving else f"following run {seat.name}")
    # Whoever would take the run over waits for nobody.
    watch = Watch(workspace, seat.name, Pace(patience=0.0))
    look_up = infos(workspace, seat.name)
    try:
        while True:
            replay(watch.look(), observer, look_up)
            if watch.state:
                break
            watch.pause()
    except KeyboardInterrupt:
        say(f"not watching any more: run {seat.name} goes on (`dispatch cancel {seat.name}` ends it)")
        raise
    if watch.state == ORPHANED:
        say(f"the client of run {seat.name} is gone: going on in its place")
        return None
    if watch.state == "cancelled":
        say(f"run {seat.name} was cancelled")
        raise KeyboardInterrupt
    planned = {step.name: step for entry in watch.entries for step in entry.steps}
    steps = tuple(_as_driven(step, planned.get(step.node.name)) for step in seat.plan.steps)
    plan = replace(seat.plan, steps=steps)
    cached = {
        step.node.name: StepOutcome(step.node.name, Verdict.CACHED, step.reason)
        for step in plan.standing(Standing.CACHED)
    }
    return Followed(plan, {**cached, **outcomes(watch.entries, look_up)})


def _as_driven(step: PlannedStep, driven: JournalStep | None) -> PlannedStep:
    """Let a step stand where its driver saw it, which may have looked earlier than we did."""
    known = driven is not None and driven.standing in {each.value for each in Standing}
    if driven is None or not known or driven.standing == step.standing.value:
        return step
    return replace(step, standing=Standing(driven.standing), reason=driven.reason)
