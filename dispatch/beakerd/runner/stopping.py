"""When a job's container is to stop, and how: SIGTERM, and SIGKILL after a grace.

Owns the job's time limit and what was already sent. The wish itself is the database's: whoever takes the job
over after a kill goes on with what is left of limit and grace.
"""

from __future__ import annotations

from collections.abc import Callable

from dispatch._docker.containers import Containers
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.runner.containers import name_of
from dispatch.beakerd.store.lifecycle import Code
from dispatch.beakerd.store.running import Job, load_job

NANO = 1e9


class Stopping:
    """The stopping of one started job, for one thread."""

    def __init__(self, backend: Backend, containers: Containers, monotonic: Callable[[], float], job: Job):
        self._backend = backend
        self._containers = containers
        self._monotonic = monotonic
        self._job = job
        self._kill_at: float | None = None
        self._killed = False
        self._limit_at = self._limit()

    def look(self) -> None:
        """See whether there is a wish now, and begin with it."""
        with self._backend.database.read() as tx:
            job = load_job(tx, self._job.id)
        if job is not None and job.canceled_code is None:
            return
        if self._kill_at is None:
            self._kill_at = self._monotonic() + self._grace(job)
            if self._kill_at > self._monotonic():
                self._containers.kill(name_of(self._job.id), "SIGTERM")

    def attend(self) -> float | None:
        """Do what is due, and return the seconds until the next thing is, None where nothing will be."""
        now = self._monotonic()
        if self._kill_at is None and self._limit_at is not None and now >= self._limit_at:
            limit = (self._job.task.timeout or 0) / NANO
            with self._backend.database.write() as tx:
                self._backend.lifecycle.stop(
                    tx, self._job.id, Code.TIMEOUT, f"it ran into its time limit of {limit:g} s"
                )
            self.look()
        if self._kill_at is not None:
            if not self._killed and now >= self._kill_at:
                self._containers.kill(name_of(self._job.id), "SIGKILL")
                self._killed = True
            return None if self._killed else self._kill_at - now
        return None if self._limit_at is None else self._limit_at - now

    def _grace(self, job: Job | None) -> float:
        """What is left of it. A job that was deleted, or whose node is gone, has none."""
        if job is None or job.canceled_code is Code.NODE_UNAVAILABLE:
            return 0.0
        grace = self._backend.config.assume.grace
        gone = (self._backend.clock.now() - (job.canceled or 0)) / NANO
        return min(grace, max(0.0, grace - gone))

    def _limit(self) -> float | None:
        timeout = self._job.task.timeout
        if timeout is None or timeout <= 0:
            return None
        ran = self._backend.clock.now() - (self._job.started or 0)
        return self._monotonic() + min(timeout, max(0, timeout - ran)) / NANO
