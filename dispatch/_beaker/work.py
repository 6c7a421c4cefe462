"""Several files on their way at the same time; when one fails, none of the others goes on for long.

Threads are not waited for at the end of the program: whoever presses Ctrl-C does not wait for a server that
is away.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

WORKERS = 4


class _StoppedError(Exception):
    """Another file failed, or the user has enough."""


class Work:
    """Files that are moved a few at once. After the first error all of them end."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._failed: BaseException | None = None

    def going_on(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """The same blocks, as long as the others go well."""
        for block in blocks:
            if self._stop.is_set():
                raise _StoppedError
            yield block

    def each(self, act: Callable[[str], T], items: Sequence[str]) -> list[T]:
        """What ``act`` returns for each, in their order; else the first error."""
        found: dict[str, T] = {}
        waiting = iter(items)

        def work() -> None:
            while not self._stop.is_set():
                with self._lock:
                    item = next(waiting, None)
                if item is None:
                    return
                try:
                    found[item] = act(item)
                except BaseException as error:
                    self._end(error)

        threads = [
            threading.Thread(target=work, name="beaker-bytes", daemon=True)
            for _ in range(min(WORKERS, len(items)))
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException:
            self._stop.set()
            raise
        if self._failed is not None:
            raise self._failed
        return [found[each] for each in items]

    def _end(self, error: BaseException) -> None:
        with self._lock:
            if self._failed is None and not isinstance(error, _StoppedError):
                self._failed = error
        self._stop.set()
