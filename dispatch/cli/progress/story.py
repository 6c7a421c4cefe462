"""What has happened so far, as all displays see it: steps, tasks, and how many of which.

Owns the meaning of events for people. Shows nothing, reads no file, and is not locked: whoever changes it or
looks at it holds the lock of :class:`~dispatch.cli.progress.teller.Progress`. Every run waits until this
module is imported, so its classes are not given methods that nobody calls.
"""

from __future__ import annotations

import enum
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

# Not the dispatcher: builds show progress, too, and its import would be a tenth of theirs.
if TYPE_CHECKING:
    from dispatch.app.earlier import Earlier
    from dispatch.dispatcher.work import StepOutcome, Verdict
    from dispatch.engine.base import Event, Handle, Usage

LINGER = 2.0


class Stage(enum.Enum):
    """Where a step of this run is."""

    PENDING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    RETRYING = "retrying"
    HELD = "held up"
    ENDED = "ended"


@dataclass(eq=False, repr=False)
class WatchedStep:
    """A step that is to run: its names, and those of the steps to run before it. ``image`` is for people."""

    name: str
    unique_id: str = ""
    image: str = ""
    type: str = ""
    needs: tuple[str, ...] = ()


@dataclass(eq=False, repr=False)
class Watched:
    """What a display needs of a run beside its events.

    ``cached`` steps had a result before; ``width`` steps run at once. ``log`` says where the log of an
    attempt's key is, ``usage`` what jobs use now, ``earlier`` how long steps took; the last two may take a
    second, and are never asked by the thread that dispatches.
    """

    steps: Sequence[WatchedStep]
    cached: int = 0
    width: int = 1
    log: Callable[[str], Path | None] = lambda _: None
    usage: Callable[[Sequence[Handle]], Mapping[str, Usage]] = lambda _: {}
    earlier: Callable[[], Earlier] | None = None


# A job that began so many seconds before it was handed over was begun by an earlier client.
TAKEN_OVER = 0.5


@dataclass(eq=False, repr=False)
class StepStory:
    """One step so far. ``since`` is when its stage began, ``due`` when the next attempt does.

    ``taken_over`` says that its job was begun by a client before us. ``link`` is where a person can look at
    the job, where its engine has such a place.
    """

    step: WatchedStep
    stage: Stage = Stage.PENDING
    attempt: int = 0
    attempts: int = 0
    since: float = 0.0
    due: float = 0.0
    reason: str = ""
    key: str = ""
    engine_id: str = ""
    node: str = ""
    took: float | None = None
    outcome: StepOutcome | None = None
    usage: Usage | None = None
    peak_memory: int = 0
    taken_over: bool = False
    link: str = ""

    @property
    def name(self) -> str:
        """The step's name."""
        return self.step.name

    @property
    def log_key(self) -> str:
        """The key of the attempt whose log is the step's now; empty before the first."""
        known = self.step.unique_id and self.attempt
        return self.key or (f"{self.step.unique_id}.{self.attempt}" if known else "")


@dataclass(eq=False, repr=False)
class TaskStory:
    """One task so far; ``total`` None as long as nobody knows it."""

    name: str
    began: float
    total: int | None = None
    bytes: int = 0
    told: float = 0.0
    ended: float | None = None
    broken: bool = False


@dataclass(eq=False, repr=False)
class Story:
    """All of it. ``active`` are the steps between their first event and their end, in order of time."""

    clock: Callable[[], float]
    wall: Callable[[], float]
    steps: dict[str, StepStory] = field(default_factory=dict)
    pending: dict[str, StepStory] = field(default_factory=dict)
    active: dict[str, StepStory] = field(default_factory=dict)
    recent: deque[StepStory] = field(default_factory=lambda: deque(maxlen=3))
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    tasks: list[TaskStory] = field(default_factory=list)
    cached: int = 0
    retries: int = 0
    left: float | None = None
    began: float = 0.0

    def watch(self, watched: Watched) -> None:
        """A run is about to begin."""
        self.began = self.clock()
        self.cached = watched.cached
        for step in watched.steps:
            self.steps[step.name] = self.pending[step.name] = StepStory(step)

    def of(self, name: str) -> StepStory:
        """The story of a step, begun where nobody announced it."""
        if name not in self.steps:
            self.steps[name] = self.pending[name] = StepStory(WatchedStep(name))
        return self.steps[name]

    def starting(self, name: str, attempt: int) -> StepStory:
        """A step was handed to the engine."""
        step = self._enter(name, Stage.STARTING)
        step.attempt, step.key, step.engine_id, step.usage = attempt, "", "", None
        step.attempts += 1
        return step

    def running(self, name: str, event: Event) -> StepStory:
        """A job runs: since when is the engine's word, for it may have begun long before us."""
        before = self.of(name)
        handed = before.since if before.stage is Stage.STARTING else self.clock()
        step = self._enter(name, Stage.RUNNING)
        step.since = min(handed, self.clock() - max(0.0, self.wall() - event.time))
        step.taken_over = handed - step.since > TAKEN_OVER
        step.key, step.engine_id, step.node = event.key, event.engine_id, event.node
        step.link = event.message
        return step

    def retrying(self, name: str, reason: str, delay: float) -> StepStory:
        """An attempt failed, and there will be another."""
        step = self._enter(name, Stage.RETRYING)
        step.reason, step.due, step.usage = reason, self.clock() + delay, None
        self.retries += 1
        return step

    def held(self, name: str, reason: str) -> StepStory | None:
        """A step is held up; None where that was known, for the same reason."""
        before = self.of(name)
        if before.stage is Stage.HELD and before.reason == reason:
            return None
        step = self._enter(name, Stage.HELD)
        step.reason = reason
        return step

    def ended(self, outcome: StepOutcome) -> StepStory:
        """A step reached its verdict. It took the time since its last attempt began, if it had any."""
        step = self.of(outcome.name)
        worked = step.stage in (Stage.STARTING, Stage.RUNNING)
        step.took = self.clock() - step.since if worked else None
        self.pending.pop(step.name, None)
        self.active.pop(step.name, None)
        step.stage, step.since, step.outcome, step.reason = Stage.ENDED, self.clock(), outcome, outcome.reason
        step.usage = None
        self.verdicts[outcome.verdict] += 1
        facts = outcome.info.attempt if outcome.info is not None and step.attempts else None
        if facts is not None and facts.peak_memory is not None:
            step.peak_memory = max(step.peak_memory, facts.peak_memory)
        if step.attempts:
            self.recent.append(step)
        return step

    def used(self, usages: Mapping[str, Usage]) -> None:
        """What jobs use now, by key."""
        for step in self.active.values():
            usage = usages.get(step.key)
            if usage is not None and step.stage is Stage.RUNNING:
                step.usage = usage
                step.peak_memory = max(step.peak_memory, usage.peak_memory, usage.memory)

    def at(self, *stages: Stage) -> Iterable[StepStory]:
        """The active steps in these stages."""
        return (step for step in self.active.values() if step.stage in stages)

    def working(self) -> list[TaskStory]:
        """The tasks that have not ended."""
        self.tasks = [task for task in self.tasks if task.ended is None]
        return self.tasks

    def _enter(self, name: str, stage: Stage) -> StepStory:
        step = self.of(name)
        self.pending.pop(name, None)
        self.active[name] = step
        step.stage, step.since = stage, self.clock()
        return step
