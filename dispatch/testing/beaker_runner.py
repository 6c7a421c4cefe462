"""A runner that runs nothing: jobs of a local Beaker begin and end when a test says so."""

from __future__ import annotations

import threading

from dispatch.beakerd.backend import Backend


class FakeRunner:
    """See :class:`dispatch.beakerd.supervisor.Runner`. ``running`` are the jobs that were started, in their
    order; ``stopped`` those that were to be stopped. With ``obedient`` a job ends as soon as it is told to
    stop; with ``slow`` it does not begin to run by itself.
    """

    def __init__(self, backend: Backend, obedient: bool = True, slow: bool = False):
        self._backend = backend
        self._obedient = obedient
        self._slow = slow
        self._lock = threading.Lock()
        self.running: list[str] = []
        self.stopped: list[str] = []
        self.adopted = False
        self.closed = False

    def start(self, job: str) -> None:
        """Begin at once."""
        with self._lock:
            if job in self.running:
                return
            self.running.append(job)
        if not self._slow:
            self.begin(job)

    def begin(self, job: str) -> None:
        """The job's container runs."""
        with self._backend.database.write() as tx:
            self._backend.lifecycle.start(tx, job, self._backend.clock.now())

    def stop(self, job: str) -> None:
        """End it, if it obeys."""
        with self._lock:
            self.stopped.append(job)
        if self._obedient:
            self.end(job, 143)

    def end(self, job: str, code: int = 0) -> None:
        """The job's process has ended, and its results are kept."""
        with self._backend.database.write() as tx:
            self._backend.lifecycle.exit(tx, job, self._backend.clock.now(), code)
            self._backend.lifecycle.finalize(tx, job)
        with self._lock:
            if job in self.running:
                self.running.remove(job)
        self._backend.jobs.changed()

    def adopt(self) -> None:
        """Go on with what is assigned."""
        self.adopted = True
        with self._backend.database.read() as tx:
            rows = tx.execute(
                "SELECT id FROM jobs WHERE finalized IS NULL AND node_id IS NOT NULL"
            ).fetchall()
        for row in rows:
            self.start(row["id"])

    def close(self) -> None:
        """Nothing ends."""
        self.closed = True
