"""How work tells what it does: lines for people, and tasks that take a while and may count bytes.

Owns the port alone. Who shows it, and how, is the command line's; work that reports never waits for it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Protocol


class Task(Protocol):
    """A piece of work that was begun. Methods may be called from any thread, and never raise."""

    def advance(self, amount: int) -> None:
        """So many more bytes are done."""

    def expect(self, total: int) -> None:
        """All of it is so many bytes, as far as is known by now."""

    def done(self, *, broken: bool = False) -> None:
        """The work has ended; ``broken`` where it did not come to its end."""


class Reporter(Protocol):
    """Is told of work. Methods may be called from any thread, and never raise."""

    def __call__(self, line: str, /) -> None:
        """Take one line of progress."""

    def task(self, name: str, total: int | None = None) -> Task:
        """Begin a task: of ``total`` bytes, or of an amount that is not known (yet)."""


class Lines:
    """A reporter that passes lines on and keeps tasks to itself."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def __call__(self, line: str, /) -> None:
        """See :class:`Reporter`."""
        self._say(line)

    def task(self, name: str, total: int | None = None) -> Task:  # noqa: ARG002
        """See :class:`Reporter`."""
        return _SILENT


class _Silent:
    def advance(self, amount: int) -> None:
        """See :class:`Task`."""

    def expect(self, total: int) -> None:
        """See :class:`Task`."""

    def done(self, *, broken: bool = False) -> None:
        """See :class:`Task`."""


_SILENT = _Silent()


@contextlib.contextmanager
def working(report: Reporter, name: str, total: int | None = None) -> Iterator[Task]:
    """Begin a task that ends with the context; one that an exception leaves is broken."""
    task = report.task(name, total)
    try:
        yield task
    except BaseException:
        task.done(broken=True)
        raise
    task.done()


def counted(chunks: Iterable[bytes], task: Task) -> Generator[bytes, None, None]:
    """Yield the chunks, telling the task of each once whoever reads them has come back for more."""
    for chunk in chunks:
        yield chunk
        task.advance(len(chunk))


@contextlib.contextmanager
def measured(task: Task, size: Callable[[], int], interval: float = 0.5) -> Iterator[None]:
    """Tell the task how far work has come that does not say so itself, for instance another program's.

    ``size`` returns the bytes that are there by now; it is asked every ``interval`` seconds by another
    thread, and at the end. What it raises as an OSError is passed over.
    """
    ended = threading.Event()
    known = 0

    def look() -> None:
        nonlocal known
        with contextlib.suppress(OSError):
            now = size()
            if now > known:
                task.advance(now - known)
                known = now

    def watch() -> None:
        while not ended.wait(interval):
            look()

    watcher = threading.Thread(target=watch, name="dispatch-measure", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        look()
