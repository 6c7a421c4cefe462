"""Who looks after jobs: the scheduler and the runner, as the one that the server's parts tell of changes.

Owns their order: what an earlier server left is adopted before anything new is assigned, and nothing is
assigned any more once the runner goes.
"""

from __future__ import annotations

import threading
from typing import Protocol

from dispatch.beakerd.backend import Backend
from dispatch.beakerd.schedule.loop import Scheduler

PATIENCE = 10.0


class Runner(Protocol):
    """Runs jobs. ``start`` and ``stop`` return at once and may be repeated."""

    def start(self, job: str) -> None:
        """Run a job that was assigned to its end."""

    def stop(self, job: str) -> None:
        """Carry out the wish to stop a job."""

    def adopt(self) -> None:
        """Go on with every job that is assigned and not finalized."""

    def close(self) -> None:
        """End the threads; containers go on."""


class Supervisor:
    """The server's :class:`dispatch.beakerd.backend.Jobs`, from :meth:`open` to :meth:`close`."""

    def __init__(self, backend: Backend, runner: Runner):
        self._backend = backend
        self._runner = runner
        self._scheduler = Scheduler(backend, runner.start, runner.stop)
        self._thread = threading.Thread(target=self._scheduler.run, name="scheduler", daemon=True)

    def open(self) -> None:
        """Adopt what runs, then schedule what waits."""
        self._backend.jobs = self
        self._runner.adopt()
        self._thread.start()

    def close(self) -> None:
        """Assign nothing more, and let go of what runs. May be called without :meth:`open`."""
        self._scheduler.close()
        if self._thread.is_alive():
            self._thread.join(PATIENCE)
        self._runner.close()

    def changed(self) -> None:
        """See :class:`dispatch.beakerd.backend.Jobs`."""
        self._scheduler.changed()

    def start(self, job: str) -> None:
        """See :class:`dispatch.beakerd.backend.Jobs`."""
        self._runner.start(job)

    def stop(self, job: str) -> None:
        """See :class:`dispatch.beakerd.backend.Jobs`."""
        self._runner.stop(job)
