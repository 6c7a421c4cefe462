"""One job, from wherever it is to its end.

Owns the order of a job's states: image, container, start, log, exit, results, finalized. Each turn reads
from the database and the engine how far the job is, and goes on from there: a first run, a run after the
engine was away, and a run taken over after a kill are the same code. A container that exists is not made
again, one that was started is not started again, and it is removed only after the job is finalized.
"""

from __future__ import annotations

import sqlite3
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from dispatch._docker import ApiError
from dispatch._docker.containers import ContainerState
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.problems import Problem
from dispatch.beakerd.runner.bell import Bell
from dispatch.beakerd.runner.cleaning import Cleaner
from dispatch.beakerd.runner.containers import JOB_LABEL, container_of, name_of, open_result, simulates_gpus
from dispatch.beakerd.runner.crew import Crew
from dispatch.beakerd.runner.ending import Ending, lost_with_engine
from dispatch.beakerd.runner.failure import ClosingError, JobFailure
from dispatch.beakerd.runner.logs import JobLog
from dispatch.beakerd.runner.stopping import Stopping
from dispatch.beakerd.runner.watch import Watch
from dispatch.beakerd.spec import ImageSource
from dispatch.beakerd.store.lifecycle import Code
from dispatch.beakerd.store.running import Job, load_job
from dispatch.errors import DispatchError, EngineError

SHORTEST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
# An engine that is going down or has no room may refuse for a while; so often is it asked again.
TRIES = 4
TAKEN = 409


class Provider(Protocol):
    """Gets images into the engine."""

    def provide(self, image: ImageSource, job_id: str) -> str:
        """Return the engine's ID of an image that is ready to run; a DispatchError says why it cannot be."""


@dataclass(frozen=True)
class Parts:
    """What all jobs are run with."""

    backend: Backend
    provider: Provider
    crew: Crew
    cleaner: Cleaner
    monotonic: Callable[[], float]
    closing: threading.Event


