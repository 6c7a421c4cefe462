"""From the end of a container to the one EXITED event of its job: reason, exit code, and its log on disk.

Owns who concludes an end: whoever first claims it, so that one which is seen twice (by an event and by an
inspection after an outage) is told once. Refuses to start anything.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from dispatch._docker import ApiError
from dispatch._docker.containers import Containers
from dispatch.engine import ending, stats
from dispatch.engine.base import Event, JobState, Reason, Usage
from dispatch.engine.collector import Collector
from dispatch.engine.container import DIRECTORY_LABEL
from dispatch.engine.containerjob import ContainerJob
from dispatch.engine.joblog import LOG_NAME
from dispatch.engine.sandbox import Sandbox
from dispatch.engine.staging import Staging
from dispatch.errors import EngineError

RETRY_EVERY = 0.5
FORGET_TRIES = 60
GONE = "its container was removed by somebody else"

T = TypeVar("T")


@dataclass(frozen=True)
class Parts:
    """What starts and ends of jobs have in common.

    ``tell`` takes events, ``clock`` gives the engine's time, ``lost`` is set when the engine is given up, and
    ``gone`` then and when it is closed. ``lock`` guards what jobs say of themselves.
    """

    containers: Containers
    staging: Staging
    logs: Collector
    clock: Callable[[], float]
    tell: Callable[[Event], None]
    meter: stats.Meter = field(default_factory=stats.Meter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    gone: threading.Event = field(default_factory=threading.Event)
    lost: threading.Event = field(default_factory=threading.Event)


class Finisher:
    """Concludes the ends of one engine's jobs. Its methods may be called from several threads."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._containers = parts.containers

    def claim(self, job: ContainerJob) -> bool:
        """Take the end of a job upon us; False where somebody has."""
        with self._parts.lock:
            mine = not job.claimed
            job.claimed = True
        return mine

    def look_after(self, job: ContainerJob) -> None:
        """Conclude a job that ended while the engine was away."""
        with contextlib.suppress(EngineError):
            state = self.patiently(job, lambda: self._containers.inspect(job.name))
            if (state is None or state.ended) and self.claim(job):
                job.outage = True
                self.conclude(job, self._parts.clock())

    def conclude(self, job: ContainerJob, seen: float) -> None:
        """Tell the end of a job that was claimed: reason, exit code, and its log on disk."""
        try:
            event = self._ended(job, seen)
        except ApiError as error:
            event = self._exited(job, Reason.INFRA, error.message)
        except EngineError:
            return  # the engine is lost, and next_event says so
        except Exception as error:
            event = self._exited(job, Reason.INFRA, f"the end could not be examined: {error!r}")
        self._parts.tell(event)

    def _ended(self, job: ContainerJob, seen: float) -> Event:
        state = self.patiently(job, lambda: self._containers.inspect(job.name))
        if state is not None and not state.ended:
            self.patiently(job, lambda: self._containers.wait(job.name))
            state = self.patiently(job, lambda: self._containers.inspect(job.name))
        if state is None:
            self._parts.logs.abandon(job.name, job.log)
            return self._exited(job, Reason.LOST, GONE)
        # The engine tells a start only after it: a job may have ended before.
        finished = max(state.finished or seen, job.begun)
        unexecuted, note = "", ""
        try:
            unexecuted = self.patiently(job, lambda: self._parts.logs.complete(job.name, job.log, finished))
        except OSError as error:
            note = f"its log could not be kept: {error.strerror}"
        reason, message = ending.reason(state, unexecuted, job.grace is not None, job.outage)
        labels = state.labels
        if fault := self.patiently(job, lambda: self._parts.staging.fetch(job.name, labels)):
            reason, message = Reason.INFRA, fault
        message = "; ".join(part for part in (message, note) if part)
        if reason is Reason.OOM:
            self.note_memory(job)
        return Event(
            job.spec.key,
            JobState.EXITED,
            finished,
            engine_id=job.name,
            reason=reason,
            exit_code=state.exit_code,
            message=message,
            cursor=f"{seen:.9f}",
            peak_memory=self._parts.meter.peak(job.spec.key),
        )

    def fail(self, job: ContainerJob, reason: Reason, message: str) -> None:
        """Tell the end of a job of which there is no container to examine."""
        if self.claim(job):
            self._parts.tell(self._exited(job, reason, message))

    def _exited(self, job: ContainerJob, reason: Reason, message: str) -> Event:
        """The end of a job of which the engine keeps nothing; its log is there, if only empty."""
        with contextlib.suppress(OSError):
            (job.spec.attempt_dir / LOG_NAME).touch()
        now = self._parts.clock()
        return Event(
            job.spec.key,
            JobState.EXITED,
            now,
            engine_id=job.name,
            reason=reason,
            message=message,
            cursor=f"{now:.9f}",
        )

    def tell_running(self, job: ContainerJob, when: float) -> None:
        """Tell that a job runs, once, and not after its end."""
        with self._parts.lock:
            if job.begun or job.claimed:
                return
            job.begun = when
            event = Event(job.spec.key, JobState.RUNNING, when, engine_id=job.name, cursor=f"{when:.9f}")
            self._parts.tell(event)

    def measure(self, job: ContainerJob) -> Usage | None:
        """Ask the engine what a job uses now; None where it cannot tell."""
        with contextlib.suppress(EngineError):
            told = self._containers.stats(job.name)
            sample = stats.of_container(told, self._parts.clock()) if told is not None else None
            if sample is not None:
                return self._parts.meter.take(job.spec.key, sample, job.begun)
        return None

    def note_memory(self, job: ContainerJob) -> None:
        """A process of the job was killed for memory: what it was given is what it has used."""
        limit = job.spec.resources.memory
        if limit is not None:
            self._parts.meter.reach(job.spec.key, limit)
        elif not job.claimed:
            stats.begin(self.measure, job)

    def forget(self, name: str, job: ContainerJob | None) -> None:
        """Remove a job's traces, for a while also from an engine that is away: nobody else may come to it.

        What fails all the same is found again by the container's labels.
        """
        for _ in range(FORGET_TRIES):
            try:
                self._remove(name, job)
                return
            except (ApiError, OSError):
                return
            except EngineError:
                if self._parts.lost.wait(RETRY_EVERY):
                    return

    def _remove(self, name: str, job: ContainerJob | None) -> None:
        sandbox = job.sandbox if job is not None else None
        if sandbox is None:
            state = self._containers.inspect(name)
            if state is None or DIRECTORY_LABEL not in state.labels:
                return
            sandbox = Sandbox.of(Path(state.labels[DIRECTORY_LABEL]), *self._parts.staging.caller)
        self._containers.remove(name)
        sandbox.discard()

    def patiently(self, job: ContainerJob, call: Callable[[], T]) -> T:
        """Repeat a call that may be repeated until the engine answers it, or is given up."""
        while True:
            try:
                return call()
            except ApiError:
                raise
            except EngineError:
                job.outage = True
                if self._parts.gone.wait(RETRY_EVERY):
                    raise
