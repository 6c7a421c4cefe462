"""How a body becomes a file: received and hashed by one thread, written by another.

Owns the order of the two, and that nothing writes any more once :func:`receive` has returned or raised.
Memory is bounded by the rooms, however slow the disk is. Small bodies need no second thread.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from types import TracebackType
from typing import Any, BinaryIO

from dispatch.beakerd.rest.bodies import PIECE, BoundedBody

ROOM = 1024 * 1024
ROOMS = 4
SMALL = 1024 * 1024


def receive(body: BoundedBody, file: BinaryIO, digest: Any) -> tuple[int, Any]:
    """Write a body to a file (unbuffered); return the number of bytes and the hash with them.

    :raises Problem: as :meth:`BoundedBody.through` does
    :raises OSError: when the file cannot be written
    """
    if body.length is not None and body.length <= SMALL:
        return _at_once(body, file, digest)
    size = 0
    with _WriteBehind(file) as behind:
        for data in body.through(behind.room):
            behind.add(data)
            digest.update(data)
            size += len(data)
    return size, digest


def _at_once(body: BoundedBody, file: BinaryIO, digest: Any) -> tuple[int, Any]:
    size, room = 0, bytearray(min(PIECE, body.length or 0))
    for data in body.through(lambda: room):
        digest.update(data)
        _write(file, data)
        size += len(data)
    return size, digest


class _WriteBehind:
    """Writes what is added, in a thread of its own. What goes wrong there is raised here, and ends it."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._free: SimpleQueue[bytearray] = SimpleQueue()
        self._full: SimpleQueue[memoryview | None] = SimpleQueue()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="write-behind", daemon=True)

    def room(self) -> bytearray:
        """The next room to fill; waits until one is written."""
        room = self._free.get()
        if self._error is not None:
            raise self._error
        return room

    def add(self, data: memoryview) -> None:
        """Have it written: some or all of the last room, which is not changed until then."""
        self._full.put(data)

    def __enter__(self) -> _WriteBehind:
        for _ in range(ROOMS):
            self._free.put(bytearray(ROOM))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._full.put(None)
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (data := self._full.get()) is not None:
            if self._error is None:
                try:
                    _write(self._file, data)
                except OSError as error:
                    self._error = error
            room = data.obj
            assert isinstance(room, bytearray)
            self._free.put(room)


def _write(file: BinaryIO, data: memoryview) -> None:
    while data:
        data = data[file.write(data) :]
