"""Drivers of runs in memory: all of them are this process, and live until they let go."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from dispatch.workspace.driving import Driver, Driving, Request, RunHeldError
from dispatch.workspace.journal import Entry, Kind

Finish = Callable[[str, str, "Mapping[str, Any] | None"], None]


class MemoryJournal:
    """Reads one journal from its beginning; see :class:`~dispatch.workspace.driving.Journal`."""

    def __init__(self, entries: list[Entry]) -> None:
        self._entries = entries
        self._at = 0

    def read(self) -> list[Entry]:
        """Return the entries that came since the last call."""
        found = self._entries[self._at :]
        self._at += len(found)
        return found


class MemoryDriver(Driver):
    """A driver in memory. It cannot be lost: nobody takes this process for gone."""

    def __init__(self, run: str, number: int, since: datetime, entries: list[Entry], finish: Finish) -> None:
        self.run = run
        self.number = number
        self.since = since
        self.is_over = False
        self.asked: list[Request] = []
        self._entries = entries
        self._finish = finish

    def write(self, entry: Entry) -> None:
        """Add an entry to the journal."""
        self._entries.append(entry)

    def requests(self) -> list[Request]:
        """Take what was asked."""
        taken, self.asked = self.asked, []
        return taken

    @property
    def is_lost(self) -> bool:
        """Never."""
        return False

    def finish(self, state: str, facts: Mapping[str, Any] | None = None) -> None:
        """Record the end, and close the journal."""
        self._finish(self.run, state, facts)
        last = self._entries[-1].time if self._entries else self.since.timestamp()
        self.write(Entry(Kind.CLOSED, last, driver=self.number, state=state))

    def release(self) -> None:
        """Drive no more."""
        self.is_over = True


class MemoryDrives:
    """The drivers of the runs of one workspace. ``finish`` records a run's end."""

    def __init__(self, now: Callable[[], datetime], finish: Finish) -> None:
        self._now = now
        self._finish = finish
        self._lock = threading.Lock()
        self._latest: dict[str, MemoryDriver] = {}
        self._journals: dict[str, list[Entry]] = {}

    def take(self, name: str) -> MemoryDriver:
        """Become the driver of a run. RunHeldError while there is one."""
        with self._lock:
            latest = self._latest.get(name)
            if latest is not None and not latest.is_over:
                raise RunHeldError(name, "this process")
            number = latest.number + 1 if latest is not None else 1
            entries = self._journals.setdefault(name, [])
            driver = MemoryDriver(name, number, self._now(), entries, self._finish)
            self._latest[name] = driver
            return driver

    def latest(self, name: str) -> Driving | None:
        """Return who drives a run, or drove it last."""
        found = self._latest.get(name)
        if found is None:
            return None
        host, pid = os.uname().nodename, os.getpid()
        return Driving(found.number, host, pid, found.since.isoformat(), not found.is_over)

    def journal(self, name: str) -> MemoryJournal:
        """Return a reader of the run's journal, at its beginning."""
        return MemoryJournal(self._journals.setdefault(name, []))

    def ask(self, name: str, request: Request) -> None:
        """Leave a request for the driver of a run; where there is none, nobody hears it."""
        if name in self._latest:
            self._latest[name].asked.append(request)

    def forget(self, name: str) -> None:
        """Forget a run that is removed."""
        self._latest.pop(name, None)
        self._journals.pop(name, None)
