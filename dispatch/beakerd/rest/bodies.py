"""Bodies of requests as streams of pieces that fit into memory, however they are sent.

Owns how they are read by those who write them somewhere. A body that breaks off is an error, never a shorter
body.
"""

from __future__ import annotations

from collections.abc import Iterator

from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request

PIECE = 1 << 18


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
