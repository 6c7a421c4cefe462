"""Drivers of runs on disk: leases, journals and requests in ``runs/<name>/``.

::

    .driver.<n>              a lease: who drives, or drove, the run
    .driver.<n>.over         that driver let go
    .journal.jsonl           what the drivers told
    .requests/<n>.<id>.json  what was asked of the driver n, and not taken by it yet

``runs/.open/<name>`` marks runs that may have no end: made before the run is, removed after its end. It saves
reading all runs, and decides nothing: a run without a mark is only not found by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dispatch.workspace.driving import Driver, Driving, Request, RunHeldError
from dispatch.workspace.journal import NAME as JOURNAL
from dispatch.workspace.journal import Entry, JournalReader, JournalWriter, Kind
from dispatch.workspace.leases import RENEW_EVERY, Leases
from dispatch.workspace.names import is_name

if TYPE_CHECKING:
    from dispatch.workspace.attempts import Ports

DRIVER = ".driver"
REQUESTS = ".requests"
OPEN = ".open"

Finish = Callable[[str, str, "Mapping[str, Any] | None"], None]


class Drives:
    """The drivers of the runs in one directory. ``finish`` records a run's end."""

    def __init__(self, runs: Path, ports: Ports, finish: Finish) -> None:
        self._runs = runs
        self._ports = ports
        self._finish = finish
        self._leases: dict[str, Leases] = {}
        self._ours: dict[str, LocalDriver] = {}

    def first(self, draft: Path, name: str) -> None:
        """Make ourselves the driver of a run that is still in the making, in the directory ``draft``."""
        self.mark(name)
        leases = Leases(draft, self._ports.disk, self._ports.host, self._ports.monotonic)
        leases.take(DRIVER, 1, name, self._since())
        self._ports.disk.make_new_dir(draft / REQUESTS)

    def begun(self, name: str, number: int) -> LocalDriver:
        """Return the driver that we are since the lease of that number was made."""
        writer = JournalWriter(self._runs / name / JOURNAL, self._ports.disk)
        driver = LocalDriver(self._runs / name, number, self._ports, writer, self._finish)
        self._ours[name] = driver
        return driver

    def take(self, name: str) -> LocalDriver:
        """Become the driver of a run. RunHeldError where somebody alive is, KeyError where there is none."""
        leases = self._of(name)
        while True:
            number = leases.highest(DRIVER)
            if number and not self._is_over(name, number):
                lease = leases.read(DRIVER, number)
                if lease is not None and not leases.stale(lease):
                    holder = replace(lease.holder, run="") if lease.holder else "another process"
                    raise RunHeldError(name, str(holder))
            try:
                if leases.take(DRIVER, number + 1, name, self._since()):
                    break
            except FileNotFoundError:
                raise KeyError(name) from None
        # Renewed by the driver itself, as the lease that a run is made with.
        leases.drop(DRIVER, number + 1)
        self._ports.disk.make_dir(self._runs / name / REQUESTS)
        return self.begun(name, number + 1)

    def latest(self, name: str) -> Driving | None:
        """Return who drives a run, or drove it last; None where nobody ever did. Asking is watching."""
        leases = self._of(name)
        number = leases.highest(DRIVER)
        lease = leases.read(DRIVER, number) if number else None
        if lease is None:
            return None
        alive = not self._is_over(name, number) and not leases.stale(lease)
        holder = lease.holder
        return Driving(number, holder.host if holder else "", holder.pid if holder else 0, lease.since, alive)

    def journal(self, name: str) -> JournalReader:
        """Return a reader of the run's journal, at its beginning."""
        return JournalReader(self._runs / name / JOURNAL)

    def ask(self, name: str, request: Request) -> None:
        """Leave a request for the latest driver of a run: one that comes after it does not heed it."""
        directory = self._runs / name / REQUESTS
        self._ports.disk.make_dir(directory)
        path = directory / f"{self._of(name).highest(DRIVER)}.{os.urandom(6).hex()}.json"
        self._ports.disk.write(path, json.dumps(request.to_json()).encode("ascii"))

    def mark(self, name: str) -> None:
        """Mark a run as one that may have no end."""
        self._ports.disk.make_dir(self._runs / OPEN)
        with contextlib.suppress(FileExistsError):
            self._ports.disk.create(self._runs / OPEN / name, b"")

    def unmark(self, name: str) -> None:
        """Take the mark of a run away, whose end is recorded."""
        self._ports.disk.remove(self._runs / OPEN / name)

    def marked(self) -> list[str]:
        """Return the names with a mark, in no order; there need not be a run of each."""
        try:
            return [name for name in os.listdir(self._runs / OPEN) if is_name(name)]  # noqa: PTH208
        except FileNotFoundError:
            return []

    def renew(self) -> None:
        """Renew those of our leases that are due; a driver that was superseded learns of it."""
        for name, driver in list(self._ours.items()):
            if driver.is_over:
                del self._ours[name]
            else:
                driver.renew()

    def _of(self, name: str) -> Leases:
        # One for each run, for as long as we live: a holder elsewhere is judged by what we saw of it.
        if name not in self._leases:
            ports = self._ports
            self._leases[name] = Leases(self._runs / name, ports.disk, ports.host, ports.monotonic)
        return self._leases[name]

    def _is_over(self, name: str, number: int) -> bool:
        return _over(self._runs / name, number).exists()

    def _since(self) -> str:
        return self._ports.now().isoformat()


