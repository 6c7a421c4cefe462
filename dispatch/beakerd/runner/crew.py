"""Threads for work that mostly waits.

Owns the threads, which are used again: each has a connection to the database of its own, and there are no
more of them than there was ever work at once. They are daemons: no work may hold up the end of the process.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

Work = Callable[[], None]


class Crew:
    """Takes work and does it at once. Work handles its own errors."""

    def __init__(self, name: str):
        self._name = name
        self._condition = threading.Condition()
        self._waiting: deque[Work] = deque()
        self._idle = 0
        self._closed = False
        self._threads: list[threading.Thread] = []

    def submit(self, work: Work) -> None:
        """Have work done in a thread; after :meth:`close` it is dropped."""
        with self._condition:
            if self._closed:
                return
            self._waiting.append(work)
            if self._idle >= len(self._waiting):
                self._condition.notify()
                return
            thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            self._threads.append(thread)
        thread.start()

    def close(self, seconds: float) -> None:
        """Take no more, and give what goes on so much time to end."""
        with self._condition:
            self._closed = True
            self._waiting.clear()
            self._condition.notify_all()
        given_up = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, given_up - time.monotonic()))

    def _serve(self) -> None:
        while True:
            with self._condition:
                self._idle += 1
                while not self._waiting and not self._closed:
                    self._condition.wait()
                self._idle -= 1
                if self._closed:
                    return
                work = self._waiting.popleft()
            work()
