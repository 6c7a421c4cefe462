"""Bodies of requests, read in pieces, and the parts of an address as they were sent.

Owns that no body is held in memory, and that one which ends early is told from one that is whole: a body that
breaks off is an error, never a shorter body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request

from dispatch.beakerd.problems import Kind, Problem, invalid

PIECE = 256 * 1024


class BrokenBody(Exception):
    """The sender went away, or what it sends is no body."""


def pieces(request: Request) -> Iterator[bytes]:
    """Yield the body.

    :raises BrokenBody: when it does not come to its end
    """
    body = request.environ["wsgi.input"]
    try:
        while piece := body.read(PIECE):
            yield piece
    except HTTPException as error:
        raise BrokenBody(error.description or error.name) from error
    except OSError as error:
        raise BrokenBody("the connection broke") from error


class BoundedBody:
    """The body of one request, of ``limit`` bytes at most.

    :raises Problem: TOO_LARGE at once, where the request says so itself
    """

    def __init__(self, request: Request, limit: int):
        self._stream: Any = request.environ["wsgi.input"]
        self._limit = limit
        self.chunked = bool(request.environ.get("wsgi.input_terminated"))
        self.length = None if self.chunked else _length(request)
        if self.length is not None and self.length > limit:
            raise too_large(limit)

    def pieces(self) -> Iterator[bytes]:
        """The bytes, once. Raises as :meth:`through` does."""
        room = bytearray(PIECE if self.length is None else min(PIECE, self.length))
        for view in self.through(lambda: room):
            yield bytes(view)

    def through(self, room: Callable[[], bytearray]) -> Iterator[memoryview]:
        """The bytes, once, each time as much as there is room for; ``room`` is asked for it each time.

        :raises Problem: INVALID, when the client went before it had sent all; TOO_LARGE
        """
        count = 0
        while self.length is None or count < self.length:
            view = memoryview(room())
            if self.length is not None:
                view = view[: self.length - count]
            got = self._fill(view, count)
            if not got:
                break
            count += got
            if count > self._limit:
                raise too_large(self._limit)
            yield view[:got]
        if self.length is not None and count != self.length:
            raise invalid(f"the body ended after {count} of {self.length} bytes")

    def _fill(self, view: memoryview, count: int) -> int:
        try:
            got: int = self._stream.readinto(view)
        except (OSError, ValueError, HTTPException) as error:
            raise invalid(f"the body broke off after {count} bytes") from error
        return got


def too_large(limit: int) -> Problem:
    """A body that is refused for its size."""
    return Problem(Kind.TOO_LARGE, f"the body is larger than {limit} bytes")


def segments(request: Request) -> list[str]:
    """The parts of the request's path, each unquoted by itself: one may hold a slash.

    :raises Problem: INVALID, where they are not UTF-8
    """
    return [_text(part) for part in _raw(request).partition("?")[0].split("/")[1:]]


def behind(request: Request, word: str, query: bool = False) -> str:
    """What follows ``/word/`` in the request's path, unquoted. With ``query`` a question mark belongs to it:
    public clients send paths of files there as they are.

    :raises Problem: INVALID, where it is not UTF-8
    """
    raw = _raw(request).partition(f"/{word}/")[2]
    return _text(raw if query else raw.partition("?")[0])


def _raw(request: Request) -> str:
    uri: str = request.environ.get("REQUEST_URI") or request.environ["RAW_URI"]
    if uri.startswith("/"):
        return uri
    return "/" + uri.partition("://")[2].partition("/")[2]


def _text(quoted: str) -> str:
    try:
        return unquote_to_bytes(quoted.encode("latin-1")).decode()
    except UnicodeError as error:
        raise invalid("the path of the request is not UTF-8") from error


def _length(request: Request) -> int:
    text = request.environ.get("CONTENT_LENGTH", "0") or "0"
    if not (text.isascii() and text.isdigit()):
        raise invalid("Content-Length: is not a number")
    return int(text)
