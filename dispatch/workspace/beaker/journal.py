"""The journal of a run on Beaker: what each driver told, in files of the driver's dataset.

A piece is written once and never again, at most one a second, and numbered without gaps: so a reader who has
read one asks for the next, and needs no list. It explains a run and decides nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from dispatch._beaker import BeakerConflictError, BeakerError, BeakerNotFoundError
from dispatch.workspace.journal import Entry

if TYPE_CHECKING:
    from dispatch._beaker import BeakerDoor, CreatedDataset, Dataset

EVERY = 1.0
FOLDER = "journal/"
_AGAIN = 5.0
_PARALLEL = 8


def piece(number: int) -> str:
    """Return the path of a piece; they are counted from 1."""
    return f"{FOLDER}{number:08d}.jsonl"


class JournalWriter:
    """Writes one driver's entries, from a thread of its own. May be used from several threads.

    ``lost`` is called once where the dataset is not ours any more. What Beaker does not take for other
    reasons is kept, and tried again.
    """

    def __init__(
        self,
        door: BeakerDoor,
        created: CreatedDataset,
        lost: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._door = door
        self._created = created
        self._lost = lost
        self._clock = clock
        self._entries: list[bytes] = []
        self._number = 0
        self._last = -EVERY
        self._over = False
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None

    def append(self, entry: Entry) -> None:
        """Have an entry written soon. Waits for nothing."""
        with self._changed:
            if self._over:
                return
            self._entries.append(entry.to_line())
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="dispatch-journal", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self) -> None:
        """Write what there is. BeakerError where Beaker does not take it; it is kept then."""
        with self._writing:
            with self._changed:
                lines = list(self._entries)
            if not lines:
                return
            self._write(piece(self._number + 1), b"".join(lines))
            self._number += 1
            with self._changed:
                del self._entries[: len(lines)]

    def close(self) -> None:
        """Write what there is, and no more from now on. What Beaker does not take now is lost."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        try:
            self.flush()
        except BeakerError:
            return

    def _work(self) -> None:
        pause = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._over or self._entries)
                due = self._last + EVERY
                while not self._over and (left := max(due - self._clock(), pause)) > 0:
                    pause = 0.0
                    self._changed.wait_for(lambda: self._over, timeout=left)
                if self._over:
                    return
            try:
                self.flush()
            except BeakerError:
                pause = _AGAIN
            self._last = self._clock()

    def _write(self, path: str, data: bytes) -> None:
        try:
            self._door.datasets.write(self._created, path, data)
        except BeakerConflictError:
            # Committed by who took us for gone; or only the right to write has run out.
            if self._door.datasets.get(self._created.dataset.id).committed:
                self._end()
                return
            self._created = self._door.datasets.open(self._created.dataset)
            self._door.datasets.write(self._created, path, data)
        except BeakerNotFoundError:
            self._end()

    def _end(self) -> None:
        with self._changed:
            self._over = True
        self._lost()


class DriverReader:
    """Reads what one driver told, a bit at a time."""

    def __init__(self, door: BeakerDoor, dataset: Dataset) -> None:
        self._door = door
        self._id = dataset.id
        self._read = 0

    def read(self) -> list[Entry]:
        """Return the entries that came since the last call."""
        pieces = self._many() if not self._read else []
        while True:
            data = self._piece(self._read + 1)
            if data is None:
                break
            pieces.append(data)
            self._read += 1
        lines = b"".join(pieces).split(b"\n")
        return [entry for line in lines if (entry := Entry.from_line(line)) is not None]

    def _many(self) -> list[bytes]:
        """The pieces that are there already, all at once: whoever comes late has many to fetch."""
        try:
            there = {each.path for each in self._door.datasets.files(self._id, FOLDER)}
        except BeakerNotFoundError:
            return []
        count = 0
        while piece(count + 1) in there:
            count += 1
        if count < 2:
            return []
        with ThreadPoolExecutor(min(_PARALLEL, count)) as pool:
            found = list(pool.map(self._piece, range(1, count + 1)))
        whole = [data for data in found if data is not None]
        self._read = count if len(whole) == count else 0
        return whole if self._read else []

    def _piece(self, number: int) -> bytes | None:
        try:
            return self._door.datasets.read(self._id, piece(number))
        except BeakerNotFoundError:
            return None
