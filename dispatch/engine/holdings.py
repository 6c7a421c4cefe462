"""What containers of other clients hold of the engine's host, kept up to date by its events.

Owns the account of running containers that carry our label and are no jobs of this client. Refuses to ask the
engine but when a subscription begins: what happens afterwards is told.
"""

from __future__ import annotations

import threading
from collections.abc import Container

from dispatch._docker.containers import ContainerEvent, Containers
from dispatch.engine.base import Holding
from dispatch.engine.container import holding_of

HOLDING_STATES = ("running", "paused")


class Holdings:
    """The account. ``ours`` has the names of our own containers, which others may add to at any time.

    A container that becomes ours, because its job was taken over, is to be dropped after it is in ``ours``.
    """

    def __init__(self, containers: Containers, label: str, ours: Container[str]) -> None:
        self._containers = containers
        self._label = label
        self._ours = ours
        self._lock = threading.Lock()
        self._found: dict[str, Holding] = {}
        self._current: tuple[Holding, ...] = ()

    def current(self) -> tuple[Holding, ...]:
        """Return what is held; the same tuple until that changes."""
        return self._current

    def renew(self) -> None:
        """List what runs, and forget what was known. No event may be noticed meanwhile.

        :raises EngineError: when the engine does not answer
        """
        rows = self._containers.labelled(self._label, states=HOLDING_STATES)
        with self._lock:
            self._found = {row.name: holding_of(row.labels) for row in rows if row.name not in self._ours}
            self._current = tuple(self._found.values())

    def notice(self, event: ContainerEvent) -> None:
        """Take in a start or an end; the same one may come twice."""
        if event.action != "start":
            self.drop(event.name)
            return
        with self._lock:
            if event.name not in self._ours:
                self._found[event.name] = holding_of(event.labels)
                self._current = tuple(self._found.values())

    def drop(self, name: str) -> None:
        """Count a container no longer."""
        with self._lock:
            if self._found.pop(name, None) is not None:
                self._current = tuple(self._found.values())
