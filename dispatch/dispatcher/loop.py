"""The loop. One thread decides; it takes one message at a time and starts what that made possible.

Two others only feed it: a pump that forwards the engine's events, and a small pool that concludes attempts
(reads the outcome, hashes and commits the result), so that a large result never holds up the next start.

A step is in one place at a time: it waits for others (``Order``), is ready (``Ready``), is put off until
its time comes (``Timers``), has a job (``_running``), is being concluded, or has its outcome.
"""

from __future__ import annotations

import logging
import queue
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from dispatch.dispatcher.again import Retries
from dispatch.dispatcher.concluding import SUPERSEDED, Concluder, Running, Stop, in_words
from dispatch.dispatcher.inbox import Broken, Cancel, Concluded, Interrupt, Message, interrupts
from dispatch.dispatcher.order import Order
from dispatch.dispatcher.orphans import Orphans
from dispatch.dispatcher.ready import Ready
from dispatch.dispatcher.telling import Telling
from dispatch.dispatcher.timers import Due, Requeue, TimeLimit, Timers
from dispatch.dispatcher.work import Claims, JobFactory, Observer, Pace, StepOutcome, Verdict, Work
from dispatch.engine.base import Engine, Event, Handle, JobState, Reason
from dispatch.engine.pump import Pump
from dispatch.errors import DispatchError, EngineError, ResourceAssignmentError
from dispatch.schedule.base import GroupFullError, ResourceAssignment
from dispatch.workspace.base import Orphan, StepCompletedError, StepHeldError

if TYPE_CHECKING:
    from dispatch.schedule import Scheduler
    from dispatch.workspace.base import Attempt

CONCLUDERS = 2
ADOPTED = "another run looks after its job"
CANCELLED = "it was cancelled"

