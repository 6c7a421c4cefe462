"""Bodies of requests as streams of pieces that fit into memory, however they are sent.

Owns the reading of chunked bodies: the server's own reader takes each chunk whole, as large as the sender
says it is. A body that breaks off is an error, never a shorter body.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cheroot.server import ChunkedRFile
from werkzeug.wrappers import Request

PIECE = 1 << 20
_LINE = 1024
_TRAILERS = 64
# What is read of a body that nobody wants, so that its sender comes to read the answer.
UNWANTED = 64 * 1024 * 1024


class BrokenBody(Exception):
    """The sender went away, or what it sends is no body."""


def pieces(request: Request) -> Iterator[bytes]:
    """Yield the body.

    :raises BrokenBody: when it does not come to its end
    """
    body = request.environ["wsgi.input"]
    try:
        if isinstance(body, ChunkedRFile):
            yield from _chunked(body)
        else:
            yield from _counted(body, request.content_length or 0)
    except OSError as error:
        raise BrokenBody("the connection broke") from error


def discard(request: Request) -> bool:
    """Read what is left of a body that is of no use; whether all of it was read. What is left else makes no
    request: the connection is to be closed."""
    read = 0
    try:
        for piece in pieces(request):
            read += len(piece)
            if read > UNWANTED:
                return False
    except BrokenBody:
        return False
    return True


def _counted(body: Any, length: int) -> Iterator[bytes]:
    left = min(length, getattr(body, "remaining", length))
    while left:
        piece = body.read(min(left, PIECE))
        if not piece:
            raise BrokenBody(f"{left} bytes are missing")
        left -= len(piece)
        yield piece


def _chunked(body: Any) -> Iterator[bytes]:
    """Chunks by the hand of RFC 9112, straight from the connection that the server's reader wraps."""
    if body.closed:
        return
    connection = body.rfile
    try:
        while size := _size(connection):
            while size:
                piece = connection.read(min(size, PIECE))
                if not piece:
                    raise BrokenBody("it ends in the middle of a chunk")
                size -= len(piece)
                yield piece
            if connection.read(2) != b"\r\n":
                raise BrokenBody("a chunk does not end where it should")
        for _ in range(_TRAILERS):
            if connection.readline(_LINE) in (b"\r\n", b"\n", b""):
                return
        raise BrokenBody("too many trailers")
    except BrokenBody:
        raise
    finally:
        body.closed = True


def _size(connection: Any) -> int:
    line = connection.readline(_LINE)
    digits = line.partition(b";")[0].strip()
    if not line.endswith(b"\n") or not digits or len(digits) > 15 or digits.strip(b"0123456789abcdefABCDEF"):
        raise BrokenBody("a chunk has no size")
    return int(digits, 16)
