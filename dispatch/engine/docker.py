"""The engine that runs jobs as containers of a Docker Engine, here or elsewhere.

Owns the life of a container from the job to its one EXITED event. Refuses to retry, to judge a job's outcome,
and to know steps or workspaces.

Threads: a watcher listens to the engine's events; small pools start containers, conclude their ends, and stop
them. Whoever first claims the end of a job concludes it, so an end that is seen twice (by an event and by an
inspection after an outage) is told once.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from dispatch._docker import ApiError, Door
from dispatch._docker.containers import ContainerEvent, ContainerSpec, ContainerState, ListedContainer
from dispatch.engine import delivery, ending, stats
from dispatch.engine.arbiter import Arbiter
from dispatch.engine.base import (
    RUN_LABEL,
    Capabilities,
    Event,
    Handle,
    Holding,
    JobSpec,
    JobState,
    Reason,
    Usage,
)
from dispatch.engine.collector import Collector
from dispatch.engine.container import DIRECTORY_LABEL, KEY_LABEL
from dispatch.engine.holdings import Holdings
from dispatch.engine.joblog import LOG_NAME, JobLog
from dispatch.engine.probe import probe
from dispatch.engine.sandbox import Sandbox
from dispatch.engine.staging import BACK_LABELS, OUTPUT_TARGET, Staging, Way
from dispatch.engine.stopping import Stopper
from dispatch.engine.watch import Watcher
from dispatch.errors import EngineError
from dispatch.location import HostPath, Location
from dispatch.runtime.mask import Masker

START_THREADS = 4
# An end may have to wait for the rest of a long log.
END_THREADS = 4
RETRY_EVERY = 0.5
GONE = "its container was removed by somebody else"

T = TypeVar("T")


class _Job:
    """A job of ours: what the pools and the watcher know of it, guarded by the engine's lock."""

    def __init__(self, spec: JobSpec, name: str, sandbox: Sandbox) -> None:
        self.spec = spec
        self.name = name
        self.sandbox = sandbox
        self.log = JobLog(spec.attempt_dir, spec.secrets.values())
        self.started = False
        self.claimed = False
        self.grace: float | None = None
        self.begun = 0.0
        self.outage = False

    @property
    def handle(self) -> Handle:
        return Handle(self.spec.key, self.name, self.spec.attempt_dir)


