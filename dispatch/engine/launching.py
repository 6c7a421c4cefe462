"""From a job to a running container, begun now or by a client before us.

Owns the order of creating, filling and starting, and what a refusal or a broken connection on the way means.
Refuses to watch what it started.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

from dispatch._docker import ApiError
from dispatch._docker.containers import ContainerSpec, ContainerState
from dispatch.engine import delivery, ending
from dispatch.engine.arbiter import Arbiter
from dispatch.engine.base import Reason
from dispatch.engine.containerjob import ContainerJob
from dispatch.engine.finishing import GONE, Finisher, Parts
from dispatch.engine.staging import Way
from dispatch.engine.stopping import Stopper
from dispatch.errors import EngineError


class Launcher:
    """Starts one engine's jobs. ``later`` has a call made by the threads that conclude ends."""

    def __init__(
        self,
        parts: Parts,
        finisher: Finisher,
        arbiter: Arbiter,
        stopper: Stopper,
        later: Callable[[Callable[[], None]], object],
    ) -> None:
        self._parts = parts
        self._containers = parts.containers
        self._finisher = finisher
        self._arbiter = arbiter
        self._stopper = stopper
        self._later = later

    def start(self, job: ContainerJob) -> None:
        """Start a job, or tell its end. An error that left the pool's thread would be seen by nobody."""
        try:
            self._launch(job)
        except ApiError as error:
            reason, message = ending.refused(error)
            self._finisher.fail(job, reason, message)
        except EngineError as error:
            self._recover(job, error)
        except OSError as error:
            self._finisher.fail(
                job, Reason.INFRA, f"{error.filename or job.sandbox.directory}: {error.strerror}"
            )
        except Exception as error:
            self._finisher.fail(job, Reason.INFRA, f"the container could not be prepared: {error!r}")

    def _launch(self, job: ContainerJob) -> None:
        if job.spec.attach:
            if not self._attach(job):
                self._finisher.fail(job, Reason.LOST, GONE)
            return
        if job.grace is None:
            way = self._parts.staging.of(job.spec)
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
                self._finisher.fail(job, Reason.PREEMPTED, taken)
                return
        if job.grace is not None:
            self._finisher.fail(job, Reason.CANCELLED, "cancelled before it was started")
            return
        delivery.start(self._containers, job.name, job.spec)
        self._mark_started(job)

    def _make(self, job: ContainerJob, spec: ContainerSpec, way: Way) -> None:
        """Create a container anew that had to give way."""
        self._containers.create(spec)
        way.fill(job.spec, job.name)

    def _attach(self, job: ContainerJob) -> bool:
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

    def _take_over(self, job: ContainerJob, state: ContainerState) -> None:
        """Go on with a container that was started, perhaps by a client before us."""
        # Whatever ended one that nobody looked after, we do not know it from what we see now.
        job.outage = job.outage or job.spec.attach
        self._mark_started(job)
        if not state.ended:
            self._finisher.tell_running(job, state.started or self._parts.clock())
        elif self._finisher.claim(job):
            self._later(partial(self._finisher.conclude, job, state.finished or self._parts.clock()))

    def _mark_started(self, job: ContainerJob) -> None:
        with self._parts.lock:
            job.started = True
            grace = job.grace
        self._parts.logs.follow(job.name, job.log)
        if grace is not None:
            self._stopper.stop([job.name], grace)

    def _recover(self, job: ContainerJob, error: EngineError) -> None:
        """The engine broke off during a start, which may have happened: go on with it, or let nothing run."""
        with contextlib.suppress(EngineError):
            state = self._finisher.patiently(job, lambda: self._containers.inspect(job.name))
            if state is not None and state.status != "created":
                self._take_over(job, state)
                return
            self._finisher.patiently(job, lambda: self._containers.remove(job.name))
            if job.begun:
                self._finisher.fail(job, Reason.LOST, GONE)
            else:
                self._finisher.fail(job, Reason.INFRA, error.message)
