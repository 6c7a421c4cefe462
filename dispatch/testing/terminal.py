"""A person at a terminal: types, reads what comes, changes the window's size, closes it.

Owns a pseudo-terminal and the command that has it as its controlling one. Waits for what is to be seen, with
a generous deadline, and never for time to pass.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DEADLINE = 60.0


class Terminal:
    """A terminal with one command in it; a context that ends both."""

    def __init__(self, command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> None:
        self._master, self._slave = pty.openpty()
        self.seen = b""
        self.resize(24, 80)
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )

    def __enter__(self) -> Terminal:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the window, and see to it that the command is gone."""
        self.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def mode(self) -> list[Any]:
        """The terminal's attributes."""
        return termios.tcgetattr(self._slave)

    def resize(self, rows: int, columns: int) -> None:
        """Give the window another size; whoever is in the foreground is told by the system."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def read_until(self, text: str) -> str:
        """Read until a text has come, and return all up to its end; AssertionError if it does not come."""
        wanted, deadline = text.encode(), time.monotonic() + DEADLINE
        while wanted not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} did not come, but: {self.seen.decode(errors='replace')!r}"
            if select.select([self._master], [], [], left)[0]:
                try:
                    self.seen += os.read(self._master, 65536)
                except OSError as error:
                    raise AssertionError(f"{text!r} did not come: {self.seen!r}") from error
        found, _, self.seen = self.seen.partition(wanted)
        return (found + wanted).decode(errors="replace")

    def end(self) -> int:
        """Read until the command has ended, and return its exit code (negative: killed by that signal)."""
        deadline = time.monotonic() + DEADLINE
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end: {self.seen.decode(errors='replace')!r}"
            if select.select([self._master], [], [], 0.05)[0]:
                self.seen += os.read(self._master, 65536)
        return self.process.returncode

    def close(self) -> None:
        """Close the window, as a connection that breaks does: the system hangs up on the command."""
        for descriptor in (self._master, self._slave):
            if descriptor >= 0:
                os.close(descriptor)
        self._master = self._slave = -1


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
