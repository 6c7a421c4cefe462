"""What a job printed, line by line, in one file that is written and read at once.

Owns the file's format, how the engine's frames become lines, and their stamps. The file is a deterministic
function of what the engine kept: whoever opens it again replays the log from its beginning over the same
bytes, and a reader notices nothing. A line is seen when it is complete, or when the log ends.

A record is ``[stamp int64][length uint32][line][length uint32][CRC-32 of the first two]``,
little-endian: it can be walked from both ends. A file that a kill has cut in the middle of a record is read
up to there; the checksum tells such an end from a record's, whatever a job prints.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

# A longer line becomes several: public clients take no message above 4 MiB.
LINE_LIMIT = 1 << 20

_SECOND = 1_000_000_000
_HEAD = struct.Struct("<qI")
_FOOT = struct.Struct("<II")
_FRAME = _HEAD.size + _FOOT.size
_LARGEST = LINE_LIMIT + _FRAME
_CHUNK = 256 * 1024


class LogWriter:
    """Writes a job's log. Give it the engine's frames from the very first one, each time it is opened.

    Stamps are the times of lines' first bytes, raised where needed so that they strictly increase, also when
    the clock was set back. None is a whole second, nor the nanosecond before it: a client that resumes merges
    the last stamp into its request, where a zero would leave an older one's nanoseconds standing, and then
    adds one to the nanoseconds, which may not be a second's worth.
    After an OSError (no room) open another one, and replay.
    """

    def __init__(self, path: Path):
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._offset = 0
        self._records = bytearray()
        self._held: list[bytes] = []
        self._held_size = 0
        self._held_since = 0
        self._last = 0

    def add(self, frames: Iterable[tuple[int, bytes]]) -> None:
        """Take frames (nanoseconds since the epoch, bytes), cut anywhere.

        Their lines are there for readers when this returns: hand over what has come, not a stream that waits.

        :raises OSError: when there is no room
        """
        for when, piece in frames:
            *lines, rest = piece.split(b"\n")
            for line in lines:
                self._line(when, line)
            if rest:
                self._hold(when, rest)
            if len(self._records) > _CHUNK:
                self._flush()
        self._flush()

    def close(self, final: bool) -> None:
        """Close the file. With ``final`` the log has ended: a last line without its end is a line, too, and
        what a longer file holds behind it is cut off.

        :raises OSError: when there is no room
        """
        try:
            if final:
                if self._held:
                    self._line(self._held_since, b"")
                self._flush()
                os.ftruncate(self._descriptor, self._offset)
        finally:
            os.close(self._descriptor)

    def _line(self, when: int, line: bytes) -> None:
        first = when
        if self._held:
            first = self._held_since
            line = b"".join((*self._held, line))
            self._held.clear()
            self._held_size = 0
        if len(line) > LINE_LIMIT:
            line, first = self._cut(first, when, line), when
        self._record(first, line)

    def _hold(self, when: int, rest: bytes) -> None:
        if not self._held:
            self._held_since = when
        self._held.append(rest)
        self._held_size += len(rest)
        if self._held_size > LINE_LIMIT:
            rest = self._cut(self._held_since, when, b"".join(self._held))
            self._held, self._held_size, self._held_since = [rest], len(rest), when

    def _cut(self, first: int, when: int, line: bytes) -> bytes:
        """Record whole limits of a line while more follows, and return what does. All but the first of them
        begin in the newest frame: what was held before it is no longer than the limit."""
        while len(line) > LINE_LIMIT:
            self._record(first, line[:LINE_LIMIT])
            line, first = line[LINE_LIMIT:], when
        return line

    def _record(self, when: int, line: bytes) -> None:
        stamp = when if when > self._last else self._last + 1
        place = stamp % _SECOND
        if place == 0 or place == _SECOND - 1:
            stamp += 1 if place == 0 else 2
        self._last = stamp
        head = _HEAD.pack(stamp, len(line))
        self._records += head
        self._records += line
        self._records += _FOOT.pack(len(line), zlib.crc32(head))

    def _flush(self) -> None:
        rest = memoryview(self._records)
        while rest:
            written = os.pwrite(self._descriptor, rest, self._offset)
            self._offset += written
            rest = rest[written:]
        self._records = bytearray()


class LogReader:
    """Reads a job's log, which may be written meanwhile, or not be there yet. Close it in the end."""

    def __init__(self, path: Path):
        self._path = path
        self._descriptor: int | None = None
        self._offset = 0

    def read(self, since: int | None = None, tail: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield (stamp, line) up to the present end; called again, what has come since.

        ``since`` and ``tail`` leave out lines with earlier stamps, and all but the last so many; None and 0
        leave out nothing. They count in the call that first finds the file, and never again.
        """
        if self._descriptor is None:
            try:
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return
            if since or tail:
                self._offset = _place(self._descriptor, since or 0, tail)
        for end, stamp, line in _records(self._descriptor, self._offset):
            self._offset = end
            yield stamp, line

    def close(self) -> None:
        """Read no more."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class _TornError(Exception):
    """A walk back met what is no record."""


def _records(descriptor: int, offset: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield (its end, stamp, line) of each whole record from an offset."""
    wanted = _CHUNK
    while True:
        chunk = os.pread(descriptor, wanted, offset)
        at, size = 0, len(chunk)
        while at + _FRAME <= size:
            stamp, length = _HEAD.unpack_from(chunk, at)
            end = at + _FRAME + length
            if end > size:
                break
            begin = at + _HEAD.size
            if chunk[end - _FOOT.size : end] != _FOOT.pack(length, zlib.crc32(chunk[at:begin])):
                return
            yield offset + end, stamp, chunk[begin : end - _FOOT.size]
            at = end
        offset += at
        if at:
            wanted = _CHUNK
        elif size < wanted or wanted == _LARGEST:
            return
        else:
            wanted = _LARGEST


def _place(descriptor: int, since: int, tail: int | None) -> int:
    """Where reading begins. The file's end may be in the middle of a record: then the last whole one is
    sought from the beginning, which takes longer."""
    try:
        return _walk_back(descriptor, os.fstat(descriptor).st_size, since, tail)
    except _TornError:
        end = max((end for end, _, _ in _records(descriptor, 0)), default=0)
        return _walk_back(descriptor, end, since, tail)


def _walk_back(descriptor: int, end: int, since: int, tail: int | None) -> int:
    """The offset of the first record that is wanted, from the end of the last one.

    :raises _TornError: where the end is none
    """
    base, window = end, b""
    left = tail or -1
    while end > 0 and left:
        if end - base < _FRAME:
            base, window = _window(descriptor, end, _CHUNK)
        if end < _FRAME:
            raise _TornError
        length, checksum = _FOOT.unpack_from(window, end - base - _FOOT.size)
        start = end - _FRAME - length
        if length > LINE_LIMIT or start < 0:
            raise _TornError
        if start < base:
            base, window = _window(descriptor, end, max(_CHUNK, end - start))
        head = window[start - base : start - base + _HEAD.size]
        if zlib.crc32(head) != checksum:
            raise _TornError
        if _HEAD.unpack(head)[0] < since:
            break
        end, left = start, left - 1
    return end


def _window(descriptor: int, end: int, size: int) -> tuple[int, bytes]:
    """The bytes before ``end``, at least ``size`` of them where there are, and where they begin."""
    base = max(0, end - size)
    window = os.pread(descriptor, end - base, base)
    if len(window) < end - base:
        raise _TornError
    return base, window
