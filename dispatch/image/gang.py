"""Several transfers at a time, of which one that fails ends the others.

Owns the threads. Refuses to know what is transferred; that asks :attr:`Gang.wanted` whether to go on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def always() -> bool:
    """For transfers that nobody gives up."""
    return True


class Gang:
    """A context with ``size`` threads. Whatever leaves it, no thread is left."""

    def __init__(self, name: str, size: int, wanted: Callable[[], bool] = always) -> None:
        self._pool = ThreadPoolExecutor(size, name)
        self._asked = wanted
        self._failed = threading.Event()

    def __enter__(self) -> Gang:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None:
            self._failed.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def wanted(self) -> bool:
        """Whether work is to go on."""
        return not self._failed.is_set() and self._asked()

    def each(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Do the work for each item and return what came of it, in their order.

        The error that came first is raised; the other work ends at its next look at :attr:`wanted`.
        """
        first: list[BaseException] = []
        lock = threading.Lock()

        def one(item: T) -> R:
            try:
                return work(item)
            except BaseException as error:
                with lock:
                    first.append(error)
                self._failed.set()
                raise

        futures = [self._pool.submit(one, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException as error:
            # What waits behind it in the order may have failed before, and made this one fail.
            raise first[0] if first and isinstance(error, Exception) else error from None
