"""Stopping containers: SIGTERM to all at once, SIGKILL after a grace.

Owns its threads and timers. The engine's own ``stop`` call is not used: it blocks for the whole grace, and
a pool of threads would stop many containers one after another.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from dispatch._docker.containers import Containers
from dispatch.errors import EngineError

STOP_THREADS = 4


class Stopper:
    """Stops containers by name; ``ended`` says of a name whether the container is known to have ended."""

    def __init__(self, containers: Containers, ended: Callable[[str], bool]) -> None:
        self._containers = containers
        self._ended = ended
        self._pool = ThreadPoolExecutor(STOP_THREADS, thread_name_prefix="dispatch-docker-stop")
        self._lock = threading.Lock()
        self._waiting: dict[threading.Timer, Sequence[str]] = {}

    def stop(self, names: Sequence[str], grace: float) -> None:
        """Ask containers to end, and kill those that are there after ``grace`` seconds. Returns at once."""
        if not names:
            return
        for name in names:
            self._pool.submit(self._signal, name, "SIGTERM")
        timer = threading.Timer(grace, lambda: self._kill(timer))
        timer.daemon = True
        with self._lock:
            self._waiting[timer] = names
        timer.start()

    def close(self) -> None:
        """Kill at once what still has grace, so that nothing outlives the client that was told to stop it."""
        with self._lock:
            timers = list(self._waiting)
        for timer in timers:
            timer.cancel()
            self._kill(timer)
        self._pool.shutdown()

    def _kill(self, timer: threading.Timer) -> None:
        with self._lock:
            names = self._waiting.pop(timer, ())
        for name in names:
            if not self._ended(name):
                self._pool.submit(self._signal, name, "SIGKILL")

    def _signal(self, name: str, signal: str) -> None:
        # A signal that cannot be sent shows as a job that does not end, and whoever waits has a deadline.
        with contextlib.suppress(EngineError):
            self._containers.kill(name, signal)
