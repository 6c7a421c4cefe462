"""Taking away what ended jobs leave: containers with their volumes, secrets, client configurations.

Owns one thread, for which nobody waits: a job is finalized, and its slot free, before its container is gone.
What it did not get to is found again by the server's label at the next start.
"""

from __future__ import annotations

import queue
import shutil
import threading
from collections.abc import Callable

from dispatch.beakerd.backend import Backend
from dispatch.beakerd.runner.containers import JOB_LABEL, OWNER_LABEL, name_of, owner_of
from dispatch.beakerd.runner.environment import place_of
from dispatch.beakerd.runner.mounts import secrets_of
from dispatch.beakerd.store.running import is_unfinished
from dispatch.errors import EngineError

PAUSE = 2.0


class Cleaner:
    """Removes things one after another, as long as it takes."""

    def __init__(self, backend: Backend):
        self._backend = backend
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._serve, name="cleaner", daemon=True)
        self._thread.start()

    def clean(self, job: str) -> None:
        """Take away what is left of a job that is finalized, or gone."""
        self._work.put(lambda: self._clean(job))

    def sweep(self) -> None:
        """Take away what an earlier server left of such jobs."""
        self._work.put(self._sweep)

    def close(self, seconds: float) -> None:
        """End after what goes on just now."""
        self._closing.set()
        self._work.put(None)
        if self._thread is not None:
            self._thread.join(seconds)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            while not self._closing.is_set():
                try:
                    work()
                    break
                except EngineError:
                    self._closing.wait(PAUSE)
                except Exception as error:
                    self._backend.say(f"cleaning: {type(error).__name__}: {error}")
                    break

    def _clean(self, job: str) -> None:
        for place in (secrets_of(self._backend, job), place_of(self._backend, job)):
            shutil.rmtree(place, ignore_errors=True)
        name, containers = name_of(job), self._backend.door.containers
        state = containers.inspect(name)
        if state is not None and state.labels.get(JOB_LABEL) == job:
            containers.remove(name)

    def _sweep(self) -> None:
        owner = owner_of(self._backend.layout.root)
        for row in self._backend.door.containers.labelled(OWNER_LABEL, owner):
            job = row.labels.get(JOB_LABEL, "")
            if job and not self._is_unfinished(job):
                self._clean(job)
        for place in self._backend.layout.job("x").parent.iterdir():
            left = [each for each in (place / "secrets", place / "client") if each.exists()]
            if left and not self._is_unfinished(place.name):
                for each in left:
                    shutil.rmtree(each, ignore_errors=True)

    def _is_unfinished(self, job: str) -> bool:
        with self._backend.database.read() as tx:
            return is_unfinished(tx, job)
