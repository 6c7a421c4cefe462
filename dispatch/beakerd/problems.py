"""What a request can be refused for, once for both protocols.

Owns the kinds of refusal and their codes in gRPC and HTTP. What is the caller's fault is never INTERNAL,
UNAVAILABLE or 5xx: public clients repeat those, some of them for ever.
"""

from __future__ import annotations

from enum import Enum

import grpc


class Kind(Enum):
    """A kind of refusal: its gRPC status and its HTTP status."""

    INVALID = (grpc.StatusCode.INVALID_ARGUMENT, 400)
    UNAUTHENTICATED = (grpc.StatusCode.UNAUTHENTICATED, 401)
    FORBIDDEN = (grpc.StatusCode.PERMISSION_DENIED, 403)
    NOT_FOUND = (grpc.StatusCode.NOT_FOUND, 404)
    # Over gRPC too the public client knows this as a bad request; ALREADY_EXISTS would reach users raw.
    CONFLICT = (grpc.StatusCode.INVALID_ARGUMENT, 409)
    TOO_LARGE = (grpc.StatusCode.INVALID_ARGUMENT, 413)
    RANGE = (grpc.StatusCode.INVALID_ARGUMENT, 416)
    # The server's own trouble: no room on the disk, an engine that does not answer.
    TROUBLE = (grpc.StatusCode.RESOURCE_EXHAUSTED, 507)

    @property
    def status(self) -> grpc.StatusCode:
        """The gRPC status."""
        return self.value[0]

    @property
    def http(self) -> int:
        """The HTTP status."""
        return self.value[1]


class Problem(Exception):
    """A request that is refused. ``message`` names the thing and the fact, for the caller to read."""

    def __init__(self, kind: Kind, message: str):
        super().__init__(message)
        self.kind = kind
        self.message = message


def invalid(message: str) -> Problem:
    """A request that makes no sense."""
    return Problem(Kind.INVALID, message)


def not_found(what: str, name: str) -> Problem:
    """A thing that is not there, or that the caller may not know of."""
    return Problem(Kind.NOT_FOUND, f"{what} {name!r} not found")


def in_use(what: str, name: str) -> Problem:
    """A name that somebody has already."""
    return Problem(Kind.CONFLICT, f"{what} name {name!r} is already in use")


def forbidden(message: str) -> Problem:
    """Something that the caller may not do."""
    return Problem(Kind.FORBIDDEN, message)
