"""Drivers of runs on Beaker: a dataset each, which is not committed while its driver drives.

::

    dispatch-driver-<run>.<w>.<n>     who drives, or drove, the run; its journal
    dispatch-ask-<run>.<w>.<n>.<hex>  request.json: what was asked of the driver n, and not taken by it yet

The highest number drives. Whoever takes over commits the dataset of the one before it, who can write nothing
from then on. The latest driver of a run that may have no end is marked in its description: that saves reading
all runs, and decides nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dispatch._beaker import BeakerDeniedError, BeakerError, BeakerNotFoundError
from dispatch.workspace.beaker import names
from dispatch.workspace.beaker.journal import DriverReader, JournalWriter
from dispatch.workspace.beaker.sealed import seal, unseal
from dispatch.workspace.beaker.session import FORMAT, RENEW_EVERY
from dispatch.workspace.beaker.taking import discard, is_held, scope, take, told
from dispatch.workspace.driving import Driver, Driving, Request, RunHeldError
from dispatch.workspace.journal import Entry, Kind
from dispatch.workspace.names import is_name

if TYPE_CHECKING:
    from dispatch._beaker import CreatedDataset, Dataset
    from dispatch.workspace.beaker.site import Site

DRIVER = "dispatch-driver-"
ASK = "dispatch-ask-"
MARK = "dispatch-open"
LISTEN_EVERY = 2.0
_REQUEST = "request.json"

Finish = Callable[[str, str, "Mapping[str, Any] | None"], None]


class Drives:
    """The drivers of the runs of one workspace. ``finish`` records a run's end."""

    def __init__(self, site: Site, finish: Finish) -> None:
        self._site = site
        self._finish = finish
        self._made: dict[str, CreatedDataset] = {}
        self._ours: dict[str, BeakerDriver] = {}

    def first(self, name: str) -> None:
        """Make ourselves the driver of a run that is still in the making, whose name is ours."""
        made = self._try(name, 1)
        if made is None:
            # Of a run that was never stored.
            self.forget(name)
            made = self._try(name, 1)
        if made is None:
            raise RunHeldError(name, "another process")
        self._made[name] = made

    def begun(self, name: str, number: int) -> BeakerDriver:
        """Return the driver that we are since its dataset was made."""
        driver = BeakerDriver(self._site, name, number, self._made.pop(name), self._finish)
        self._ours[name] = driver
        return driver

    def take(self, name: str) -> BeakerDriver:
        """Become the driver of a run. RunHeldError where somebody alive is."""
        while True:
            found = self._of(name)
            number = max(found, default=0)
            if number and is_held(self._site, found[number]):
                raise RunHeldError(name, str(_driving(number, found[number], alive=True)))
            made = self._try(name, number + 1)
            if made is not None:
                break
        for earlier in found.values():
            self._settle(earlier)
        self._made[name] = made
        return self.begun(name, number + 1)

    def latest(self, name: str) -> Driving | None:
        """Return who drives a run, or drove it last; None where nobody ever did. Asking is watching."""
        found = self._of(name)
        if not found:
            return None
        number = max(found)
        return _driving(number, found[number], alive=is_held(self._site, found[number]))

    def journal(self, name: str) -> BeakerJournal:
        """Return a reader of the run's journal, at its beginning."""
        return BeakerJournal(self, name)

    def ask(self, name: str, request: Request) -> None:
        """Leave a request for the latest driver of a run: one that comes after it does not heed it."""
        number = max(self._of(name), default=0)
        if not number:
            return
        datasets = self._site.door.datasets
        description = json.dumps({"dispatch": FORMAT, "run": name})
        ask = f"{_all(self._site, ASK, name)}{number}.{os.urandom(6).hex()}"
        made = datasets.create(ask, description)
        datasets.write(made, _REQUEST, seal(request.to_json()))
        datasets.commit(made.dataset.id)
        if name in self._ours:
            self._ours[name].hear()

    def unmark(self, name: str) -> None:
        """Take the mark of a run away, whose end is recorded."""
        driver = self._ours.get(name)
        if driver is not None and not driver.is_over:
            # Whoever drives it now took away those of all before.
            driver.unmark()
            return
        for dataset in self._of(name).values():
            self._unmark(dataset)

    def marked(self) -> list[str]:
        """Return the names with a mark, in no order; there need not be a run of each."""
        found = set()
        mark = f".{scope(self._site)}."
        for dataset in self._site.door.datasets.search(f'"{MARK}"'):
            parts = names.numbered(dataset.name)
            head = parts[0] if parts is not None and told(dataset).get("open") == MARK else ""
            if head.startswith(DRIVER) and head.endswith(mark):
                found.add(head.removeprefix(DRIVER).removesuffix(mark))
        return list(found)

    def renew(self) -> None:
        """Look whether those of our drivers are superseded for which that is due."""
        for name, driver in list(self._ours.items()):
            if driver.is_over:
                del self._ours[name]
            else:
                driver.renew()

    def forget(self, name: str) -> None:
        """Delete all drivers of a run, and what is asked of them."""
        if not is_name(name):
            return
        datasets = self._site.door.datasets
        for kind in (ASK, DRIVER):
            head = _all(self._site, kind, name)
            discard(self._site.door, [each for each in datasets.search(head) if each.name.startswith(head)])

    def flush(self, name: str) -> None:
        """Have what our own driver of a run told be where others read it."""
        if name in self._ours:
            self._ours[name].flush()

    def drivers(self, name: str) -> dict[int, Dataset]:
        """Return the datasets of a run's drivers by number."""
        return self._of(name)

    def reader(self, dataset: Dataset) -> DriverReader:
        """Return a reader of what one driver told."""
        return DriverReader(self._site.door, dataset)

    def _of(self, name: str) -> dict[int, Dataset]:
        """The drivers of a run by number; of two authors' of one number, the one that got it."""
        found: dict[int, Dataset] = {}
        if not is_name(name):
            return found
        for number, dataset in _drivers(self._site, name):
            known = found.setdefault(number, dataset)
            if known.id != dataset.id:
                # A lower one that is not committed and dead was passed over by whoever made the higher.
                pair = sorted((known, dataset), key=lambda each: each.id)
                found[number] = pair[0] if pair[0].committed or is_held(self._site, pair[0]) else pair[1]
        return found

    def _try(self, name: str, number: int) -> CreatedDataset | None:
        about = {"run": name, "number": number, "since": self._site.ports.now().isoformat(), "open": MARK}
        return take(self._site, f"{_all(self._site, DRIVER, name)}{number}", about)

    def _settle(self, earlier: Dataset) -> None:
        """Let an earlier driver write no more; its journal stays."""
        if not earlier.committed:
            with contextlib.suppress(BeakerNotFoundError, BeakerDeniedError):
                self._site.door.datasets.commit(earlier.id)
        self._unmark(earlier)

    def _unmark(self, dataset: Dataset) -> None:
        said = told(dataset)
        if said.pop("open", None) is not None:
            with contextlib.suppress(BeakerNotFoundError, BeakerDeniedError):
                self._site.door.datasets.describe(dataset.id, json.dumps(said))


