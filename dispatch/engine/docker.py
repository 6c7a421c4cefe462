"""The engine that runs jobs as containers of a Docker Engine, here or elsewhere.

Owns the life of a container from the job to its one EXITED event. Refuses to retry, to judge a job's outcome,
and to know steps or workspaces.

Threads: a watcher listens to the engine's events; small pools start containers (``launching``), conclude
their ends (``finishing``), and stop them.
"""

from __future__ import annotations

import queue
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from dispatch._docker import ApiError, Door
from dispatch._docker.containers import ContainerEvent, ListedContainer
from dispatch.engine import stats
from dispatch.engine.arbiter import Arbiter
from dispatch.engine.base import (
    RUN_LABEL,
    Capabilities,
    Event,
    Handle,
    Holding,
    JobSpec,
    Usage,
)
from dispatch.engine.collector import Collector
from dispatch.engine.container import DIRECTORY_LABEL, KEY_LABEL
from dispatch.engine.containerjob import ContainerJob
from dispatch.engine.finishing import Finisher, Parts
from dispatch.engine.holdings import Holdings
from dispatch.engine.joblog import LOG_NAME
from dispatch.engine.launching import Launcher
from dispatch.engine.probe import probe
from dispatch.engine.sandbox import Sandbox
from dispatch.engine.staging import BACK_LABELS, OUTPUT_TARGET, Staging
from dispatch.engine.stopping import Stopper
from dispatch.engine.watch import Watcher
from dispatch.errors import EngineError
from dispatch.location import HostPath, Location
from dispatch.runtime.mask import Masker

START_THREADS = 4
# An end may have to wait for the rest of a long log.
END_THREADS = 4


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
        self._uid, self._gid = uid, gid
        self._nonce = nonce
        self._capabilities: Capabilities | None = None
        self._jobs: dict[str, ContainerJob] = {}
        self._by_name: dict[str, ContainerJob] = {}
        self._queue: queue.SimpleQueue[Event | EngineError] = queue.SimpleQueue()
        self._holdings = Holdings(door.containers, RUN_LABEL, self._by_name)
        self._watcher = Watcher(door.containers, RUN_LABEL, self, clock, patience)
        self._starts = ThreadPoolExecutor(START_THREADS, thread_name_prefix="dispatch-docker-start")
        self._ends = ThreadPoolExecutor(END_THREADS, thread_name_prefix="dispatch-docker-end")
        self._stopper = Stopper(door.containers, self._has_ended)
        self._logs = Collector(door.containers, self._has_ended)
        staging = Staging(door, uid, gid)
        parts = Parts(door.containers, staging, self._logs, clock, self._queue.put)
        self._lock, self._gone, self._lost, self._meter = parts.lock, parts.gone, parts.lost, parts.meter
        self._removals: set[Future[None]] = set()
        self._finisher = Finisher(parts)
        arbiter = Arbiter(door.containers, parts.gone.wait)
        self._launcher = Launcher(parts, self._finisher, arbiter, self._stopper, self._ends.submit)

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
        told = stats.at_once(self._finisher.measure, running)
        return {job.spec.key: usage for job, usage in told if usage is not None}

    def others(self) -> tuple[Holding, ...]:
        """Return what containers of other clients hold, by their labels. The first call subscribes."""
        self._watcher.start()
        return self._holdings.current()

    def output(self, handle: Handle) -> Location:
        """Return what is mounted at the output directory."""
        job = self._jobs.get(handle.key)
        if job is not None:
            for mount in job.spec.mounts:
                if mount.target == OUTPUT_TARGET:
                    return mount.source
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
        removal = self._ends.submit(self._finisher.forget, handle.engine_id, job)
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)

    def settle(self) -> None:
        """Wait until what was released is removed."""
        wait(tuple(self._removals))

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
            self._finisher.tell_running(job, event.time)
        elif event.action == "oom":
            self._finisher.note_memory(job)
        elif self._finisher.claim(job):
            self._ends.submit(self._finisher.conclude, job, event.time)

    def returned(self) -> None:
        """After an outage, look at every job that was running."""
        for job in list(self._jobs.values()):
            if job.started and not job.claimed:
                self._ends.submit(self._finisher.look_after, job)

    def lost(self, error: EngineError) -> None:
        """Let ``next_event`` raise."""
        self._lost.set()
        self._gone.set()
        self._queue.put(error)

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
        job = ContainerJob(spec, name, sandbox)
        with self._lock:
            self._jobs[spec.key] = self._by_name[name] = job
        self._holdings.drop(name)
        self._starts.submit(self._launcher.start, job)
        return job.handle

    def _has_ended(self, name: str) -> bool:
        job = self._by_name.get(name)
        return job is not None and job.claimed


def _handle(row: ListedContainer) -> Handle:
    directory = row.labels.get(DIRECTORY_LABEL)
    return Handle(row.labels[KEY_LABEL], row.name, Path(directory) if directory else None)
