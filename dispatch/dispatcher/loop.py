"""The loop. One thread decides; it takes one message at a time and starts what that made possible.

Two others only feed it: a pump that forwards the engine's events, and a small pool that concludes attempts
(reads the outcome, hashes and commits the result), so that a large result never holds up the next start.
"""

from __future__ import annotations

import logging
import queue
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dispatch.dispatcher.inbox import Broken, Concluded, Interrupt, Message, interrupts
from dispatch.dispatcher.order import Order
from dispatch.dispatcher.telling import Telling
from dispatch.dispatcher.work import Claims, JobFactory, Observer, Pace, StepOutcome, Verdict, Work
from dispatch.engine.base import Engine, Event, Handle, JobState, Reason
from dispatch.engine.pump import Pump
from dispatch.errors import DispatchError, EngineError, ResourceAssignmentError
from dispatch.info import AttemptFacts, StepState
from dispatch.workspace.base import StepCompletedError, StepHeldError

if TYPE_CHECKING:
    from dispatch.schedule import ResourceAssignment, Scheduler
    from dispatch.step import StepResources
    from dispatch.workspace.base import Attempt

CONCLUDERS = 2
SUPERSEDED = "another run took its attempt for lost and works at it"

_log = logging.getLogger(__name__)


@dataclass
class _Running:
    work: Work
    attempt: Attempt
    handle: Handle
    superseded: bool = False


