"""What BuildKit tells of a build, decoded: steps with their state, and what they print.

Owns the reading of ``moby.buildkit.trace`` messages, each a protobuf ``moby.buildkit.v1.StatusResponse``
(source: moby/buildkit, ``api/services/control/control.proto``). The wire format is simple enough to need no
library; unknown fields are passed over, as it demands.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}
_VERTEX, _LOG = 1, 3


@dataclass(frozen=True)
class Vertex:
    """The state of one step. ``name`` is its line (``[2/4] RUN make``); ``error`` says why it failed."""

    digest: str
    name: str
    cached: bool = False
    started: bool = False
    completed: bool = False
    error: str = ""


@dataclass(frozen=True)
class StepOutput:
    """Bytes that a step printed, as they came; ``vertex`` is the digest of the step."""

    vertex: str
    data: bytes


class TraceError(ValueError):
    """A message that is no trace of BuildKit."""


def decode_trace(text: str) -> list[Vertex | StepOutput]:
    """Return what one message (its ``aux``, in Base64) tells, in its order; TraceError if it is none."""
    try:
        message = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise TraceError("not in Base64") from error
    found: list[Vertex | StepOutput] = []
    for number, value in _fields(message):
        if number == _VERTEX and isinstance(value, bytes):
            found.append(_vertex(value))
        elif number == _LOG and isinstance(value, bytes):
            found.append(_output(value))
    return found


def _vertex(message: bytes) -> Vertex:
    fields = dict(_fields(message))
    return Vertex(
        digest=_text(fields.get(1)),
        name=_text(fields.get(3)),
        cached=bool(fields.get(4)),
        started=5 in fields,
        completed=6 in fields,
        error=_text(fields.get(7)),
    )


def _output(message: bytes) -> StepOutput:
    fields = dict(_fields(message))
    data = fields.get(4, b"")
    return StepOutput(_text(fields.get(1)), data if isinstance(data, bytes) else b"")


def _text(value: int | bytes | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field; numbers of fixed width come as bytes: nobody here reads them."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in _WIDTHS:
            size = _WIDTHS[kind]
        else:
            raise TraceError(f"a field of kind {kind}")
        if at + size > len(message):
            raise TraceError("cut off")
        yield number, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return a number of variable length and the place behind it."""
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(message):
            raise TraceError("cut off")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise TraceError("a number without end")