class JobRun:
    """The running of one job. :meth:`run` it in a thread; :meth:`wake` it from others."""

    def __init__(self, parts: Parts, job: str):
        self._parts = parts
        self._backend = parts.backend
        self._containers = parts.backend.door.containers
        self._job = job
        self._name = name_of(job)
        self._bell = Bell()
        self._log = JobLog(parts.backend.layout.job_log(job))
        self._away = False
        self._refusals = 0
        self._pause = SHORTEST_PAUSE

    def wake(self) -> None:
        """Something was written down of the job, or the server goes."""
        self._bell.ring()

    def run(self) -> None:
        """Bring the job to its end, or leave it when the server goes."""
        try:
            while not self._parts.closing.is_set():
                try:
                    self._walk()
                    return
                except EngineError as error:
                    self._engine_is_away(error)
                except (Problem, sqlite3.OperationalError) as trouble:
                    self._backend.say(f"job {self._job}: {trouble}")
                self._sleep()
        except ClosingError:
            return
        except Exception:
            if not self._parts.closing.is_set():
                self._backend.say(f"job {self._job}: {traceback.format_exc()}")
                self._give_up()
        finally:
            self._log.leave()
            self._bell.close()

    def _walk(self) -> None:
        failure = None
        try:
            job = self._read()
            if job is not None and job.finalized is None and job.exited is None:
                self._live(job)
        except JobFailure as error:
            failure = error.message
        job = self._read()
        if job is not None and job.finalized is None:
            Ending(self._parts, self._log, self._bell).end(job, failure)
            self._backend.jobs.changed()
        self._parts.cleaner.clean(self._job)

    def _live(self, job: Job) -> None:
        """From any state before its exit to its exit, or to where it need not run at all."""
        state = self._containers.inspect(self._name) if job.container else None
        if state is None:
            if job.started is not None:
                self._is_gone()
                return
            state = self._make(job)
        if state is not None and state.labels.get(JOB_LABEL) != self._job:
            raise JobFailure(f"the engine has a container {self._name!r} that is not this server's")
        if state is None or (state.started is None and not (state := self._start(job, state))):
            return
        job = self._runs(job, state)
        stopping = Stopping(self._backend, self._containers, self._parts.monotonic, job)
        ended = Watch(self._containers, self._name, self._log, stopping, self._bell).until_end(
            self._parts.closing
        )
        if ended is None:
            self._is_gone()
        else:
            self._has_exited(job, ended)

    def _make(self, job: Job) -> ContainerState | None:
        """Make the container; None if the job is to stop before."""
        if job.canceled_code is not None:
            return None
        image = self._image(job)
        if image is None:
            return None
        simulated = simulates_gpus(job, self._backend.door.info())
        try:
            spec = container_of(self._backend, job, image, simulated)
        except OSError as error:
            raise JobFailure(f"what it needs cannot be laid down: {error.strerror}") from error
        with self._backend.database.write() as tx:
            self._backend.lifecycle.intend(tx, self._job, self._name)
            if simulated:
                self._backend.lifecycle.event(
                    tx, self._job, "simulated", "this machine has no such GPUs: the job runs without any"
                )
        try:
            self._containers.create(spec)
        except ApiError as error:
            if error.status != TAKEN:
                self._refused(error, "its container cannot be made")
        return self._containers.inspect(self._name)

    def _image(self, job: Job) -> str | None:
        """Wait for the image; None if the job is to stop before it is there."""
        answers: list[str | Exception] = []

        def ask() -> None:
            try:
                answers.append(self._parts.provider.provide(job.task.image, job.id))
            except Exception as error:
                answers.append(error)
            self._bell.ring()

        self._parts.crew.submit(ask)
        while not answers:
            self._bell.wait(None)
            if self._parts.closing.is_set():
                raise ClosingError
            if not answers and self._is_to_stop():
                return None
        # A provider that gave up because the server goes says nothing of the image.
        if self._backend.closing.is_set():
            raise ClosingError
        (answer,) = answers
        if isinstance(answer, DispatchError) and not isinstance(answer, EngineError):
            raise JobFailure(answer.message) from answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _start(self, job: Job, made: ContainerState) -> ContainerState | None:
        """Start the container that was made; None if the job is to stop before."""
        if self._is_to_stop():
            return None
        self._away = False
        try:
            open_result(self._backend.door.files, job, made)
            self._containers.start(self._name)
        except ApiError as error:
            self._refused(error, "its container cannot be started")
        state = self._containers.inspect(self._name)
        if state is None:
            raise JobFailure("its container was removed by somebody")
        return state

    def _refused(self, error: ApiError, what: str) -> None:
        """The engine's refusal counts at once if it is the job's fault, else after some tries.

        :raises JobFailure: then
        """
        self._refusals += 1
        if error.status >= 500 and self._refusals < TRIES and "OCI runtime" not in error.detail:
            raise error
        raise JobFailure(f"{what}: {error.detail}") from error

    def _runs(self, job: Job, state: ContainerState) -> Job:
        """Write down that the job has started. An outage before that is of no account."""
        if state.status in ("running", "paused"):
            self._away = False
        # The engine's clock is never set back below what was recorded before.
        when = max(round((state.started or 0) * 1e9), job.scheduled)
        with self._backend.database.write() as tx:
            self._backend.lifecycle.start(tx, self._job, when)
        return self._read() or job

    def _has_exited(self, job: Job, state: ContainerState) -> None:
        # An engine takes note of a start when it is over: what ended at once has ended before.
        when = max(round((state.finished or 0) * 1e9), job.started or 0)
        lost = lost_with_engine(self._backend.door, state, self._away)
        with self._backend.database.write() as tx:
            if lost:
                self._backend.lifecycle.stop(tx, self._job, Code.NODE_UNAVAILABLE, lost)
            self._backend.lifecycle.exit(tx, self._job, when, state.exit_code)

    def _is_gone(self) -> None:
        with self._backend.database.write() as tx:
            self._backend.lifecycle.exit(tx, self._job, self._backend.clock.now(), 137)

    def _read(self) -> Job | None:
        with self._backend.database.read() as tx:
            return load_job(tx, self._job)

    def _is_to_stop(self) -> bool:
        job = self._read()
        return job is None or job.canceled_code is not None

    def _engine_is_away(self, error: EngineError) -> None:
        """Say it once, and go on asking for ever."""
        if self._away:
            return
        self._away = True
        self._backend.say(f"job {self._job}: {error.message}")
        with self._backend.database.write() as tx:
            self._backend.lifecycle.event(tx, self._job, "engine", f"waiting for the engine: {error.message}")

    def _sleep(self) -> None:
        given_up = self._parts.monotonic() + self._pause
        while (left := given_up - self._parts.monotonic()) > 0 and not self._parts.closing.is_set():
            self._bell.wait(left)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _give_up(self) -> None:
        """After an error of our own: no job may stay for ever."""
        with self._backend.database.write() as tx:
            self._backend.lifecycle.finalize(tx, self._job, "the server failed to run it; its log says more")
        self._backend.jobs.changed()
        self._parts.cleaner.clean(self._job)
