"""The loop that plans whenever something has changed, and writes down and carries out what was decided.

Owns when a plan is made, and that a decision is written whole or not at all before it is carried out: a
process that dies in between leaves jobs that are assigned, and the next one adopts them. Decides nothing.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace

from dispatch.beakerd.backend import Backend
from dispatch.beakerd.schedule.plan import plan
from dispatch.beakerd.schedule.values import Decisions, Rules, Running
from dispatch.beakerd.store.lifecycle import Assignment, Code
from dispatch.beakerd.store.queue import Look, Queue, being_stopped, open_nodes, queued_jobs

SECOND = 1_000_000_000
LONGEST_SLEEP = 3600.0
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
PREEMPTED = "preempted by a job of higher priority"


@dataclass(frozen=True)
class Applied:
    """What was written down and is to be carried out."""

    start: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()


class Scheduler:
    """Plans for one server. :meth:`run` it in a thread of its own until :meth:`close`; :meth:`changed` may be
    called by anyone.

    ``start`` and ``stop`` carry out for a job what was written down; both return at once. ``monotonic`` is in
    nanoseconds: minimum run times are measured on it, so that nobody is preempted early or kept long because
    a clock was set.
    """

    def __init__(
        self,
        backend: Backend,
        start: Callable[[str], None],
        stop: Callable[[str], None],
        monotonic: Callable[[], int] = time.monotonic_ns,
    ):
        self._backend = backend
        self._start = start
        self._stop = stop
        self._monotonic = monotonic
        self._queue = Queue()
        assume = backend.config.assume
        self._rules = Rules(strict_order=assume.strict_order, preempt_unasked=assume.preempt_unasked)
        self._begun: dict[str, int] = {}
        self._told: set[str] = set()
        self._condition = threading.Condition()
        self._closing = threading.Event()
        # The state that a server finds at its start is news to it.
        self._dirty = True

    def changed(self) -> None:
        """The queue or the nodes have changed. Any number of calls while a plan is made are one more plan."""
        with self._condition:
            self._dirty = True
            self._condition.notify()

    def close(self) -> None:
        """Plan no more."""
        self._closing.set()
        with self._condition:
            self._condition.notify()

    def run(self) -> None:
        """Plan until closed. What goes wrong is said in the log and tried again, with growing pauses.

        Each plan is followed by a pause of the same length, so that a long queue which changes all the time
        leaves half of the time to those who ask.
        """
        wake: int | None = None
        failures = 0
        while self._until_changed(wake):
            begun = self._monotonic()
            try:
                wake = self.pass_once()
                failures, pause = 0, (self._monotonic() - begun) / SECOND
            except Exception:
                self._backend.say(f"scheduling failed, and is tried again: {traceback.format_exc()}")
                pause = min(FIRST_PAUSE * 2**failures, LONGEST_PAUSE)
                failures += 1
                self.changed()
            self._closing.wait(pause)

    def pass_once(self) -> int | None:
        """Look, decide, write down, carry out. Return when to look again although nothing has changed."""
        with self._backend.database.read() as tx:
            look = self._queue.look(tx)
        now = self._monotonic()
        running = self._measured(look.running, now)
        decisions = plan(look.waiting, running, look.nodes, now, self._rules)
        applied = self._write(look, decisions)
        for job in applied.start:
            self._carry_out(self._start, job)
        for job in self._untold(look.running, applied.stop):
            self._carry_out(self._stop, job)
        return decisions.wake

    def _untold(self, running: tuple[Running, ...], stopped: tuple[str, ...]) -> list[str]:
        """Those that are to stop and were not told by this scheduler: a wish may come of another job's end,
        as a failure that stops its siblings does, and then nobody else carries it out."""
        stopping = {job.id for job in running if job.stopping}.union(stopped)
        untold, self._told = stopping - self._told, stopping
        return sorted(untold)

    def _until_changed(self, wake: int | None) -> bool:
        with self._condition:
            if wake is None:
                seconds = None
            else:
                seconds = min(max(wake - self._monotonic(), 0) / SECOND, LONGEST_SLEEP)
            self._condition.wait_for(lambda: self._dirty or self._closing.is_set(), seconds)
            self._dirty = False
        return not self._closing.is_set()

    def _measured(self, running: tuple[Running, ...], now: int) -> list[Running]:
        """The same with their beginnings on the clock that is never set; what ran before is recorded."""
        for job in running:
            if job.since is not None and job.id not in self._begun:
                self._begun[job.id] = now - max(self._backend.clock.now() - job.since, 0)
        for gone in self._begun.keys() - {job.id for job in running}:
            del self._begun[gone]
        return [replace(job, since=self._begun.get(job.id)) for job in running]

    def _write(self, look: Look, decisions: Decisions) -> Applied:
        """Write down in one transaction what still holds: what has changed since the look comes up again."""
        news = {job: reason for job, reason in decisions.reasons.items() if look.said.get(job) != reason}
        if not (decisions.assignments or decisions.preemptions or news):
            return Applied()
        lifecycle = self._backend.lifecycle
        started: list[str] = []
        with self._backend.database.write() as tx:
            places = open_nodes(tx)
            for each in decisions.assignments:
                place = Assignment(each.node, each.gpus)
                if each.node in places and lifecycle.assign(tx, each.job, place):
                    started.append(each.job)
                else:
                    self.changed()
            waiting = queued_jobs(tx, {each.by for each in decisions.preemptions})
            for victim in decisions.preemptions:
                if victim.by in waiting:
                    lifecycle.stop(tx, victim.job, Code.SYSTEM_PREEMPTION, PREEMPTED)
            for job, reason in news.items():
                lifecycle.waits_for(tx, job, reason)
            # More may have to stop than was decided, such as tasks that share their sibling's fate.
            stopped = being_stopped(tx) if decisions.preemptions else ()
        return Applied(tuple(started), tuple(stopped))

    def _carry_out(self, act: Callable[[str], None], job: str) -> None:
        try:
            act(job)
        except Exception:
            self._backend.say(f"job {job}: cannot be looked after: {traceback.format_exc()}")
