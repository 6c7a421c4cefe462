"""The engine that runs jobs as processes of this machine, in the client's own environment.

Owns the life of a process from the job to its one EXITED event; its helpers start and watch the processes.
They end with the client, however it ends. Refuses to retry, to judge a job's outcome, and to know steps.

A job has all of the machine that its user has: memory, network and the file system are as they are outside.
"""

from __future__ import annotations

import contextlib
import enum
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dispatch.engine import stats, vault
from dispatch.engine.base import Capabilities, Event, Handle, Holding, JobSpec, JobState, Reason, Usage
from dispatch.engine.gpus import VISIBLE_DEVICES, gpus_here, in_bus_order, visible
from dispatch.engine.helper import Crew, Helper, Launch, Surroundings
from dispatch.errors import EngineError
from dispatch.location import HostPath, Location, SharedPath, Spool
from dispatch.units import format_size

NAME = "local"
LOG_NAME = "out.log"
KILLED = 128 + signal.SIGKILL
# Each holds the modules of its steps in memory. Steps with yet other variables get fresh interpreters.
HELPERS = 4
_RESERVED = "DISPATCH_"


class StartMethod(enum.Enum):
    """How the process of a Python step begins: forked with its module imported, or as a new interpreter."""

    FORK = "fork"
    SPAWN = "spawn"


class _Job:
    """A job of ours, guarded by the engine's lock. Without a helper, it has ended."""

    def __init__(self, spec: JobSpec, helper: Helper | None) -> None:
        self.spec = spec
        self.helper = helper
        self.pid: int | None = None
        self.begun = 0.0
        self.cancelled = False
        self.vault: Path | None = None

    @property
    def handle(self) -> Handle:
        return Handle(self.spec.key, f"process-{self.spec.key}", self.spec.attempt_dir)


