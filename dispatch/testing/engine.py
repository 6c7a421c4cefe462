"""An engine in memory: jobs end as a script says, in the order in which they were submitted.

Deterministic and without threads or time of its own; nothing runs but what the script brings along.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dispatch.engine.base import Capabilities, Event, Handle, Holding, JobSpec, JobState, Reason, Usage
from dispatch.errors import EngineError
from dispatch.location import HostPath, Location, SharedPath, Spool

OUTPUT_TARGET = "/dispatch/output"
TERMINATED = 143
KILLED = 137


@dataclass(frozen=True)
class Outcome:
    """How a job ends.

    ``action`` is what it does to its mounts; a job that ``holds`` runs until it is cancelled or
    :meth:`FakeEngine.finish` is called, and ``stubborn`` ones ignore SIGTERM. ``exit_code`` None stands for a
    job that could not be started. For each of ``waits`` the job says first that it waits, and for what.
    """

    exit_code: int | None = 0
    reason: Reason = Reason.STEP
    message: str = ""
    log: bytes = b""
    action: Callable[[JobSpec], None] | None = None
    holds: bool = False
    stubborn: bool = False
    waits: tuple[str, ...] = ()


class FakeEngine:
    """Implements :class:`~dispatch.engine.base.Engine`. ``script`` says how a job ends.

    Its default capabilities pose as a Docker Engine's. Times of events count up from 1, one for each event.
    ``submitted``, ``cancelled`` (with ``graces``) and ``released`` record what was asked of it; ``peak`` is
    the largest number of jobs that were there at once.
    """

    def __init__(
        self,
        script: Callable[[JobSpec], Outcome] = lambda _: Outcome(),
        capabilities: Capabilities | None = None,
    ) -> None:
        self._script = script
        self._capabilities = capabilities or Capabilities(
            "docker", (HostPath, SharedPath, Spool), uid=0, gid=0, cpus=4, memory=16 * 1024**3
        )
        self._changed = threading.Condition()
        self._jobs: dict[str, JobSpec] = {}
        self._live: dict[str, Outcome] = {}
        self._events: list[Event] = []
        self._time = 0.0
        self._broken: EngineError | None = None
        self.submitted: list[JobSpec] = []
        self.cancelled: list[Handle] = []
        self.graces: list[float] = []
        self.released: list[Handle] = []
        self.peak = 0

    def capabilities(self) -> Capabilities:
        """Return what the constructor was given."""
        return self._capabilities

    def submit(self, jobs: Sequence[JobSpec]) -> list[Handle]:
        """Take jobs in; each ends at a later call of ``next_event``."""
        with self._changed:
            for job in jobs:
                if job.key in self._jobs:
                    continue
                self.submitted.append(job)
                self._jobs[job.key] = job
                if job.attach:
                    job.attempt_dir.mkdir(parents=True, exist_ok=True)
                    (job.attempt_dir / "out.log").touch()
                    gone = Outcome(exit_code=None, reason=Reason.LOST, message="it is not there any more")
                    self._tell(job, JobState.EXITED, gone)
                    continue
                self._live[job.key] = outcome = self._script(job)
                self.peak = max(self.peak, len(self._live))
                for reason in outcome.waits:
                    self._tell(job, JobState.WAITING, Outcome(exit_code=None, message=reason))
                if outcome.exit_code is not None:
                    self._tell(job, JobState.RUNNING, Outcome(exit_code=None))
            self._changed.notify_all()
        return [self._handle(job) for job in jobs]

    def next_event(self, timeout: float | None) -> Event | None:
        """Return the next event, letting the oldest job that does not hold end if none is waiting."""
        with self._changed:
            self._changed.wait_for(self._has_news, timeout)
            if self._broken is not None:
                raise self._broken
            if not self._events:
                for key, outcome in self._live.items():
                    if not outcome.holds:
                        self._end(key, outcome)
                        break
            return self._events.pop(0) if self._events else None

    def logs(self, handle: Handle) -> Iterator[bytes]:
        """Yield the script's log of the job."""
        job = self._jobs.get(handle.key)
        if job is not None:
            yield self._live.get(handle.key, self._script(job)).log

    def cancel(self, handles: Sequence[Handle], grace: float) -> None:
        """End the jobs at once: with 143, or with 137 where the script says that they ignore SIGTERM."""
        with self._changed:
            self.graces.append(grace)
            for handle in handles:
                self.cancelled.append(handle)
                outcome = self._live.get(handle.key)
                if outcome is not None:
                    code = KILLED if outcome.stubborn else TERMINATED
                    stopped = replace(outcome, exit_code=code, reason=Reason.CANCELLED, action=None)
                    self._end(handle.key, stopped)
            self._changed.notify_all()

    def find(self, run: str) -> list[Handle]:
        """Return the jobs of a run that were not released."""
        return [self._handle(job) for job in self._jobs.values() if job.run == run]

    def usage(self, handles: Sequence[Handle]) -> Mapping[str, Usage]:  # noqa: ARG002
        """Tell nothing: nobody looks."""
        return {}

    def others(self) -> tuple[Holding, ...]:
        """Tell of nobody."""
        return ()

    def output(self, handle: Handle) -> Location:
        """Return what is mounted at the output directory."""
        job = self._jobs.get(handle.key)
        for mount in job.mounts if job is not None else ():
            if mount.target == OUTPUT_TARGET:
                return mount.source
        raise EngineError(f"job {handle.key}: the engine knows no output directory of it")

    def release(self, handle: Handle) -> None:
        """Forget a job."""
        with self._changed:
            self.released.append(handle)
            self._jobs.pop(handle.key, None)
            self._live.pop(handle.key, None)

    def settle(self) -> None:
        """What was released is forgotten already."""

    def close(self) -> None:
        """Nothing to stop."""

    def finish(self, key: str, outcome: Outcome) -> None:
        """End a job that holds."""
        with self._changed:
            self._end(key, outcome)
            self._changed.notify_all()

    def break_off(self, error: EngineError) -> None:
        """Let ``next_event`` raise from now on, as an engine that went away does."""
        with self._changed:
            self._broken = error
            self._changed.notify_all()

    def _has_news(self) -> bool:
        idle = all(outcome.holds for outcome in self._live.values())
        return bool(self._events or self._broken or not idle)

    def _end(self, key: str, outcome: Outcome) -> None:
        job = self._jobs[key]
        del self._live[key]
        if outcome.action is not None:
            outcome.action(job)
        job.attempt_dir.mkdir(parents=True, exist_ok=True)
        (job.attempt_dir / "out.log").write_bytes(outcome.log)
        self._tell(job, JobState.EXITED, outcome)

    def _tell(self, job: JobSpec, state: JobState, outcome: Outcome) -> None:
        self._time += 1
        self._events.append(
            Event(
                job.key,
                state,
                self._time,
                engine_id=self._handle(job).engine_id,
                reason=outcome.reason,
                exit_code=outcome.exit_code,
                message=outcome.message,
                cursor=str(len(self._events)),
            )
        )

    def _handle(self, job: JobSpec) -> Handle:
        return Handle(job.key, f"fake-{job.key}", job.attempt_dir)
