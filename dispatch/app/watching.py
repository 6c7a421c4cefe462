"""A run as somebody sees it who does not drive it: its journal, and whether its driver lives.

Owns when a watched run is over: its driver closed it, or is gone. Changes nothing.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dispatch.app.journaling import outcome_of, replay
from dispatch.app.records import ORPHANED, RUNNING, named
from dispatch.dispatcher import Observer, StepOutcome
from dispatch.errors import ConfigurationError
from dispatch.info import StepInfo
from dispatch.workspace.journal import Entry, JournalStep, Kind, section

if TYPE_CHECKING:
    from dispatch.workspace.base import Workspace

# Whether a driver lives is several questions to the workspace; its journal is one.
ASK_EVERY = 0.4
# For so long a run that nobody drives is not given up: another client may be taking it over.
PATIENCE = 1.5


@dataclass(frozen=True)
class Pace:
    """The clock of somebody who watches: monotonic seconds, how to wait, and how often to look.

    ``every`` None leaves that to the workspace.
    """

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    every: float | None = None
    patience: float = PATIENCE


class Watch:
    """Watches one run. :meth:`look` as often as is liked; ``state`` is empty until the run is over.

    Then it is how the run ended, or ORPHANED where nobody drives it any more and it has no end.
    """

    def __init__(self, workspace: Workspace, run: str, pace: Pace | None = None) -> None:
        self.run = run
        self.state = ""
        self.entries: list[Entry] = []
        self.pace = pace or Pace()
        self.every = self.pace.every if self.pace.every is not None else workspace.look_every
        self._workspace = workspace
        self._journal = workspace.journal(run)
        driving = workspace.driver_of(run)
        # What an earlier driver closed is not the end of what a later one does.
        self._number = driving.number if driving is not None and driving.alive else 0
        self._alone: float | None = None
        self._asked = -math.inf
        self._begun = False

    def look(self) -> list[Entry]:
        """Return the entries that are new: at first those of the latest driver, then all that come."""
        new = self._read()
        now = self.pace.clock()
        if self.state or now - self._asked < max(ASK_EVERY, self.every):
            return new
        self._asked = now
        driving = self._workspace.driver_of(self.run)
        if driving is not None and driving.alive:
            self._alone = None
            return new
        # Whoever drove it wrote the last entry before it let go: it may have come since.
        new += self._read()
        if self.state:
            return new
        self._alone = now if self._alone is None else self._alone
        state = self._workspace.run_record(self.run).state
        if state:
            self.state = state
        elif now - self._alone >= self.pace.patience:
            self.state = ORPHANED
        return new

    def pause(self) -> None:
        """Wait until it is worth while to look again."""
        self.pace.sleep(self.every)

    def _read(self) -> list[Entry]:
        new = self._journal.read()
        if not self._begun:
            new = section(new)
            if new and new[0].driver < self._number:
                new = []
            self._begun = bool(new)
        self.entries += new
        for entry in new:
            if entry.kind is Kind.CLOSED and entry.driver >= self._number:
                self.state = entry.state
        return new


def follow(workspace: Workspace, run: str, observer: Observer, pace: Pace | None = None) -> Watch:
    """Tell an observer of a run until it is over."""
    watch = Watch(workspace, run, pace)
    look_up = infos(workspace, run)
    while True:
        replay(watch.look(), observer, look_up)
        if watch.state:
            return watch
        watch.pause()


def watched(workspace: Workspace, name: str) -> str:
    """The name of a run that can be watched. ConfigurationError where nobody ever drove it."""
    name = named(workspace, name)
    if workspace.driver_of(name) is None:
        raise ConfigurationError(
            f"run {name!r} has no journal: it was registered by a program, or an earlier version",
            f"see `dispatch show {name}`",
        )
    return name


def infos(workspace: Workspace, run: str) -> Callable[[str], StepInfo | None]:
    """What is recorded of a run's steps, by name; None where that cannot be told."""

    def look_up(step: str) -> StepInfo | None:
        with contextlib.suppress(Exception):
            return workspace.step_info(workspace.step_of_run(run, step))
        return None

    return look_up


def outcomes(entries: Sequence[Entry], look_up: Callable[[str], StepInfo | None]) -> dict[str, StepOutcome]:
    """How steps ended, as far as a journal tells, by name."""
    found = (outcome_of(entry, look_up) for entry in entries if entry.kind is Kind.ENDED)
    return {outcome.name: outcome for outcome in found if outcome is not None}


@dataclass
class StepView:
    """A step of a run as its journal tells it. Times are the driver's, in seconds since the epoch."""

    planned: JournalStep
    state: str
    reason: str = ""
    attempt: int = 0
    began: float | None = None
    ended: float | None = None
    node: str = ""
    attempts: list[int] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether the step has come to its end in this run."""
        return self.ended is not None or self.state not in _GOING


WAITING, STARTING, RETRYING = "waiting", "starting", "retrying"
_GOING = (WAITING, STARTING, RUNNING, RETRYING)


def views(entries: Sequence[Entry]) -> Mapping[str, StepView]:
    """Where each step stands, in the order of the plan; a step that is to run waits until it is told of."""
    found: dict[str, StepView] = {}
    for entry in entries:
        if entry.kind is Kind.OPENED:
            former = found
            found = {step.name: _planned(step, former.get(step.name)) for step in entry.steps}
        elif entry.step in found:
            _take(found[entry.step], entry)
    return found


def _planned(step: JournalStep, former: StepView | None) -> StepView:
    state = WAITING if step.standing == "run" else step.standing
    attempts = former.attempts if former is not None else []
    return StepView(step, state, "" if state == WAITING else step.reason, attempts=attempts)


def _take(view: StepView, entry: Entry) -> None:
    if entry.kind is Kind.STARTING:
        view.state, view.reason, view.attempt = STARTING, "", entry.attempt
        view.began = entry.time
        view.attempts.append(entry.attempt)
    elif entry.kind is Kind.RUNNING:
        view.state, view.began, view.node = RUNNING, entry.since or entry.time, entry.node
    elif entry.kind is Kind.WAITING:
        view.state, view.reason = WAITING, entry.reason
    elif entry.kind is Kind.RETRYING:
        view.state, view.reason = RETRYING, entry.reason
    elif entry.kind is Kind.ENDED:
        view.state, view.reason, view.ended = entry.verdict, entry.reason, entry.time
