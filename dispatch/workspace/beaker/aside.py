"""Something that waits for the network, done aside: whoever asks for it waits no longer than a moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Aside(Generic[T]):
    """Does one thing again and again, one at a time, in a thread that ends with it.

    ``wait`` is for how many seconds whoever asks waits for it.
    """

    def __init__(self, act: Callable[[], T], wait: float) -> None:
        self._act = act
        self._wait = wait
        self._lock = threading.Lock()
        self._doing: _Doing[T] | None = None

    def ask(self) -> T | None:
        """Have it done, and return what it returns, or raise what it raises; None where it takes longer.

        Then the next who asks gets what came of it, and nothing new is begun.
        """
        with self._lock:
            doing = self._doing
            if doing is None:
                doing = self._doing = _Doing(self._act)
                threading.Thread(target=doing.run, name="dispatch-aside", daemon=True).start()
        if not doing.done.wait(self._wait):
            return None
        with self._lock:
            if self._doing is not doing:
                # Somebody else who asked has it.
                return None
            self._doing = None
        if doing.error is not None:
            raise doing.error
        return doing.result


class _Doing(Generic[T]):
    def __init__(self, act: Callable[[], T]) -> None:
        self._act = act
        self.done = threading.Event()
        self.result: T | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self._act()
        except BaseException as error:
            self.error = error
        self.done.set()