class DockerEngine:
    """A Docker Engine; see :class:`~dispatch.engine.base.Engine` for the methods' contracts.

    What jobs write belongs to the caller, who is ``uid:gid``. ``clock`` gives the time since the epoch as the
    engine has it, ``nonce`` a few characters that make container names unique, ``patience`` the seconds for
    which the engine may be away.
    """

    def __init__(
        self,
        door: Door,
        *,
        uid: int,
        gid: int,
        clock: Callable[[], float] = time.time,
        nonce: Callable[[], str] = lambda: secrets.token_hex(4),
        patience: float = 60.0,
    ) -> None:
        self._door = door
        self._containers = door.containers
        self._staging = Staging(door, uid, gid)
        self._uid, self._gid = uid, gid
        self._clock = clock
        self._nonce = nonce
        self._lock = threading.Lock()
        self._gone = threading.Event()
        self._capabilities: Capabilities | None = None
        self._jobs: dict[str, _Job] = {}
        self._by_name: dict[str, _Job] = {}
        self._queue: queue.SimpleQueue[Event | EngineError] = queue.SimpleQueue()
        self._holdings = Holdings(door.containers, RUN_LABEL, self._by_name)
        self._arbiter = Arbiter(door.containers, self._gone.wait)
        self._watcher = Watcher(door.containers, RUN_LABEL, self, clock, patience)
        self._starts = ThreadPoolExecutor(START_THREADS, thread_name_prefix="dispatch-docker-start")
        self._ends = ThreadPoolExecutor(END_THREADS, thread_name_prefix="dispatch-docker-end")
        self._stopper = Stopper(door.containers, self._has_ended)
        self._meter = stats.Meter()
        self._logs = Collector(door.containers, self._has_ended)

    def capabilities(self) -> Capabilities:
        """Probe the engine once; raise EngineError for a kind that is not supported yet."""
        if self._capabilities is None:
            self._capabilities = probe(self._door, self._uid, self._gid)
        return self._capabilities

    def submit(self, jobs: Sequence[JobSpec]) -> list[Handle]:
        """Start jobs in the background; the handle's engine id is the container's name."""
        self._watcher.start()
        return [self._accept(job) for job in jobs]

    def next_event(self, timeout: float | None) -> Event | None:
        """Return the next event; raise EngineError once the engine went away and did not come back."""
        try:
            item = self._queue.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(item, EngineError):
            self._queue.put(item)
            raise item
        return item

    def logs(self, handle: Handle) -> Iterator[bytes]:
        """Yield the log from the engine while it holds the container, else from the attempt's directory."""
        job = self._jobs.get(handle.key)
        masker = Masker(job.spec.secrets.values() if job is not None else ())
        try:
            for frame in self._containers.logs(handle.engine_id):
                yield masker.feed(frame.data)
            yield masker.end()
        except ApiError as error:
            if error.status != 404:
                raise
            path = job.spec.attempt_dir / LOG_NAME if job is not None else None
            if path is not None and path.exists():
                with path.open("rb") as file:
                    yield from file

    def cancel(self, handles: Sequence[Handle], grace: float) -> None:
        """Send SIGTERM to all at once, SIGKILL after ``grace`` seconds; a job that waits is never started."""
        running = []
        for handle in handles:
            with self._lock:
                job = self._jobs.get(handle.key)
                if job is not None:
                    job.grace = grace
                if job is None or (job.started and not job.claimed):
                    running.append(handle.engine_id)
        self._stopper.stop(running, grace)

    def find(self, run: str) -> list[Handle]:
        """Return the run's containers, whichever client started them."""
        rows = self._containers.labelled(RUN_LABEL, run)
        return [_handle(row) for row in rows if KEY_LABEL in row.labels]

    def usage(self, handles: Sequence[Handle]) -> Mapping[str, Usage]:
        """Ask the engine of each job that runs; one that it cannot tell about now is left out."""
        jobs = [self._jobs.get(handle.key) for handle in handles]
        running = [job for job in jobs if job is not None and job.begun and not job.claimed]
        told = stats.at_once(self._measure, running)
        return {job.spec.key: usage for job, usage in told if usage is not None}

    def _measure(self, job: _Job) -> Usage | None:
        with contextlib.suppress(EngineError):
            told = self._containers.stats(job.name)
            sample = stats.of_container(told, self._clock()) if told is not None else None
            if sample is not None:
                return self._meter.take(job.spec.key, sample, job.begun)
        return None

    def others(self) -> tuple[Holding, ...]:
        """Return what containers of other clients hold, by their labels. The first call subscribes."""
        self._watcher.start()
        return self._holdings.current()

    def output(self, handle: Handle) -> Location:
        """Return what is mounted at the output directory."""
        job = self._jobs.get(handle.key)
        if job is not None:
            sources = {mount.target: mount.source for mount in job.spec.mounts}
            if OUTPUT_TARGET in sources:
                return sources[OUTPUT_TARGET]
        else:
            state = self._containers.inspect(handle.engine_id)
            if state is not None and OUTPUT_TARGET in state.mounts:
                return HostPath(Path(state.mounts[OUTPUT_TARGET]))
            if state is not None and BACK_LABELS[OUTPUT_TARGET] in state.labels:
                return HostPath(Path(state.labels[BACK_LABELS[OUTPUT_TARGET]]))
        raise EngineError(f"job {handle.key}: the engine knows no output directory of it")

    def release(self, handle: Handle) -> None:
        """Remove the container, the private source and the scratch in the background."""
        with self._lock:
            job = self._jobs.pop(handle.key, None)
            if job is not None:
                self._by_name.pop(job.name, None)
                job.claimed = True
        self._meter.forget(handle.key)
        self._ends.submit(self._forget, handle.engine_id, job)

    def close(self) -> None:
        """Stop our threads, after the removals and stops under way. A cancelled job is killed, not left."""
        self._gone.set()
        self._starts.shutdown(cancel_futures=True)
        self._stopper.close()
        self._ends.shutdown()
        self._logs.close()
        self._watcher.close()

    # What the watcher tells.

    def subscribed(self) -> None:
        """List what others run."""
        self._holdings.renew()

    def notice(self, event: ContainerEvent) -> None:
        """Pass on a start, have an end concluded; note what others hold."""
        job = self._by_name.get(event.name)
        if job is None:
            self._holdings.notice(event)
            return
        if event.action == "start":
            self._tell_running(job, event.time)
        elif event.action == "oom":
            self._note_memory(job)
        elif self._claim(job):
            self._ends.submit(self._conclude, job, event.time)

    def returned(self) -> None:
        """After an outage, look at every job that was running."""
        for job in list(self._jobs.values()):
            if job.started and not job.claimed:
                self._ends.submit(self._look_after, job)

    def lost(self, error: EngineError) -> None:
        """Let ``next_event`` raise."""
        self._gone.set()
        self._queue.put(error)

    def _note_memory(self, job: _Job) -> None:
        """A process of the job was killed for memory: what it was given is what it has used."""
        limit = job.spec.resources.memory
        if limit is not None:
            self._meter.reach(job.spec.key, limit)
        elif not job.claimed:
            stats.begin(self._measure, job)

    # Starting.

    def _accept(self, spec: JobSpec) -> Handle:
        with self._lock:
            known = self._jobs.get(spec.key)
        if known is not None:
            return known.handle
        sandbox = Sandbox.of(spec.attempt_dir, self._uid, self._gid)
        try:
            name = sandbox.container_name(spec.key, self._nonce)
        except OSError as error:
            raise EngineError(
                f"job {spec.key}: {spec.attempt_dir} cannot be used: {error.strerror}"
            ) from error
        job = _Job(spec, name, sandbox)
        with self._lock:
            self._jobs[spec.key] = self._by_name[name] = job
        self._holdings.drop(name)
        self._starts.submit(self._start, job)
        return job.handle

    def _start(self, job: _Job) -> None:
        """Start a job, or tell its end. An error that left the pool's thread would be seen by nobody."""
        try:
            self._launch(job)
        except ApiError as error:
            reason, message = ending.refused(error)
            self._fail(job, reason, message)
        except EngineError as error:
            self._recover(job, error)
        except OSError as error:
            self._fail(job, Reason.INFRA, f"{error.filename or job.sandbox.directory}: {error.strerror}")
        except Exception as error:
            self._fail(job, Reason.INFRA, f"the container could not be prepared: {error!r}")

    def _launch(self, job: _Job) -> None:
        if job.spec.attach:
            if not self._attach(job):
                self._fail(job, Reason.LOST, GONE)
            return
        if job.grace is None:
            way = self._staging.of(job.spec)
            spec = way.container(job.spec, job.name)
            try:
                self._containers.create(spec)
            except ApiError as error:
                if error.status != 409:
                    raise
                if self._attach(job):
                    return
                if job.spec.secrets:
                    # Its standard input may have ended with the client that created it.
                    self._containers.remove(job.name)
                    self._containers.create(spec)
            way.fill(job.spec, job.name)
            taken = self._arbiter.contest(
                job.name,
                job.spec.resources.gpus,
                cancelled=lambda: job.grace is not None,
                again=lambda: self._make(job, spec, way),
            )
            if taken:
                self._fail(job, Reason.PREEMPTED, taken)
                return
        if job.grace is not None:
            self._fail(job, Reason.CANCELLED, "cancelled before it was started")
            return
        delivery.start(self._containers, job.name, job.spec)
        self._mark_started(job)

    def _make(self, job: _Job, spec: ContainerSpec, way: Way) -> None:
        """Create a container anew that had to give way."""
        self._containers.create(spec)
        way.fill(job.spec, job.name)

    def _attach(self, job: _Job) -> bool:
        """Take over a container that was created before; False if it still has to be started."""
        state = self._containers.inspect(job.name)
        if state is None and job.spec.attach:
            return False
        if state is None:
            raise EngineError(f"job {job.spec.key}: its former container is just being removed")
        if state.status == "created":
            return False
        self._take_over(job, state)
        return True

    def _take_over(self, job: _Job, state: ContainerState) -> None:
        """Go on with a container that was started, perhaps by a client before us."""
        # Whatever ended one that nobody looked after, we do not know it from what we see now.
        job.outage = job.outage or job.spec.attach
        self._mark_started(job)
        if not state.ended:
            self._tell_running(job, state.started or self._clock())
        elif self._claim(job):
            self._ends.submit(self._conclude, job, state.finished or self._clock())

    def _mark_started(self, job: _Job) -> None:
        with self._lock:
            job.started = True
            grace = job.grace
        self._logs.follow(job.name, job.log)
        if grace is not None:
            self._stopper.stop([job.name], grace)

    def _recover(self, job: _Job, error: EngineError) -> None:
        """The engine broke off during a start, which may have happened: go on with it, or let nothing run."""
        with contextlib.suppress(EngineError):
            state = self._patiently(job, lambda: self._containers.inspect(job.name))
            if state is not None and state.status != "created":
                self._take_over(job, state)
                return
            self._patiently(job, lambda: self._containers.remove(job.name))
            if job.begun:
                self._fail(job, Reason.LOST, GONE)
            else:
                self._fail(job, Reason.INFRA, error.message)

    # Ending.

    def _claim(self, job: _Job) -> bool:
        with self._lock:
            mine = not job.claimed
            job.claimed = True
        return mine

    def _look_after(self, job: _Job) -> None:
        with contextlib.suppress(EngineError):
            state = self._patiently(job, lambda: self._containers.inspect(job.name))
            if (state is None or state.ended) and self._claim(job):
                job.outage = True
                self._conclude(job, self._clock())

    def _conclude(self, job: _Job, seen: float) -> None:
        """Tell the end of a job that was claimed: reason, exit code, and its log on disk."""
        try:
            event = self._ended(job, seen)
        except ApiError as error:
            event = self._exited(job, Reason.INFRA, error.message)
        except EngineError:
            return  # the engine is lost, and next_event says so
        except Exception as error:
            event = self._exited(job, Reason.INFRA, f"the end could not be examined: {error!r}")
        self._queue.put(event)

    def _ended(self, job: _Job, seen: float) -> Event:
        state = self._patiently(job, lambda: self._containers.inspect(job.name))
        if state is not None and not state.ended:
            self._patiently(job, lambda: self._containers.wait(job.name))
            state = self._patiently(job, lambda: self._containers.inspect(job.name))
        if state is None:
            self._logs.abandon(job.name, job.log)
            return self._exited(job, Reason.LOST, GONE)
        # The engine tells a start only after it: a job may have ended before.
        finished = max(state.finished or seen, job.begun)
        unexecuted, note = "", ""
        try:
            unexecuted = self._patiently(job, lambda: self._logs.complete(job.name, job.log, finished))
        except OSError as error:
            note = f"its log could not be kept: {error.strerror}"
        reason, message = ending.reason(state, unexecuted, job.grace is not None, job.outage)
        labels = state.labels
        if fault := self._patiently(job, lambda: self._staging.fetch(job.name, labels)):
            reason, message = Reason.INFRA, fault
        message = "; ".join(part for part in (message, note) if part)
        if reason is Reason.OOM:
            self._note_memory(job)
        return Event(
            job.spec.key,
            JobState.EXITED,
            finished,
            engine_id=job.name,
            reason=reason,
            exit_code=state.exit_code,
            message=message,
            cursor=f"{seen:.9f}",
            peak_memory=self._meter.peak(job.spec.key),
        )

    def _fail(self, job: _Job, reason: Reason, message: str) -> None:
        """Tell the end of a job of which there is no container to examine."""
        if self._claim(job):
            self._queue.put(self._exited(job, reason, message))

    def _exited(self, job: _Job, reason: Reason, message: str) -> Event:
        """The end of a job of which the engine keeps nothing; its log is there, if only empty."""
        with contextlib.suppress(OSError):
            (job.spec.attempt_dir / LOG_NAME).touch()
        now = self._clock()
        return Event(
            job.spec.key,
            JobState.EXITED,
            now,
            engine_id=job.name,
            reason=reason,
            message=message,
            cursor=f"{now:.9f}",
        )

    def _tell_running(self, job: _Job, when: float) -> None:
        """Tell that a job runs, once, and not after its end."""
        with self._lock:
            if job.begun or job.claimed:
                return
            job.begun = when
            event = Event(job.spec.key, JobState.RUNNING, when, engine_id=job.name, cursor=f"{when:.9f}")
            self._queue.put(event)

    # Stopping and forgetting.

    def _has_ended(self, name: str) -> bool:
        job = self._by_name.get(name)
        return job is not None and job.claimed

    def _forget(self, name: str, job: _Job | None) -> None:
        """Remove a job's traces. What fails is found again by the container's labels."""
        with contextlib.suppress(EngineError, OSError):
            sandbox = job.sandbox if job is not None else None
            if sandbox is None:
                state = self._containers.inspect(name)
                if state is None or DIRECTORY_LABEL not in state.labels:
                    return
                sandbox = Sandbox.of(Path(state.labels[DIRECTORY_LABEL]), self._uid, self._gid)
            self._containers.remove(name)
            sandbox.discard()

    def _patiently(self, job: _Job, call: Callable[[], T]) -> T:
        """Repeat a call that may be repeated until the engine answers it, or is given up."""
        while True:
            try:
                return call()
            except ApiError:
                raise
            except EngineError:
                job.outage = True
                if self._gone.wait(RETRY_EVERY):
                    raise


def _handle(row: ListedContainer) -> Handle:
    directory = row.labels.get(DIRECTORY_LABEL)
    return Handle(row.labels[KEY_LABEL], row.name, Path(directory) if directory else None)
