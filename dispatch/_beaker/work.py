"""Several files on their way at the same time; when one fails, none of the others goes on for long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")

WORKERS = 4


class _StoppedError(Exception):
    """Another file failed, or the user has enough."""


class Work:
    """Files that are moved at the same time, a few at once. After the first error all of them end."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    def going_on(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """The same blocks, as long as the others go well."""
        for block in blocks:
            if self._stop.is_set():
                raise _StoppedError
            yield block

    def each(self, act: Callable[[str], T], items: Iterable[str]) -> list[T]:
        """What ``act`` returns for each, in their order; else the first error."""
        pool = ThreadPoolExecutor(WORKERS, "beaker-bytes")
        running = [pool.submit(act, each) for each in items]
        try:
            wait(running, return_when=FIRST_EXCEPTION)
            failed = [error for each in running if each.done() and (error := each.exception())]
            if failed:
                raise failed[0]
            return [each.result() for each in running]
        except BaseException as error:
            self._stop.set()
            # Who presses Ctrl-C does not wait for a server that is away.
            pool.shutdown(wait=isinstance(error, Exception), cancel_futures=True)
            raise
        finally:
            pool.shutdown(wait=False)
