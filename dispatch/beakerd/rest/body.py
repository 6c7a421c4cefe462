"""The body of a request, as it is read from the connection: of a known length, or in chunks.

Owns where a body ends. Nothing is held in memory but what was asked for, however large a chunk says it is;
and what is left of a refused body is known, so that the connection is not used with half a body in it.
"""

from __future__ import annotations

import re
from typing import Protocol

from werkzeug.exceptions import BadRequest, ClientDisconnected, RequestEntityTooLarge

_LINE = 1024
_TRAILERS = 64
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")
_BLOCK = 1 << 16


class Source(Protocol):
    """The connection's reader."""

    def readline(self, limit: int, /) -> bytes:
        """A line with its end, or what came of it."""

    def fill(self, target: memoryview, /) -> int:
        """Fill the target; return how much came before the connection ended."""


class Body:
    """What WSGI calls ``wsgi.input``. ``remaining`` is what has to come still; None, when nobody knows."""

    def __init__(self, source: Source, length: int):
        self._source = source
        self.remaining: int | None = length

    @property
    def finished(self) -> bool:
        """Whether all of it was read."""
        return self.remaining == 0

    def readinto(self, target: bytearray | memoryview) -> int:
        """Fill the target, but for the end of the body; return how much of it.

        :raises ClientDisconnected: when the connection ended before
        """
        assert self.remaining is not None
        view = memoryview(target)[: self.remaining]
        got = self._source.fill(view)
        self.remaining -= got
        if got < len(view):
            raise ClientDisconnected
        return got

    def read(self, size: int | None = -1) -> bytes:
        """Read so much, or all of it."""
        if size is None or size < 0:
            return self._rest()
        target = bytearray(size if self.remaining is None else min(size, self.remaining))
        return bytes(memoryview(target)[: self.readinto(target)])

    def readline(self, size: int | None = -1) -> bytes:
        """Read a line, byte by byte: the API has no bodies of lines."""
        line = bytearray()
        while (size is None or size < 0 or len(line) < size) and not line.endswith(b"\n"):
            piece = self.read(1)
            if not piece:
                break
            line += piece
        return bytes(line)

    def _rest(self) -> bytes:
        pieces = []
        while piece := self.read(_BLOCK):
            pieces.append(piece)
        return b"".join(pieces)


class ChunkedBody(Body):
    """A body in chunks (RFC 9112, 7.1); trailers are read and forgotten.

    ``limit`` bounds all of it, None does not: whoever knows what the request is for sets it.
    """

    limit: int | None = None

    def __init__(self, source: Source):
        super().__init__(source, 0)
        self.remaining = None
        self._announced = 0
        self._chunk = 0
        self._first = True

    def readinto(self, target: bytearray | memoryview) -> int:
        """See :class:`Body`.

        :raises BadRequest: when it is none in chunks
        :raises RequestEntityTooLarge: when it is larger than its limit
        """
        view, done = memoryview(target), 0
        while done < len(view) and not self.finished:
            if self._chunk == 0:
                self._next()
                continue
            piece = view[done : done + self._chunk]
            got = self._source.fill(piece)
            if got < len(piece):
                raise ClientDisconnected
            done += got
            self._chunk -= got
        return done

    def _next(self) -> None:
        if not self._first and self._source.readline(_LINE) != b"\r\n":
            raise BadRequest("a chunk does not end where it should")
        self._first = False
        line = self._source.readline(_LINE)
        size = line.partition(b";")[0].strip()
        if not line.endswith(b"\r\n") or not _SIZE.fullmatch(size):
            raise BadRequest("a chunk does not say how long it is")
        self._chunk = int(size, 16)
        self._announced += self._chunk
        if self.limit is not None and self._announced > self.limit:
            raise RequestEntityTooLarge
        if self._chunk == 0:
            for _ in range(_TRAILERS):
                line = self._source.readline(_LINE)
                if line == b"\r\n":
                    self.remaining = 0
                    return
                if not line.endswith(b"\r\n"):
                    break
            raise BadRequest("the body's trailers do not end")
