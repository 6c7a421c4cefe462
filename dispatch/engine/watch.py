"""The subscription to an engine's events, kept up over outages.

Owns one thread. It tells a listener of every start and end, that the engine came back after an outage (events
may be missing then), and that it did not come back. Refuses to know jobs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from dispatch._docker.containers import ContainerEvent, ContainerEvents, Containers
from dispatch.errors import EngineError

RECONNECT_EVERY = 0.5
OVERLAP = 1.0


class Listener(Protocol):
    """Is told, from the watcher's thread."""

    def subscribed(self) -> None:
        """A subscription stands, the first or a new one: what is listed now misses no later event.

        It may raise EngineError; then the subscription counts as failed.
        """

    def notice(self, event: ContainerEvent) -> None:
        """A container started or ended. The same event may come twice."""

    def returned(self) -> None:
        """The engine answers again; what happened meanwhile is not known."""

    def lost(self, error: EngineError) -> None:
        """The engine did not come back. Nothing more will be told."""


class Watcher:
    """Watches the containers with one label. ``patience`` is how long an outage may last, in seconds."""

    def __init__(
        self,
        containers: Containers,
        label: str,
        listener: Listener,
        clock: Callable[[], float],
        patience: float,
    ) -> None:
        self._containers = containers
        self._label = label
        self._listener = listener
        self._clock = clock
        self._patience = patience
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._events: ContainerEvents | None = None
        self._since = 0.0

    def start(self) -> None:
        """Subscribe, unless that was done before; on return no later event can be missed.

        :raises EngineError: when the engine does not answer
        """
        with self._lock:
            if self._thread is not None:
                return
            # The engine accepts a subscription a moment before it begins: the overlap covers that moment.
            self._since = self._clock() - OVERLAP
            self._events = self._subscribe()
            self._thread = threading.Thread(target=self._listen, name="dispatch-docker-events", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the subscription and the thread."""
        self._closing.set()
        with self._lock:
            thread, events = self._thread, self._events
        if events is not None:
            events.close()
        if thread is not None:
            thread.join()

    def _listen(self) -> None:
        while not self._closing.is_set():
            self._tell()
            if self._closing.is_set() or not self._reconnect():
                return
            self._listener.returned()

    def _tell(self) -> None:
        """Tell every event until the stream ends or breaks."""
        events = self._events
        assert events is not None
        try:
            for event in events:
                self._since = max(self._since, event.time - OVERLAP)
                self._listener.notice(event)
        except EngineError:
            return
        finally:
            events.close()

    def _subscribe(self) -> ContainerEvents:
        """Subscribe and have the listener list, before any event is told: what it lists is older."""
        events = self._containers.events(self._label, self._since)
        try:
            self._listener.subscribed()
        except BaseException:
            events.close()
            raise
        return events

    def _reconnect(self) -> bool:
        deadline = self._clock() + self._patience
        while True:
            try:
                events = self._subscribe()
            except EngineError as error:
                if self._clock() >= deadline:
                    self._listener.lost(error)
                    return False
                if self._closing.wait(RECONNECT_EVERY):
                    return False
                continue
            with self._lock:
                self._events = events
                if self._closing.is_set():
                    events.close()
                    return False
            return True
