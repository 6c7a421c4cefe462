"""Who runs jobs: one thread for each that runs.

Owns which jobs are run now. Everything else is read from the database and the engine by :mod:`.job`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dispatch.beakerd.backend import Backend
from dispatch.beakerd.runner.cleaning import Cleaner
from dispatch.beakerd.runner.crew import Crew
from dispatch.beakerd.runner.job import JobRun, Parts, Provider
from dispatch.beakerd.store.running import unfinished

__all__ = ["Provider", "Runner"]

CLOSING = 5.0


class Runner:
    """Runs jobs that were assigned. All methods may be called by any thread; none waits, but for ``close``.

    After a job is finalized, ``backend.jobs.changed()`` is called.
    """

    def __init__(self, backend: Backend, provider: Provider, monotonic: Callable[[], float] = time.monotonic):
        self._backend = backend
        self._crew = Crew("job")
        self._cleaner = Cleaner(backend)
        self._closing = threading.Event()
        self._parts = Parts(backend, provider, self._crew, self._cleaner, monotonic, self._closing)
        self._lock = threading.Lock()
        self._running: dict[str, JobRun] = {}
        self._cleaning = False

    def start(self, job: str) -> None:
        """Run a job that was assigned to its end; one that is run already is left alone."""
        with self._lock:
            if job in self._running or self._closing.is_set():
                return
            if not self._cleaning:
                self._cleaning = True
                self._cleaner.start()
            run = self._running[job] = JobRun(self._parts, job)
        self._crew.submit(lambda: self._run(job, run))

    def stop(self, job: str) -> None:
        """A wish to stop a job was written down."""
        with self._lock:
            run = self._running.get(job)
        if run is not None:
            run.wake()

    def adopt(self) -> None:
        """Go on with all jobs that an earlier server left, and take away what it left of ended ones."""
        with self._backend.database.read() as tx:
            jobs = unfinished(tx)
        for job in jobs:
            self.start(job)
        with self._lock:
            if not self._cleaning:
                self._cleaning = True
                self._cleaner.start()
        self._cleaner.sweep()

    def close(self) -> None:
        """End the threads. Containers go on; the next server adopts them."""
        self._closing.set()
        with self._lock:
            running = list(self._running.values())
        for run in running:
            run.wake()
        self._crew.close(CLOSING)
        self._cleaner.close(CLOSING)

    def _run(self, job: str, run: JobRun) -> None:
        try:
            run.run()
        finally:
            with self._lock:
                self._running.pop(job, None)
