"""The only loop over the graph.

Owns order, concurrency and failure of a run: which step may start, what a finished attempt means, and what
becomes of the steps behind a failed one. It knows engines, schedulers and workspaces by their protocols
alone. It refuses to know images, sources and containers: a :class:`JobFactory` turns a claimed step into a job.

One thread decides. Two others only feed its queue: a pump that forwards the engine's events, and a small pool
that concludes attempts (reads the outcome, hashes and commits the result), so that a large result never holds
up the next start.
"""

from __future__ import annotations

import enum
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from dispatch.engine.base import Engine, Event, Handle, JobSpec, JobState
from dispatch.errors import DispatchError, EngineError, ResourceAssignmentError
from dispatch.info import AttemptFacts, StepInfo, StepRecord, StepState
from dispatch.workspace.base import StepCompletedError, StepHeldError

if TYPE_CHECKING:
    from dispatch.schedule import ResourceAssignment, Scheduler
    from dispatch.step import StepResources
    from dispatch.workspace.base import Attempt, Workspace

RENEW_EVERY = 20.0
HELD_RETRY = 1.0
CANCEL_GRACE = 10.0


class Verdict(enum.Enum):
    """How a step of a run ended."""

    CACHED = "cached"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class StepOutcome:
    """The end of one step: verdict, the reason in words, and the record where there is one."""

    name: str
    verdict: Verdict
    reason: str = ""
    info: StepInfo | None = None


@dataclass(frozen=True)
class Work:
    """A step that has to end in this run.

    ``needs`` are the names of other works that must be committed first; steps that are cached already are
    not among them.
    """

    record: StepRecord
    resources: StepResources
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The step's name in the graph."""
        return self.record.name


class JobFactory(Protocol):
    """Turns claimed steps into jobs, and ended attempts into facts."""

    def prepare(self, record: StepRecord, attempt: Attempt, assignment: ResourceAssignment) -> JobSpec:
        """Write the job's files and return its specification. Called from the dispatching thread."""

    def facts(self, record: StepRecord, attempt: Attempt, event: Event) -> AttemptFacts:
        """Say what an ended attempt was, from its outcome and the engine's event. Called from the pool."""


class Observer(Protocol):
    """Is told about every change, in order, from the dispatching thread."""

    def starting(self, name: str, attempt: int) -> None:
        """A step was handed to the engine."""

    def waiting(self, name: str, reason: str) -> None:
        """A step is held up by something outside this run."""

    def ended(self, outcome: StepOutcome) -> None:
        """A step reached its verdict."""


@dataclass(frozen=True)
class _Concluded:
    name: str
    outcome: StepOutcome


class _Closed(enum.Enum):
    CLOSED = "closed"


@dataclass
class _Running:
    work: Work
    attempt: Attempt
    handle: Handle


@dataclass
class _Graph:
    """The works by name with counts of what each still waits for: every change costs its neighbours only."""

    works: dict[str, Work]
    missing: dict[str, int] = field(default_factory=dict)
    dependents: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, works: Iterable[Work]) -> _Graph:
        """Count and invert the needs. Needs outside ``works`` are taken as met."""
        graph = cls({work.name: work for work in works})
        for work in graph.works.values():
            needs = [need for need in dict.fromkeys(work.needs) if need in graph.works]
            graph.missing[work.name] = len(needs)
            for need in needs:
                graph.dependents.setdefault(need, []).append(work.name)
        return graph

    def roots(self) -> list[str]:
        """Names that wait for nothing, in the given order."""
        return [name for name, count in self.missing.items() if count == 0]

    def release(self, name: str) -> list[str]:
        """Mark a work as committed and return the names that became ready."""
        ready = []
        for dependent in self.dependents.get(name, ()):
            self.missing[dependent] -= 1
            if self.missing[dependent] == 0:
                ready.append(dependent)
        return ready

    def behind(self, name: str) -> list[str]:
        """Every work that needs ``name``, directly or not, nearest first."""
        seen: dict[str, None] = {}
        todo = deque(self.dependents.get(name, ()))
        while todo:
            current = todo.popleft()
            if current not in seen:
                seen[current] = None
                todo.extend(self.dependents.get(current, ()))
        return list(seen)


