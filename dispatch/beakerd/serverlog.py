"""What the server says: one file, which never grows beyond a limit.

Owns the file and its one predecessor (``server.log.1``). A line for each start, stop and problem; none for
requests, and nothing secret in any.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

LIMIT = 4 * 1024 * 1024
STDERR = 2


class ServerLog:
    """Writes lines, each with its time. ``now`` returns that as text.

    With ``adopt_stderr`` the file is the process's stderr as well: what libraries and the interpreter have to
    say goes where the rest is. Else lines are echoed there.
    """

    def __init__(self, path: Path, now: Callable[[], str], *, adopt_stderr: bool, limit: int = LIMIT):
        self._path = path
        self._now = now
        self._adopt = adopt_stderr
        self._limit = limit
        self._lock = threading.Lock()
        self._file: int | None = None

    def __call__(self, text: str) -> None:
        """Write a line. A disk without room loses it: the server goes on."""
        line = f"{self._now()} {text.rstrip()}\n".encode("utf-8", "backslashreplace")
        with self._lock:
            try:
                self._ready()
                assert self._file is not None
                os.write(self._file, line)
            except OSError:
                pass
            if not self._adopt:
                os.write(STDERR, line)

    def _ready(self) -> None:
        """Have a file with room for more."""
        if self._file is not None and os.fstat(self._file).st_size < self._limit:
            return
        if self._path.exists() and self._path.stat().st_size >= self._limit:
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        new = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if self._file is not None:
            os.close(self._file)
        self._file = new
        if self._adopt:
            os.dup2(new, STDERR)
