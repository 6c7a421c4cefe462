"""A bell that a thread waits for, together with connections.

Owns a pipe. Ringing is remembered until somebody waits; ringing a bell that was closed does nothing.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading


class Bell:
    """Rung by any thread, heard by one."""

    def __init__(self) -> None:
        self._ear, self._rope = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._closed = False

    def ring(self) -> None:
        """Wake whoever waits, now or next."""
        with self._lock:
            if not self._closed:
                # A full pipe rings already.
                with contextlib.suppress(BlockingIOError):
                    os.write(self._rope, b"!")

    def wait(self, seconds: float | None, *descriptors: int) -> tuple[bool, set[int]]:
        """Wait for the bell or for one of the descriptors, at most so long: whether it rang, and which."""
        poll = select.poll()
        for descriptor in (self._ear, *descriptors):
            poll.register(descriptor, select.POLLIN)
        found = {
            descriptor for descriptor, _ in poll.poll(None if seconds is None else max(0.0, seconds) * 1000)
        }
        rang = self._ear in found
        if rang:
            with contextlib.suppress(BlockingIOError):
                os.read(self._ear, 4096)
        return rang, found - {self._ear}

    def close(self) -> None:
        """Ring and wait no more."""
        with self._lock:
            self._closed = True
            os.close(self._ear)
            os.close(self._rope)
