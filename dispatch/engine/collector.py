"""The logs of running containers, written to disk as they come, by one thread for all.

Owns which logs are followed, when a connection that broke off is asked for again, and that a log is whole
when its container's end is told. Refuses to know jobs. A log that is asked for again comes from its beginning
and is written over itself (see ``joblog``): the engine knows no better place to go on from.

A container that ends within :data:`GRACE` is never followed: its log is read once, after its end, and that is
all that a short step pays.

Each connection gives at most one block a round, so a loud container does not keep the others waiting; what it
prints faster than it is read waits in the engine's own file, not here.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from dispatch._docker.containers import Containers
from dispatch._docker.follow import LogFeed
from dispatch.engine.joblog import JobLog
from dispatch.errors import EngineError

GRACE = 0.15
RETRY_EVERY = 0.5
# Where the disk is full: it may get room again.
RETRY_FULL = 10.0
# After a container's end, how long its log may stand still before it is read anew.
STALL = 10.0
# To connect may take a while where the engine is far away.
OPENERS = 2
# Lines come singly, a thousand of them in the same moment: a pause makes one write of many.
_PAUSE = 0.003


class _Followed:
    """A container's log: guarded by the collector's lock but for ``log``, which one thread has at a time."""

    def __init__(self, name: str, log: JobLog, due: float) -> None:
        self.name = name
        self.log = log
        self.due: float | None = due
        self.feed: LogFeed | None = None
        self.moved = due
        # Set once the collector's thread will touch it no more: by its end, or because it never began.
        self.idle = threading.Event()
        self.idle.set()
        self.leaving = False


class Collector:
    """Follows logs by the container's name; ``ended`` says of a name whether its end is known."""

    def __init__(
        self,
        containers: Containers,
        ended: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._containers = containers
        self._ended = ended
        self._clock = clock
        self._lock = threading.Lock()
        self._followed: dict[str, _Followed] = {}
        self._opened: list[_Followed] = []
        self._selector: selectors.BaseSelector | None = None
        self._wake: tuple[int, int] = (-1, -1)
        self._thread: threading.Thread | None = None
        self._openers = ThreadPoolExecutor(OPENERS, thread_name_prefix="dispatch-docker-logs")
        self._closing = False

    def follow(self, name: str, log: JobLog) -> None:
        """Have a started container's log followed; nothing changes for one that is."""
        with self._lock:
            if self._closing or name in self._followed:
                return
            self._followed[name] = _Followed(name, log, self._clock() + GRACE)
            self._start()
        self._ring()

    def complete(self, name: str, log: JobLog, ended: float) -> str:
        """Make the log of an ended container whole; see :meth:`JobLog.finish` for what is returned.

        What was followed is checked against the end of what the engine kept, and read anew if anything is
        missing. May be repeated after an EngineError.
        """
        followed = self._leave(name, STALL)
        if not (followed and log.fault is None and self._is_whole(name, log)):
            log.restart()
            log.add_all(self._containers.logs(name, stamps=True))
        return log.finish(ended)

    def abandon(self, name: str, log: JobLog) -> None:
        """Follow no more; what was written stays."""
        self._leave(name, 0.0)
        log.leave()

    def close(self) -> None:
        """End the thread and all connections."""
        with self._lock:
            self._closing = True
            thread = self._thread
        self._ring()
        if thread is not None:
            thread.join()
        self._openers.shutdown()
        for followed in self._followed.values():
            followed.log.leave()
        self._followed.clear()

    def _is_whole(self, name: str, log: JobLog) -> bool:
        """Whether the last frame that was followed is the last one there is. They come in order, so all of
        them have come then.
        """
        return [*self._containers.logs(name, stamps=True, last=1)] == ([log.last] if log.last else [])

    def _leave(self, name: str, stall: float) -> bool:
        """Wait until a log came to its end or stands still, and take it from the thread. Whether there was
        anything to wait for.
        """
        with self._lock:
            followed = self._followed.pop(name, None)
            if followed is None:
                return False
            followed.due = None
            followed.moved = self._clock()
            followed.leaving = stall == 0
        while not followed.idle.is_set():
            if followed.leaving:
                self._ring()
            followed.idle.wait(0.2 if not followed.leaving else 1.0)
            if self._clock() - followed.moved > stall:
                followed.leaving = True
        return followed.feed is not None

    # The thread.

    def _start(self) -> None:
        if self._thread is None:
            self._selector = selectors.DefaultSelector()
            self._wake = os.pipe()
            for descriptor in self._wake:
                os.set_blocking(descriptor, False)
            self._selector.register(self._wake[0], selectors.EVENT_READ)
            self._thread = threading.Thread(target=self._collect, name="dispatch-docker-log", daemon=True)
            self._thread.start()

    def _ring(self) -> None:
        if self._wake[1] >= 0:
            with contextlib.suppress(OSError):
                os.write(self._wake[1], b".")

    def _collect(self) -> None:
        selector = self._selector
        assert selector is not None
        active: dict[int, _Followed] = {}
        while not self._closing:
            waiting = [each for each in active.values() if each.feed is not None and each.feed.pending]
            found = selector.select(0 if waiting else self._open_due())
            ready = {id(each): each for each in waiting}
            for key, _ in found:
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake[0], 4096)
                    self._admit(active, selector)
                else:
                    ready[id(key.data)] = key.data
            for each in [*active.values()]:
                if each.leaving or (id(each) in ready and not self._read(each)):
                    self._drop(active, selector, each)
            if ready:
                time.sleep(_PAUSE)
        self._admit(active, selector)
        for each in [*active.values()]:
            self._drop(active, selector, each)
        selector.close()
        for descriptor in self._wake:
            os.close(descriptor)

    def _open_due(self) -> float | None:
        """Have what is due opened by others; returns the seconds until something else is."""
        now, first = self._clock(), None
        with self._lock:
            for each in self._followed.values():
                if each.due is None:
                    continue
                if each.due <= now:
                    each.due = None
                    each.idle.clear()
                    self._openers.submit(self._open, each)
                elif first is None or each.due < first:
                    first = each.due
        return None if first is None else first - now

    def _open(self, followed: _Followed) -> None:
        """Connect. Runs in a pool."""
        try:
            feed = self._containers.follow(followed.name)
        except EngineError:
            feed = None
        with self._lock:
            if feed is not None and (followed.leaving or self._closing):
                feed.close()
                feed = None
            if feed is not None:
                followed.feed = feed
                self._opened.append(followed)
        if feed is None:
            self._let_go(followed)
        self._ring()

    def _admit(self, active: dict[int, _Followed], selector: selectors.BaseSelector) -> None:
        """Take over what has been opened."""
        with self._lock:
            opened, self._opened = self._opened, []
        for each in opened:
            assert each.feed is not None
            active[id(each)] = each
            each.log.restart()
            selector.register(each.feed, selectors.EVENT_READ, each)

    def _read(self, followed: _Followed) -> bool:
        """Read and write one block; False at the end of the stream."""
        assert followed.feed is not None
        try:
            frames = followed.feed.read()
            if frames is None:
                return False
            if frames:
                followed.moved = self._clock()
                followed.log.add(frames)
        except Exception:
            # What is wrong with one log must not end the others', and is said when it is made whole.
            return False
        return followed.log.fault is None

    def _drop(
        self, active: dict[int, _Followed], selector: selectors.BaseSelector, followed: _Followed
    ) -> None:
        del active[id(followed)]
        feed = followed.feed
        assert feed is not None
        selector.unregister(feed)
        feed.close()
        self._let_go(followed)

    def _let_go(self, followed: _Followed) -> None:
        """Touch the log no more, until it is opened again: which is asked for unless it came to its end."""
        with self._lock:
            if self._followed.get(followed.name) is followed and not self._ended(followed.name):
                followed.due = self._clock() + (RETRY_EVERY if followed.log.fault is None else RETRY_FULL)
            followed.idle.set()