class Dispatcher:
    """Runs works to their verdicts; see the module's docstring. An instance is used for one run."""

    def __init__(
        self,
        *,
        engine: Engine,
        scheduler: Scheduler,
        workspace: Workspace,
        jobs: JobFactory,
        observer: Observer,
        clock: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._scheduler = scheduler
        self._workspace = workspace
        self._jobs = jobs
        self._observer = observer
        self._clock = clock
        self._inbox: queue.Queue[Event | _Concluded | _Closed] = queue.Queue()
        self._running: dict[str, _Running] = {}
        self._concluding = 0
        self._ready: dict[StepResources, deque[str]] = {}
        self._held: dict[str, float] = {}
        self._outcomes: dict[str, StepOutcome] = {}
        self._stopping = False

    def run(self, works: Sequence[Work], run: str) -> Mapping[str, StepOutcome]:
        """Bring every work to a verdict and return them by name.

        On KeyboardInterrupt every job is cancelled, its end recorded, and the interrupt raised again.
        """
        self._graph = _Graph.of(works)
        self._run = run
        for name in self._graph.roots():
            self._enqueue(name)
        stop = threading.Event()
        pump = threading.Thread(target=self._pump, args=(stop,), name="dispatch-events", daemon=True)
        pump.start()
        with ThreadPoolExecutor(2, thread_name_prefix="dispatch-conclude") as self._pool:
            try:
                self._loop()
            except KeyboardInterrupt:
                self._cancel_everything()
                raise
            finally:
                stop.set()
        return self._outcomes

    def _loop(self) -> None:
        renewed = self._clock()
        while len(self._outcomes) < len(self._graph.works):
            self._start_what_fits()
            if len(self._outcomes) == len(self._graph.works):
                break
            self._take(self._next(HELD_RETRY if self._held else RENEW_EVERY))
            now = self._clock()
            if now - renewed >= RENEW_EVERY:
                self._workspace.renew()
                renewed = now
            for name in [name for name, due in self._held.items() if due <= now]:
                del self._held[name]
                self._enqueue(name)

    def _pump(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                event = self._engine.next_event(0.2)
            except EngineError:
                self._inbox.put(_Closed.CLOSED)
                return
            if event is not None:
                self._inbox.put(event)

    def _next(self, timeout: float) -> Event | _Concluded | _Closed | None:
        try:
            return self._inbox.get(timeout=timeout)
        except queue.Empty:
            return None

    def _enqueue(self, name: str) -> None:
        self._ready.setdefault(self._graph.works[name].resources, deque()).append(name)

    def _start_what_fits(self) -> None:
        """Start ready steps until none fits.

        Ready steps wait in one queue for each shape of resources, so a tick looks at one step a shape
        however many wait, and a large step does not hold up a small one.
        """
        for shape in list(self._ready):
            waiting = self._ready[shape]
            while waiting:
                work = self._graph.works[waiting[0]]
                try:
                    assignment = self._scheduler.schedule(work.record.unique_id, work.resources)
                except ResourceAssignmentError:
                    break
                except DispatchError as error:
                    waiting.popleft()
                    self._end(StepOutcome(work.name, Verdict.FAILED, error.message))
                    continue
                waiting.popleft()
                self._start(work, assignment)
            if not waiting:
                del self._ready[shape]

    def _start(self, work: Work, assignment: ResourceAssignment) -> None:
        try:
            attempt = self._workspace.claim(work.record, self._run)
        except StepCompletedError:
            self._scheduler.release(work.record.unique_id)
            info = self._workspace.step_info(work.record.unique_id)
            self._end(StepOutcome(work.name, Verdict.CACHED, "computed by another run meanwhile", info))
            return
        except StepHeldError as error:
            self._scheduler.release(work.record.unique_id)
            self._held[work.name] = self._clock() + HELD_RETRY
            self._observer.waiting(work.name, error.message)
            return
        try:
            job = self._jobs.prepare(work.record, attempt, assignment)
            (handle,) = self._engine.submit([job])
        except DispatchError as error:
            self._scheduler.release(work.record.unique_id)
            info = self._workspace.fail(attempt, work.record, AttemptFacts.refused(error.message))
            self._end(StepOutcome(work.name, Verdict.FAILED, error.message, info))
            return
        self._running[job.key] = _Running(work, attempt, handle)
        self._observer.starting(work.name, attempt.number)

    def _take(self, message: Event | _Concluded | _Closed | None) -> None:
        if isinstance(message, Event):
            if message.state is JobState.EXITED and message.key in self._running:
                running = self._running.pop(message.key)
                self._concluding += 1
                self._pool.submit(self._conclude, running, message)
        elif isinstance(message, _Concluded):
            self._concluding -= 1
            self._scheduler.release(self._graph.works[message.name].record.unique_id)
            self._end(message.outcome)
        elif message is _Closed.CLOSED:
            raise EngineError(
                "the engine stopped answering in the middle of the run",
                "start it again and repeat the command: finished steps are kept",
            )

    def _conclude(self, running: _Running, event: Event) -> None:
        """Judge an ended attempt, commit or record it, and only then let the engine forget the job."""
        work, attempt = running.work, running.attempt
        try:
            facts = self._jobs.facts(work.record, attempt, event)
            if facts.state is StepState.COMPLETED:
                info = self._workspace.commit(attempt, work.record, facts)
                outcome = StepOutcome(work.name, Verdict.COMPLETED, "", info)
            else:
                info = self._workspace.fail(attempt, work.record, facts)
                verdict = Verdict.CANCELLED if self._stopping else Verdict.FAILED
                outcome = StepOutcome(work.name, verdict, facts.error or facts.reason, info)
        except DispatchError as error:
            outcome = self._lost(work, attempt, error.message)
        except OSError as error:
            outcome = self._lost(work, attempt, f"the result cannot be kept: {error}")
        self._engine.release(running.handle)
        self._inbox.put(_Concluded(work.name, outcome))

    def _lost(self, work: Work, attempt: Attempt, message: str) -> StepOutcome:
        """The attempt ended but could not be recorded as it was: record that, as far as the disk lets us."""
        try:
            info = self._workspace.fail(attempt, work.record, AttemptFacts.refused(message))
        except (DispatchError, OSError):
            return StepOutcome(work.name, Verdict.FAILED, message)
        return StepOutcome(work.name, Verdict.FAILED, message, info)

    def _end(self, outcome: StepOutcome) -> None:
        if outcome.name in self._outcomes:
            return
        self._outcomes[outcome.name] = outcome
        self._observer.ended(outcome)
        if outcome.verdict in (Verdict.CACHED, Verdict.COMPLETED):
            for name in self._graph.release(outcome.name):
                self._enqueue(name)
            return
        for name in self._graph.behind(outcome.name):
            if name not in self._outcomes:
                skipped = StepOutcome(
                    name, Verdict.SKIPPED, f"needs {outcome.name!r}, which {outcome.verdict.value}"
                )
                self._outcomes[name] = skipped
                self._observer.ended(skipped)

    def _cancel_everything(self) -> None:
        """Stop all jobs, record their ends, and give the rest the verdict CANCELLED.

        Waits for the ends a little longer than the grace; an engine that says nothing by then leaves the
        attempts without an end, which the next claim of their steps settles.
        """
        self._stopping = True
        self._ready.clear()
        self._held.clear()
        self._engine.cancel([running.handle for running in self._running.values()], CANCEL_GRACE)
        deadline = self._clock() + CANCEL_GRACE + 5.0
        while (self._running or self._concluding) and self._clock() < deadline:
            try:
                self._take(self._next(0.2))
            except EngineError:
                break
        for name in self._graph.works:
            self._end(StepOutcome(name, Verdict.CANCELLED, "the run was interrupted"))
