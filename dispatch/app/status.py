"""What goes on in a workspace: unfinished runs, and the steps of one as its journal tells them.

Reads journals, leases and the ends of logs; changes nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dispatch.app.records import ORPHANED, RUNNING, state_of
from dispatch.app.watching import STARTING, StepView, views
from dispatch.errors import WorkspaceError
from dispatch.workspace.base import Workspace
from dispatch.workspace.driving import Driving
from dispatch.workspace.journal import section

UNATTENDED = "unattended"
_LAST_BYTES = 4096
_LONGEST = 200


@dataclass(frozen=True)
class StepNow:
    """A step of a run now. ``seconds`` is how long it runs or ran, ``last`` the last line of its log.

    The state is UNATTENDED where the step ran when the run's client died.
    """

    name: str
    unique_id: str
    state: str
    attempt: int
    seconds: float | None
    image: str
    node: str
    reason: str
    last: str


@dataclass(frozen=True)
class RunNow:
    """A run now. ``driving`` is None for one that no client ever drove."""

    name: str
    state: str
    started: datetime
    driving: Driving | None
    steps: tuple[StepNow, ...]

    @property
    def counts(self) -> Mapping[str, int]:
        """How many steps are in each state."""
        return Counter(step.state for step in self.steps)


def unfinished(workspace: Workspace, now: float) -> list[RunNow]:
    """The runs that have no end yet, newest first; ``now`` is in seconds since the epoch."""
    found = []
    for name in workspace.open_runs():
        with contextlib.suppress(KeyError, WorkspaceError):
            found.append(status(workspace, name, now, logs=False))
    return sorted(found, key=lambda run: (run.started, run.name), reverse=True)


def status(workspace: Workspace, name: str, now: float, *, logs: bool = True) -> RunNow:
    """A run and its steps; with ``logs``, the last line that each running step printed."""
    entries = section(workspace.journal(name).read())
    record = workspace.run_record(name)
    state = state_of(workspace, record)
    steps = tuple(_now(workspace, view, state, now, logs) for view in views(entries).values())
    return RunNow(name, state, record.start_date, workspace.driver_of(name), steps)


def _now(workspace: Workspace, view: StepView, run: str, now: float, logs: bool) -> StepNow:
    planned, at_work = view.planned, view.state in (RUNNING, STARTING)
    seconds = None
    if view.began is not None and (view.ended is not None or at_work):
        seconds = max(0.0, (view.ended if view.ended is not None else now) - view.began)
    last = ""
    if logs and at_work and view.attempt:
        last = last_line(workspace.log_of_attempt(planned.unique_id, view.attempt))
    return StepNow(
        name=planned.name,
        unique_id=planned.unique_id,
        state=UNATTENDED if at_work and run == ORPHANED else view.state,
        attempt=view.attempt,
        seconds=seconds,
        image=planned.image,
        node=view.node,
        reason=view.reason,
        last=last,
    )


def last_line(log: Path | None) -> str:
    """The last line of a log that says something, without control characters; empty where there is none."""
    if log is None:
        return ""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_BYTES))
            lines = file.read().decode("utf-8", "replace").replace("\r", "\n").splitlines()
    except OSError:
        return ""
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return "".join(letter for letter in said[-_LONGEST:] if letter.isprintable())