class BeakerDriver(Driver):
    """The driver with one number of a run. May be used from several threads."""

    def __init__(self, site: Site, run: str, number: int, made: CreatedDataset, finish: Finish) -> None:
        self.run = run
        self.number = number
        self.is_over = False
        self._site = site
        self._dataset = made.dataset
        self._told = told(made.dataset)
        self._finish = finish
        self._lost = False
        self._looked = site.ports.monotonic()
        self._heard_at = -LISTEN_EVERY
        self._heard: set[str] = set()
        self._listening = threading.Lock()
        self._journal = JournalWriter(site.door, made, self._lose, site.ports.monotonic)

    def write(self, entry: Entry) -> None:
        """Add an entry to the journal, which others read within a second or two. Waits for nothing."""
        if not self._lost:
            self._journal.append(entry)

    def requests(self) -> list[Request]:
        """Take what was asked of us; Beaker is asked every two seconds at most.

        What cannot be read, or was asked of a driver before us, is forgotten. Where Beaker does not answer,
        nothing was asked.
        """
        with self._listening:
            now = self._site.ports.monotonic()
            if self.is_over or now - self._heard_at < LISTEN_EVERY:
                return []
            self._heard_at = now
            try:
                return self._take()
            except BeakerError:
                return []

    def hear(self) -> None:
        """Know that somebody in this process asked something."""
        self._heard_at = -LISTEN_EVERY

    @property
    def is_lost(self) -> bool:
        """Whether a later number was taken; known from the latest renewal, or what was written since."""
        return self._lost

    def renew(self) -> None:
        """Tell our session where that is another one, and look for a later driver, if that is due."""
        if self._told.get("session") != self._site.session.id:
            # Somebody removed our session: we hold the run in another one now.
            self._told = {**self._told, **self._site.session.describe()}
            with contextlib.suppress(BeakerNotFoundError):
                self._site.door.datasets.describe(self._dataset.id, json.dumps(self._told))
        now = self._site.ports.monotonic()
        if now - self._looked >= RENEW_EVERY:
            self._looked = now
            self._look()

    def finish(self, state: str, facts: Mapping[str, Any] | None = None) -> None:
        """Record the end; see :meth:`Driver.finish`."""
        self._look()
        if self._lost:
            return
        self._finish(self.run, state, facts)
        now = self._site.ports.now().timestamp()
        self._journal.append(Entry(Kind.CLOSED, now, driver=self.number, state=state))

    def release(self) -> None:
        """Drive no more; see :meth:`Driver.release`."""
        if self.is_over:
            return
        self.is_over = True
        self._journal.close()
        with contextlib.suppress(BeakerNotFoundError):
            self._site.door.datasets.commit(self._dataset.id)

    def flush(self) -> None:
        """Write what was told."""
        self._journal.flush()

    def unmark(self) -> None:
        """Say no more that the run may have no end."""
        self._told.pop("open", None)
        with contextlib.suppress(BeakerNotFoundError):
            self._site.door.datasets.describe(self._dataset.id, json.dumps(self._told))

    def _look(self) -> None:
        if any(number > self.number for number, _ in _drivers(self._site, self.run)):
            self._lose()

    def _lose(self) -> None:
        self._lost = True

    def _take(self) -> list[Request]:
        datasets = self._site.door.datasets
        found = []
        over = []
        head = _all(self._site, ASK, self.run)
        for dataset in datasets.search(head, committed=True):
            parts = names.numbered(dataset.name.rpartition(".")[0])
            if parts is None or parts[0] != head or parts[1] > self.number or dataset.id in self._heard:
                continue
            self._heard.add(dataset.id)
            over.append(dataset)
            if parts[1] == self.number:
                with contextlib.suppress(BeakerNotFoundError, KeyError, TypeError, ValueError):
                    found.append(Request.from_json(unseal(datasets.read(dataset.id, _REQUEST))))
        discard(self._site.door, over)
        return found


