"""A container from its start to its end: its log followed, wishes to stop it carried out.

Owns the two connections that this takes: the log, and the engine's word that it has ended. Both break when
the engine goes; then whoever calls asks the engine again.
"""

from __future__ import annotations

import threading

from dispatch._docker.containers import Containers, ContainerState
from dispatch._docker.follow import LogFeed
from dispatch._docker.socket import ApiError, Stream
from dispatch.beakerd.runner.bell import Bell
from dispatch.beakerd.runner.failure import ClosingError
from dispatch.beakerd.runner.logs import JobLog
from dispatch.beakerd.runner.stopping import Stopping

# An engine may forget to end the log of a container that has ended.
STALL = 2.0
AGAIN = 0.05
GONE = 404


class Watch:
    """Watches one container, for one thread. ``closing`` says that the server goes."""

    def __init__(self, containers: Containers, name: str, log: JobLog, stopping: Stopping, bell: Bell):
        self._containers = containers
        self._name = name
        self._log = log
        self._stopping = stopping
        self._bell = bell

    def until_end(self, closing: threading.Event) -> ContainerState | None:
        """Return the container's state when it has ended, None when it is gone.

        :raises EngineError: when the engine does not answer; what was followed is given anew next time
        :raises ClosingError: when the server goes
        """
        while True:
            self._stopping.look()
            try:
                ending = self._containers.ending(self._name)
            except ApiError as error:
                if error.status == GONE:
                    return None
                raise
            try:
                self._follow(ending, closing)
            finally:
                ending.close()
            state = self._containers.inspect(self._name)
            if state is None or state.ended:
                return state
            self._bell.wait(AGAIN)

    def _follow(self, ending: Stream, closing: threading.Event) -> None:
        """Take the log until the engine says that the container has ended, or breaks off."""
        self._log.restart()
        feed: LogFeed | None = self._containers.follow(self._name)
        ended = False
        try:
            while True:
                wait = STALL if ended else self._stopping.attend()
                descriptors = [
                    each.fileno() for each in (feed, None if ended else ending) if each is not None
                ]
                rang, ready = self._bell.wait(wait, *descriptors)
                if closing.is_set():
                    raise ClosingError
                if rang and not ended:
                    self._stopping.look()
                if feed is not None and feed.fileno() in ready and not self._take(feed):
                    feed.close()
                    feed = None
                elif ended and feed is not None and not ready and not rang:
                    return
                ended = ended or ending.fileno() in ready
                if ended and feed is None:
                    return
        finally:
            if feed is not None:
                feed.close()

    def _take(self, feed: LogFeed) -> bool:
        """Whether more will come."""
        frames = feed.read()
        if frames is not None:
            self._log.add(frames)
        return frames is not None and self._log.fault is None
