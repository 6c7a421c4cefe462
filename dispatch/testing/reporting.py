"""A reporter that remembers."""

from __future__ import annotations

import threading


class RecordedTask:
    """What a task was told; see :class:`dispatch.reporting.Task`."""

    def __init__(self, name: str, total: int | None) -> None:
        self.name = name
        self.total = total
        self.bytes = 0
        self.state = "working"
        self._lock = threading.Lock()

    def advance(self, amount: int) -> None:
        """Add up."""
        with self._lock:
            self.bytes += amount

    def expect(self, total: int) -> None:
        """Remember the total that was told last."""
        self.total = total

    def done(self, *, broken: bool = False) -> None:
        """Remember the end."""
        self.state = "broken" if broken else "done"


class RecordingReporter:
    """Implements :class:`dispatch.reporting.Reporter`; ``lines`` and ``tasks`` are in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tasks: list[RecordedTask] = []

    def __call__(self, line: str, /) -> None:
        """Remember a line."""
        self.lines.append(line)

    def task(self, name: str, total: int | None = None) -> RecordedTask:
        """Remember a task."""
        task = RecordedTask(name, total)
        self.tasks.append(task)
        return task