class ProcessEngine:
    """Processes of this machine; see :class:`~dispatch.engine.base.Engine` for the methods' contracts.

    ``python`` runs the steps with the runtime in the directory ``runtime``; ``environ`` is what their
    environments are made from. ``clock`` gives the time since the epoch, ``launch`` starts a helper.
    """

    def __init__(
        self,
        python: str,
        runtime: Path,
        environ: Mapping[str, str],
        start_method: StartMethod = StartMethod.FORK,
        clock: Callable[[], float] = time.time,
        launch: Launch = subprocess.Popen,
    ) -> None:
        self._runner = (python, str(runtime / "main.py"))
        self._environ = environ
        self._forks = start_method is StartMethod.FORK
        self._clock = clock
        self._crew = Crew((*self._runner, "zygote"), in_bus_order(environ), launch)
        self._lock = threading.Lock()
        self._meter = stats.Meter()
        self._jobs: dict[str, _Job] = {}
        self._events: deque[Event] = deque()
        self._broken: EngineError | None = None

    def capabilities(self) -> Capabilities:
        """What this machine has, as far as this process may use it."""
        gpus = visible(gpus_here(), self._environ.get(VISIBLE_DEVICES))
        return Capabilities(
            name=NAME,
            accepts=(HostPath, SharedPath, Spool),
            uid=os.geteuid(),
            gid=os.getegid(),
            cpus=len(os.sched_getaffinity(0)),
            memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            gpus=tuple(gpu.id for gpu in gpus),
            gpu_types=tuple(gpu.type for gpu in gpus),
        )

    def submit(self, jobs: Sequence[JobSpec]) -> list[Handle]:
        """Have processes started in the background. EngineError if not even a helper can be."""
        return [self._accept(job) for job in jobs]

    def next_event(self, timeout: float | None) -> Event | None:
        """Return the next event; raise EngineError if steps cannot be started here at all."""
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:
                if self._events:
                    return self._events.popleft()
                if self._broken is not None:
                    raise self._broken
            left = None if until is None else max(0.0, until - time.monotonic())
            helpers = self._crew.wait(left)
            if not helpers:
                return None
            for helper in helpers:
                self._hear(helper)

    def logs(self, handle: Handle) -> Iterator[bytes]:
        """Yield what the job has written so far."""
        job = self._jobs.get(handle.key)
        path = job.spec.attempt_dir / LOG_NAME if job is not None else None
        if path is not None and path.exists():
            with path.open("rb") as file:
                yield from file

    def cancel(self, handles: Sequence[Handle], grace: float) -> None:
        """Send SIGTERM to the jobs' first processes, SIGKILL to all of theirs after ``grace`` seconds."""
        for handle in handles:
            with self._lock:
                job = self._jobs.get(handle.key)
                helper = job.helper if job is not None else None
                if job is not None:
                    job.cancelled = True
            if helper is not None:
                helper.stop(handle.key, grace)

    def find(self, run: str) -> list[Handle]:
        """Return the run's jobs of this engine: those of others ended with their clients."""
        return [job.handle for job in list(self._jobs.values()) if job.spec.run == run]

    def usage(self, handles: Sequence[Handle]) -> Mapping[str, Usage]:
        """Add up what the kernel tells of the jobs' processes."""
        found = {}
        for handle in handles:
            job = self._jobs.get(handle.key)
            if job is not None and job.pid is not None and job.helper is not None:
                sample = stats.of_group(job.pid, self._clock())
                if sample is not None:
                    found[handle.key] = self._meter.take(handle.key, sample, job.begun)
        return found

    def others(self) -> tuple[Holding, ...]:
        """Tell of nobody."""
        return ()

    def output(self, handle: Handle) -> Location:
        """Return the attempt's own output directory."""
        job = self._jobs.get(handle.key)
        if job is None:
            raise EngineError(f"job {handle.key}: the engine knows no output directory of it")
        return HostPath(job.spec.attempt_dir / "output")

    def release(self, handle: Handle) -> None:
        """Forget the job: it left nothing of its own."""
        with self._lock:
            self._jobs.pop(handle.key, None)
        self._meter.forget(handle.key)

    def settle(self) -> None:
        """Nothing is left to be forgotten."""

    def close(self) -> None:
        """Kill what still runs, and end the helpers."""
        self._crew.close()
        with self._lock:
            for job in self._jobs.values():
                # A helper that ends by itself has done this.
                if job.helper is not None and job.helper.gone:
                    _kill(job)
                if job.vault is not None:
                    vault.remove(job.vault)

    # Starting.

    def _accept(self, spec: JobSpec) -> Handle:
        with self._lock:
            known = self._jobs.get(spec.key)
        if known is not None:
            return known.handle
        if spec.attach:
            return self._miss(spec)
        surroundings, forks = self._surroundings(spec)
        try:
            helper = self._crew.get(surroundings)
        except OSError as error:
            raise EngineError(
                f"job {spec.key}: {self._runner[0]} cannot be started: {error.strerror}",
                "use an interpreter that works, or make room for more processes",
            ) from error
        place = vault.place_of(self._environ) if spec.secrets else None
        with self._lock:
            self._jobs[spec.key] = job = _Job(spec, helper)
            job.vault = place
            if helper.gone:
                self._lose(job, helper)
        order: dict[str, Any] = {
            "command": spec.command,
            "env": {name: value for name, value in spec.env.items() if (name, value) not in surroundings},
            "cwd": spec.working_dir,
            "log": str(spec.attempt_dir / LOG_NAME),
            "fork": forks,
        }
        if place is not None:
            order["secrets"] = vault.order_of(spec, place)
            order["env"] = {**order["env"], **vault.variables_of(spec, place)}
        helper.start(spec.key, order)
        return job.handle

    def _miss(self, spec: JobSpec) -> Handle:
        """Tell that a job of an earlier client is gone: it ended with that client."""
        with self._lock:
            self._jobs[spec.key] = job = _Job(spec, None)
            self._refuse(job, Reason.LOST, "it ended with the client that started it")
        return job.handle

    def _surroundings(self, spec: JobSpec) -> tuple[Surroundings, bool]:
        """The variables that a job's helper must have, and whether it forks the job.

        What the import of a module may read, all steps that share the import must have in common.
        """
        if self._forks and spec.command[:-1] == (*self._runner, "run"):
            own = (each for each in spec.env.items() if not each[0].startswith(_RESERVED))
            found = tuple(sorted(own))
            if self._crew.has_room(found, HELPERS):
                return found, True
        return (), False

    # What helpers say.

    def _hear(self, helper: Helper) -> None:
        messages = helper.receive()
        if messages is None:
            self._bury(helper)
            return
        with self._lock:
            for message in messages:
                self._note(message)

    def _note(self, message: Mapping[str, Any]) -> None:
        key = message.get("running") or message.get("exited") or message["refused"]
        job = self._jobs.get(key)
        if job is None:
            return
        if "running" in message:
            job.pid, job.begun = message["pid"], message["time"]
            self._tell(job, JobState.RUNNING, message["time"])
            return
        job.helper = None
        if "refused" in message:
            self._refuse(job, Reason.INFRA, message["message"])
            return
        code, note = message["code"], ""
        cancelled = job.cancelled and code != 0
        if code == KILLED and not cancelled:
            # Whoever killed it, want of memory is what it mostly is.
            note = f"killed; its largest process held {format_size(message['memory'])} of memory"
        reason = Reason.CANCELLED if cancelled else Reason.STEP
        # Of its largest process alone, but for the moments at which somebody looked.
        self._meter.reach(key, message["memory"])
        peak = self._meter.peak(key)
        facts = {"reason": reason, "exit_code": code, "message": note, "peak_memory": peak}
        self._tell(job, JobState.EXITED, message["time"], **facts)

    def _bury(self, helper: Helper) -> None:
        """A helper is gone: kill what it had started, and tell that these jobs are lost."""
        words = helper.epitaph()
        self._crew.drop(helper)
        with self._lock:
            helper.gone = words
            # Whatever the reason was, it is not tried again in the same way.
            self._forks = False
            if not helper.ready:
                self._broken = EngineError(
                    f"steps cannot be run by {self._runner[0]}: {words}", "use an interpreter that works"
                )
            for job in self._jobs.values():
                if job.helper is helper:
                    self._lose(job, helper)

    def _lose(self, job: _Job, helper: Helper) -> None:
        job.helper = None
        _kill(job)
        if job.vault is not None:
            vault.remove(job.vault)
        self._refuse(job, Reason.LOST, f"the process that watched it ended ({helper.gone})")

    def _refuse(self, job: _Job, reason: Reason, message: str) -> None:
        """Tell an end that no process came to; its log is there, if only empty."""
        with contextlib.suppress(OSError):
            (job.spec.attempt_dir / LOG_NAME).touch()
        self._tell(job, JobState.EXITED, self._clock(), reason=reason, message=message)

    def _tell(self, job: _Job, state: JobState, when: float, **facts: Any) -> None:
        self._events.append(
            Event(job.spec.key, state, when, engine_id=job.handle.engine_id, cursor=f"{when:.9f}", **facts)
        )


def _kill(job: _Job) -> None:
    if job.pid is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(job.pid, signal.SIGKILL)


def runner(python: str, runtime: Path, job_file: Path) -> tuple[str, ...]:
    """The command of a Python step, which an engine with this interpreter and this runtime may fork."""
    return (python, str(runtime / "main.py"), "run", str(job_file))