def _over(directory: Path, number: int) -> Path:
    return directory / f"{DRIVER}.{number}.over"


class LocalDriver(Driver):
    """The driver with one number of the run in ``directory``. May be used from several threads."""

    def __init__(
        self, directory: Path, number: int, ports: Ports, journal: JournalWriter, finish: Finish
    ) -> None:
        self.run = directory.name
        self.number = number
        self._directory = directory
        self._ports = ports
        self._journal = journal
        self._finish = finish
        self._renewed = ports.monotonic()
        self._lost = False
        self.is_over = False

    def write(self, entry: Entry) -> None:
        """Add an entry to the journal; see :meth:`Driver.write`."""
        if not self._lost:
            self._journal.append(entry)

    def requests(self) -> list[Request]:
        """Take what was asked of us; see :meth:`Driver.requests`.

        What cannot be read, or was asked of a driver before us, is forgotten: whoever asks waits for an
        answer.
        """
        directory = self._directory / REQUESTS
        try:
            names = [name for name in os.listdir(directory) if name.endswith(".json")]  # noqa: PTH208
        except OSError:
            return []
        found = []
        for name in sorted(name for name in names if not name.startswith(".")):
            number = name.partition(".")[0]
            if number == str(self.number):
                with contextlib.suppress(OSError, KeyError, TypeError, ValueError):
                    found.append(Request.from_json(json.loads((directory / name).read_bytes())))
            elif number.isdecimal() and int(number) > self.number:
                continue
            with contextlib.suppress(OSError):
                self._ports.disk.remove(directory / name)
        return found

    @property
    def is_lost(self) -> bool:
        """Whether a later number was taken; known from the latest renewal."""
        return self._lost

    def renew(self) -> None:
        """Renew our lease if it is due, and look for a later one."""
        now = self._ports.monotonic()
        if now - self._renewed < RENEW_EVERY:
            return
        self._ports.disk.touch(self._lease(self.number))
        self._renewed = now
        self._look()

    def finish(self, state: str, facts: Mapping[str, Any] | None = None) -> None:
        """Record the end; see :meth:`Driver.finish`."""
        self._look()
        if self._lost:
            return
        self._finish(self.run, state, facts)
        now = self._ports.now().timestamp()
        with contextlib.suppress(OSError):
            # The end is in the record; the journal only tells it sooner.
            self._journal.append(Entry(Kind.CLOSED, now, driver=self.number, state=state))

    def release(self) -> None:
        """Drive no more; see :meth:`Driver.release`."""
        if not self.is_over:
            self.is_over = True
            with contextlib.suppress(FileNotFoundError):
                self._ports.disk.write(_over(self._directory, self.number), b"")

    def _look(self) -> None:
        self._lost = self._lost or self._lease(self.number + 1).exists()

    def _lease(self, number: int) -> Path:
        return self._directory / f"{DRIVER}.{number}"