_log = logging.getLogger(__name__)


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
        self._concluder = Concluder(engine, workspace, jobs, self._inbox.put)
        self._orphans = Orphans(engine, pace.clock, pace.held)
        self._retries = Retries(pace.chance)
        self._ready = Ready()
        self._timers = Timers()
        self._running: dict[str, Running] = {}
        self._concluding: set[str] = set()
        self._outcomes: dict[str, StepOutcome] = {}
        self._dropped: set[str] = set()
        self._grace = pace.grace
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
            self._ready.add(self._order.works[name])
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

    def cancel(self, names: Sequence[str] | None = None, grace: float | None = None) -> None:
        """Have steps stopped, which get the verdict CANCELLED; without ``names``, have the run end.

        Jobs are killed after ``grace`` seconds, the pace's own where none are given. May be called from any
        thread, and returns at once; steps that have ended, or are not of this run, are left alone.
        """
        if names is None:
            self._interrupt(grace)
        else:
            self._inbox.put(Cancel(tuple(names), self._pace.grace if grace is None else grace))

    def _interrupt(self, grace: float | None = None) -> None:
        self._interrupted = True
        self._inbox.put(Interrupt(grace))

    def _loop(self) -> None:
        self._renewed = self._pace.clock()
        while len(self._outcomes) < len(self._order.works):
            if self._start_one():
                message = self._next(0)
            else:
                message = self._next(self._longest_wait())
                if message is None:
                    # Room may have come from outside: other clients use the same machine.
                    self._ready.look_again()
            if message is not None:
                self._take(message)
            self._keep_time(self._pace.clock())

    def _longest_wait(self) -> float:
        due = self._timers.next()
        return self._pace.tick if due is None else min(self._pace.tick, max(0.0, due - self._pace.clock()))

    def _next(self, timeout: float) -> Message | None:
        try:
            return self._inbox.get(timeout=timeout) if timeout else self._inbox.get_nowait()
        except queue.Empty:
            return None

    def _take(self, message: Message) -> None:
        if isinstance(message, Event):
            running = self._running.get(message.key)
            if running is not None:
                self._hear(running, message)
        elif isinstance(message, Concluded):
            self._concluding.discard(message.name)
            self._settle(message)
        elif isinstance(message, Cancel):
            self._drop(message)
        elif isinstance(message, Broken):
            if not isinstance(message.error, EngineError):
                raise message.error
            raise EngineError(
                f"the engine stopped answering in the middle of the run: {message.error.message}",
                "start it again and repeat the command: finished steps are kept",
            ) from message.error
        else:
            self._grace = self._pace.grace if message.grace is None else message.grace
            raise KeyboardInterrupt

    def _hear(self, running: Running, event: Event) -> None:
        work = running.work
        if event.state is JobState.EXITED:
            del self._running[event.key]
            self._give_back(work)
            self._concluding.add(work.name)
            self._pool.submit(self._concluder.conclude, running, event)
            return
        if event.state is JobState.WAITING:
            self._observer.waiting(work.name, event.message)
            return
        self._observer.running(work.name, event)
        if work.timeout is not None:
            # A job that we took over has been running for a while, by the engine's clock.
            since = max(0.0, self._pace.wall() - event.time)
            self._timers.set(self._pace.clock() + work.timeout - since, TimeLimit(event.key))

    def _keep_time(self, now: float) -> None:
        if now - self._renewed >= self._pace.renew:
            self._renewed = now
            self._renew()
        for due in self._timers.due(now):
            self._ring(due)

    def _ring(self, due: Due) -> None:
        if isinstance(due, Requeue):
            if due.name not in self._outcomes:
                self._ready.add(self._order.works[due.name])
            return
        running = self._running.get(due.key)
        if running is not None and running.stop is None:
            self._stop(running, Stop.TIMEOUT, self._pace.grace)

    def _renew(self) -> None:
        try:
            lost = self._workspace.renew()
        except Exception as error:
            # A lease lives for several intervals; if it is lost all the same, the next renewal or the commit
            # says so.
            _log.warning("leases could not be renewed: %s", error)
            return
        for each in lost:
            running = self._running.get(each.attempt.job_key)
            if running is None or running.attempt.key != each.attempt.key:
                continue
            if each.adopted:
                # The job is theirs: it goes on, and the engine is not to forget it.
                del self._running[each.attempt.job_key]
                self._give_back(running.work)
                self._put_off(running.work.name, ADOPTED)
            elif running.stop is not Stop.SUPERSEDED:
                self._observer.waiting(running.work.name, SUPERSEDED)
                self._stop(running, Stop.SUPERSEDED, self._pace.grace)

    # Starting.

    def _give_back(self, work: Work) -> None:
        """Release what a job held: every shape may fit again."""
        self._scheduler.release(work.record.unique_id)
        self._ready.look_again()

    def _start_one(self) -> bool:
        """Start the next ready step that fits; False if none does until something changes."""
        while (work := self._ready.first()) is not None:
            if work.name in self._outcomes:
                self._ready.take(work)
                continue
            try:
                assignment = self._scheduler.schedule(work.record.unique_id, work.resources, work.group)
            except ResourceAssignmentError as error:
                # Whoever waits for a place in a group waits for nothing that others could take.
                self._ready.refuse(work, waits=not isinstance(error, GroupFullError))
                if not self._running:
                    self._observer.waiting(work.name, error.message)
                continue
            except DispatchError as error:
                self._ready.take(work)
                self._end(StepOutcome(work.name, Verdict.FAILED, error.message))
                return True
            self._ready.take(work)
            self._start(work, assignment)
            return True
        return False

    def _start(self, work: Work, assignment: ResourceAssignment) -> None:
        attempt = self._claim(work)
        if attempt is None:
            self._give_back(work)
            return
        self._submit(work, attempt, assignment)

    def _submit(self, work: Work, attempt: Attempt, assignment: ResourceAssignment) -> None:
        try:
            job = self._jobs.prepare(work.record, attempt, assignment)
            self._pump.expect(job.key)
            (handle,) = self._engine.submit([job])
        except BaseException as error:
            self._give_back(work)
            self._end(self._concluder.lost(work, attempt, in_words(error)))
            if not isinstance(error, Exception):
                raise
            return
        self._running[job.key] = Running(work, attempt, handle)
        self._observer.starting(work.name, attempt.job)

    def _claim(self, work: Work) -> Attempt | None:
        """Claim a step, or end it or put it off where that cannot be.

        One that is to be computed again is so once, whatever other names it has.
        """
        replace = work.replaces and work.name not in self._order.twins
        adopts = partial(self._adopts, work) if work.outlives else None
        try:
            return self._workspace.claim(work.record, self._run, replace=replace, adopts=adopts)
        except StepCompletedError:
            self._end(self._found(work))
        except StepHeldError as error:
            self._put_off(work.name, error.message)
        except Exception as error:
            self._end(StepOutcome(work.name, Verdict.FAILED, in_words(error)))
        return None

    def _adopts(self, work: Work, orphan: Orphan) -> bool:
        """Say whether to go on with a job that was left behind. It may be of another source: then not."""
        if work.replaces:
            self._orphans.sweep(orphan)
            return False
        return self._orphans.handle(orphan) is not None

    def _found(self, work: Work) -> StepOutcome:
        twin = self._order.twins.get(work.name)
        reason = f"the same step as {twin!r}" if twin else "computed by another run meanwhile"
        try:
            info = self._workspace.step_info(work.record.unique_id)
        except Exception:
            # The result is there, which is all that matters here; only what is said of it is missing.
            info = None
        return StepOutcome(work.name, Verdict.CACHED, reason, info)

    def _put_off(self, name: str, reason: str) -> None:
        """Let a step alone for a while that somebody else works at."""
        self._timers.set(self._pace.clock() + self._pace.held, Requeue(name))
        self._observer.waiting(name, reason)

    # Ending.

    def _settle(self, message: Concluded) -> None:
        """Give a step whose attempt has ended its outcome, or another attempt."""
        name, outcome, pause = message.name, message.outcome, None
        if outcome is not None and outcome.verdict is Verdict.FAILED and message.facts is not None:
            pause = self._retries.pause(self._order.works[name], message.facts)
        unsettled = outcome is None or pause is not None
        if self._stopping and unsettled:
            return
        if name in self._dropped and unsettled:
            self._end(StepOutcome(name, Verdict.CANCELLED, CANCELLED))
        elif outcome is None:
            self._put_off(name, SUPERSEDED)
        elif pause is not None:
            self._timers.set(self._pace.clock() + pause, Requeue(name))
            self._observer.retrying(name, outcome.reason, pause)
        else:
            self._end(outcome)

    def _end(self, outcome: StepOutcome) -> None:
        self._outcomes[outcome.name] = outcome
        self._observer.ended(outcome)
        if self._stopping:
            return
        if outcome.verdict in (Verdict.CACHED, Verdict.COMPLETED):
            for name in self._order.release(outcome.name):
                self._ready.add(self._order.works[name])
            return
        what = "was cancelled" if outcome.verdict is Verdict.CANCELLED else "failed"
        for name in self._order.behind(outcome.name, self._outcomes):
            same = self._order.twins.get(name) == outcome.name
            relation = "is the same step as" if same else "needs"
            skipped = StepOutcome(name, Verdict.SKIPPED, f"{relation} {outcome.name!r}, which {what}")
            self._outcomes[name] = skipped
            self._observer.ended(skipped)

    # Stopping.

    def _drop(self, message: Cancel) -> None:
        """Stop steps for good, wherever they are."""
        running = {each.work.name: each for each in self._running.values()}
        for name in message.names:
            if name in self._outcomes or name not in self._order.works:
                continue
            self._dropped.add(name)
            if name in running:
                self._stop(running[name], Stop.CANCELLED, message.grace)
            elif name not in self._concluding:
                self._end(StepOutcome(name, Verdict.CANCELLED, CANCELLED))

    def _stop(self, running: Running, why: Stop, grace: float) -> None:
        running.stop = why
        self._cancel([running.handle], grace)

    def _cancel_all(self, grace: float) -> None:
        for running in self._running.values():
            running.stop = running.stop or Stop.CANCELLED
        self._cancel([running.handle for running in self._running.values()], grace)

    def _cancel(self, handles: Sequence[Handle], grace: float) -> None:
        try:
            self._engine.cancel(handles, grace)
        except (Exception, KeyboardInterrupt) as error:
            # The ends are waited for all the same; those that do not come have a deadline.
            _log.debug("jobs could not be cancelled: %s", error)

    def _break_off(self, error: BaseException) -> None:
        """Stop all jobs, record their ends, and give the rest the verdict CANCELLED.

        Results that are just being committed are waited for. An engine that says nothing in time leaves
        attempts of which nobody knows the end: that is recorded, and if the engine comes back with their
        jobs, the next run goes on with them.
        """
        self._stopping = True
        self._ready.clear()
        self._timers.clear()
        engine_lost = isinstance(error, EngineError)
        if isinstance(error, KeyboardInterrupt):
            words = "the run was interrupted"
        else:
            words = in_words(error)
        if isinstance(error, KeyboardInterrupt):
            self._take_left(words)
        if not engine_lost:
            self._cancel_all(self._grace)
        self._drain(self._pace.clock() + (0.0 if engine_lost else self._grace + self._pace.patience))
        reason = Reason.LOST if engine_lost else Reason.CANCELLED
        for running in self._running.values():
            self._scheduler.release(running.work.record.unique_id)
            self._end(self._concluder.lost(running.work, running.attempt, words, reason.value))
        self._running.clear()
        for name in self._order.works:
            if name not in self._outcomes:
                self._end(StepOutcome(name, Verdict.CANCELLED, words))

    def _take_left(self, words: str) -> None:
        """Take over what clients before us left running and we had not come to, so that it ends, too."""
        busy = {running.work.name for running in self._running.values()} | self._concluding
        for name, work in self._order.works.items():
            if name in self._outcomes or name in busy or not work.outlives:
                continue
            try:
                orphan = self._workspace.orphan(work.record.unique_id)
                attempt = self._claim(work) if orphan and self._orphans.handle(orphan) else None
                if attempt is not None and attempt.adopts:
                    self._submit(work, attempt, ResourceAssignment())
                elif attempt is not None:
                    self._end(self._concluder.lost(work, attempt, words, Reason.CANCELLED.value))
            except Exception as error:
                _log.debug("%s: what was left of it could not be ended: %s", name, error)

    def _drain(self, deadline: float) -> None:
        while self._concluding or (self._running and self._pace.clock() < deadline):
            message = self._next(min(self._pace.tick, 0.2))
            if isinstance(message, Interrupt):
                self._cancel_all(0.0)
            elif isinstance(message, Broken):
                deadline = self._pace.clock()
            elif message is not None:
                self._take(message)