class Dispatcher:
    """Runs works to their verdicts, each to exactly one. An instance is used for one run."""

    def __init__(
        self,
        *,
        engine: Engine,
        scheduler: Scheduler,
        workspace: Claims,
        jobs: JobFactory,
        observer: Observer,
        pace: Pace,
    ) -> None:
        self._engine = engine
        self._scheduler = scheduler
        self._workspace = workspace
        self._jobs = jobs
        self._observer = Telling(observer)
        self._pace = pace
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._pump = Pump(engine, self._inbox.put, lambda error: self._inbox.put(Broken(error)))
        self._running: dict[str, _Running] = {}
        self._concluding = 0
        # Ready steps wait in one queue for each shape of resources, so a look at what fits costs one question
        # a shape however many wait, and a large step does not hold up a small one.
        self._ready: dict[StepResources, deque[Work]] = {}
        self._untried: dict[StepResources, None] = {}
        self._held: dict[str, float] = {}
        self._outcomes: dict[str, StepOutcome] = {}
        self._stopping = False
        self._interrupted = False

    def run(self, works: Sequence[Work], run: str) -> Mapping[str, StepOutcome]:
        """Bring every work to a verdict and return them by name.

        An interrupt (KeyboardInterrupt, or a signal that would raise it) cancels every job; a second one
        kills them. When all ends are recorded, KeyboardInterrupt is raised. EngineError if the engine goes
        away; the attempts that ran are recorded as lost.
        """
        self._order = Order.of(works)
        self._run = run
        for name in self._order.roots():
            self._enqueue(name)
        with interrupts(self._interrupt), ThreadPoolExecutor(CONCLUDERS, "dispatch-conclude") as self._pool:
            self._pump.start()
            try:
                self._loop()
            except BaseException as error:
                self._break_off(error)
                raise
            finally:
                self._pump.stop()
        if self._interrupted:
            raise KeyboardInterrupt
        return self._outcomes

    def _interrupt(self) -> None:
        self._interrupted = True
        self._inbox.put(Interrupt.INTERRUPT)

    def _loop(self) -> None:
        self._renewed = self._pace.clock()
        while len(self._outcomes) < len(self._order.works):
            if self._start_one():
                message = self._next(0)
            else:
                message = self._next(self._pace.tick)
                if message is None:
                    # Room may have come from outside: other clients use the same machine.
                    self._untried = dict.fromkeys(self._ready)
            if message is not None:
                self._take(message)
            self._keep_time(self._pace.clock())

    def _next(self, timeout: float) -> Message | None:
        try:
            return self._inbox.get(timeout=timeout) if timeout else self._inbox.get_nowait()
        except queue.Empty:
            return None

    def _take(self, message: Message) -> None:
        if isinstance(message, Event):
            if message.state is JobState.EXITED and message.key in self._running:
                running = self._running.pop(message.key)
                self._give_back(running.work)
                self._concluding += 1
                self._pool.submit(self._conclude, running, message)
        elif isinstance(message, Concluded):
            self._concluding -= 1
            if message.outcome is not None:
                self._end(message.outcome)
            elif not self._stopping:
                self._hold(message.name, SUPERSEDED)
        elif isinstance(message, Broken):
            if not isinstance(message.error, EngineError):
                raise message.error
            raise EngineError(
                f"the engine stopped answering in the middle of the run: {message.error.message}",
                "start it again and repeat the command: finished steps are kept",
            ) from message.error
        else:
            raise KeyboardInterrupt

    def _keep_time(self, now: float) -> None:
        if now - self._renewed >= self._pace.renew:
            self._renewed = now
            self._renew()
        # The first was held first, and all are held for the same time.
        while self._held:
            name, due = next(iter(self._held.items()))
            if due > now:
                return
            del self._held[name]
            self._enqueue(name)

    def _renew(self) -> None:
        try:
            lost = self._workspace.renew()
        except Exception as error:
            # A lease lives for several intervals; if it is lost all the same, the next renewal or the commit
            # says so.
            _log.warning("leases could not be renewed: %s", error)
            return
        for attempt in lost:
            running = self._running.get(attempt.key)
            if running is not None and not running.superseded:
                running.superseded = True
                self._observer.waiting(running.work.name, SUPERSEDED)
                self._cancel([running.handle], self._pace.grace)

    # Starting.

    def _enqueue(self, name: str) -> None:
        work = self._order.works[name]
        self._ready.setdefault(work.resources, deque()).append(work)
        self._untried[work.resources] = None

    def _give_back(self, work: Work) -> None:
        """Release what a job held: every shape may fit again."""
        self._scheduler.release(work.record.unique_id)
        self._untried = dict.fromkeys(self._ready)

    def _start_one(self) -> bool:
        """Start the next ready step that fits; False if none does until something changes."""
        while self._untried:
            shape = next(iter(self._untried))
            if shape not in self._ready:
                del self._untried[shape]
                continue
            work = self._ready[shape][0]
            try:
                assignment = self._scheduler.schedule(work.record.unique_id, work.resources)
            except ResourceAssignmentError as error:
                del self._untried[shape]
                if not self._running:
                    self._observer.waiting(work.name, error.message)
                continue
            except DispatchError as error:
                self._dequeue(shape)
                self._end(StepOutcome(work.name, Verdict.FAILED, error.message))
                return True
            self._dequeue(shape)
            self._start(work, assignment)
            return True
        return False

    def _dequeue(self, shape: StepResources) -> None:
        self._ready[shape].popleft()
        if not self._ready[shape]:
            del self._ready[shape]

    def _start(self, work: Work, assignment: ResourceAssignment) -> None:
        attempt = self._claim(work)
        if attempt is None:
            self._scheduler.release(work.record.unique_id)
            return
        try:
            job = self._jobs.prepare(work.record, attempt, assignment)
            self._pump.expect(job.key)
            (handle,) = self._engine.submit([job])
        except BaseException as error:
            self._scheduler.release(work.record.unique_id)
            self._end(self._lost(work, attempt, _in_words(error)))
            if not isinstance(error, Exception):
                raise
            return
        self._running[job.key] = _Running(work, attempt, handle)
        self._observer.starting(work.name, attempt.number)

    def _claim(self, work: Work) -> Attempt | None:
        """Claim a step, or end or hold it where that cannot be.

        One that is to be computed again is so once, whatever other names it has.
        """
        replace = work.replaces and work.name not in self._order.twins
        try:
            return self._workspace.claim(work.record, self._run, replace=replace)
        except StepCompletedError:
            self._end(self._found(work))
        except StepHeldError as error:
            self._hold(work.name, error.message)
        except Exception as error:
            self._end(StepOutcome(work.name, Verdict.FAILED, _in_words(error)))
        return None

    def _found(self, work: Work) -> StepOutcome:
        twin = self._order.twins.get(work.name)
        reason = f"the same step as {twin!r}" if twin else "computed by another run meanwhile"
        try:
            info = self._workspace.step_info(work.record.unique_id)
        except Exception:
            # The result is there, which is all that matters here; only what is said of it is missing.
            info = None
        return StepOutcome(work.name, Verdict.CACHED, reason, info)

    def _hold(self, name: str, reason: str) -> None:
        self._held[name] = self._pace.clock() + self._pace.held
        self._observer.waiting(name, reason)

    # Ending.

    def _conclude(self, running: _Running, event: Event) -> None:
        """Judge an ended attempt, record it, and only then let the engine forget the job.

        Whatever happens in here, the loop hears of the end: it waits for it. It does not wait for the engine
        to forget, which may take as long as the step did; the pool is waited for at the end of the run.
        """
        try:
            outcome = self._judge(running, event)
        except BaseException as error:
            outcome = self._lost(running.work, running.attempt, _in_words(error))
        self._inbox.put(Concluded(running.work.name, outcome))
        try:
            self._engine.release(running.handle)
        except Exception as error:
            # What the engine still holds of the job is found again by its labels.
            _log.debug("%s could not be released: %s", running.handle, error)

    def _judge(self, running: _Running, event: Event) -> StepOutcome | None:
        work, attempt = running.work, running.attempt
        if running.superseded:
            self._workspace.fail(attempt, work.record, AttemptFacts.refused(SUPERSEDED))
            return None
        facts = self._jobs.facts(work.record, attempt, event)
        if facts.state is StepState.COMPLETED:
            info = self._workspace.commit(attempt, work.record, facts)
            return StepOutcome(work.name, Verdict.COMPLETED, "", info)
        info = self._workspace.fail(attempt, work.record, facts)
        cancelled = self._stopping and facts.reason == Reason.CANCELLED.value
        verdict = Verdict.CANCELLED if cancelled else Verdict.FAILED
        return StepOutcome(work.name, verdict, facts.error or facts.reason, info)

    def _lost(self, work: Work, attempt: Attempt, message: str, reason: str = "") -> StepOutcome:
        """The attempt could not be recorded as it was: record that, as far as the disk lets us."""
        facts = AttemptFacts(StepState.FAILED, reason=reason, error=message)
        verdict = Verdict.CANCELLED if reason == Reason.CANCELLED.value else Verdict.FAILED
        try:
            info = self._workspace.fail(attempt, work.record, facts)
        except Exception as error:
            _log.debug("%s: no end recorded: %s", attempt.key, error)
            return StepOutcome(work.name, verdict, message)
        return StepOutcome(work.name, verdict, message, info)

    def _end(self, outcome: StepOutcome) -> None:
        self._outcomes[outcome.name] = outcome
        self._observer.ended(outcome)
        if self._stopping:
            return
        if outcome.verdict in (Verdict.CACHED, Verdict.COMPLETED):
            for name in self._order.release(outcome.name):
                self._enqueue(name)
            return
        for name in self._order.behind(outcome.name, self._outcomes):
            same = self._order.twins.get(name) == outcome.name
            relation = "is the same step as" if same else "needs"
            skipped = StepOutcome(name, Verdict.SKIPPED, f"{relation} {outcome.name!r}, which failed")
            self._outcomes[name] = skipped
            self._observer.ended(skipped)

    # Breaking off.

    def _break_off(self, error: BaseException) -> None:
        """Stop all jobs, record their ends, and give the rest the verdict CANCELLED.

        Results that are just being committed are waited for. An engine that says nothing in time leaves
        attempts of which nobody knows the end: that is recorded.
        """
        self._stopping = True
        self._ready.clear()
        self._untried.clear()
        self._held.clear()
        engine_lost = isinstance(error, EngineError)
        if isinstance(error, KeyboardInterrupt):
            words = "the run was interrupted"
        else:
            words = _in_words(error)
        if not engine_lost:
            self._cancel([running.handle for running in self._running.values()], self._pace.grace)
        self._drain(self._pace.clock() + (0.0 if engine_lost else self._pace.grace + self._pace.patience))
        reason = Reason.LOST if engine_lost else Reason.CANCELLED
        for running in self._running.values():
            self._scheduler.release(running.work.record.unique_id)
            self._end(self._lost(running.work, running.attempt, words, reason.value))
        self._running.clear()
        for name in self._order.works:
            if name not in self._outcomes:
                self._end(StepOutcome(name, Verdict.CANCELLED, words))

    def _drain(self, deadline: float) -> None:
        while self._concluding or (self._running and self._pace.clock() < deadline):
            message = self._next(min(self._pace.tick, 0.2))
            if isinstance(message, Interrupt):
                self._cancel([running.handle for running in self._running.values()], 0.0)
            elif isinstance(message, Broken):
                deadline = self._pace.clock()
            elif message is not None:
                self._take(message)

    def _cancel(self, handles: Sequence[Handle], grace: float) -> None:
        try:
            self._engine.cancel(handles, grace)
        except (Exception, KeyboardInterrupt) as error:
            # The ends are waited for all the same; those that do not come have a deadline.
            _log.debug("jobs could not be cancelled: %s", error)


def _in_words(error: BaseException) -> str:
    if isinstance(error, DispatchError):
        return error.message
    if isinstance(error, OSError):
        return f"the system refused: {error}"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    _log.debug("unexpected error", exc_info=error)
    return f"unexpected {type(error).__name__}: {error}"