class BeakerJournal:
    """Reads the journal of a run: what its drivers told, one after the other."""

    def __init__(self, drives: Drives, name: str) -> None:
        self._drives = drives
        self._name = name
        self._number = 0
        self._reader: DriverReader | None = None

    def read(self) -> list[Entry]:
        """Return the entries that came since the last call."""
        self._drives.flush(self._name)
        # Listed before what they told is read: whoever has let go by now has told all.
        drivers = self._drives.drivers(self._name)
        found = self._reader.read() if self._reader is not None else []
        for number in sorted(drivers):
            if number > self._number:
                self._number = number
                self._reader = self._drives.reader(drivers[number])
                found += self._reader.read()
        return found


def _all(site: Site, kind: str, name: str) -> str:
    """What the names of all datasets of this kind of a run begin with; it is in no other name."""
    return f"{kind}{name}.{scope(site)}."


def _drivers(site: Site, name: str) -> list[tuple[int, Dataset]]:
    head = _all(site, DRIVER, name)
    found = [(names.numbered(each.name), each) for each in site.door.datasets.search(head)]
    return [(parts[1], each) for parts, each in found if parts is not None and parts[0] == head]


def _driving(number: int, dataset: Dataset, *, alive: bool) -> Driving:
    said = told(dataset)
    pid = said.get("pid")
    since = str(said.get("since", ""))
    return Driving(number, str(said.get("host", "")), pid if isinstance(pid, int) else 0, since, alive)
