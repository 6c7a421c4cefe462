"""BuildKit's trace, decoded without a library: recorded messages, and whatever else may come."""

from __future__ import annotations

import base64
import random

import pytest

from dispatch._docker.buildtrace import StepOutput, TraceError, Vertex, decode_trace

# As an engine of version 20.10 sent them.
STEP = "sha256:709a8d9f6ff8d117cb7a68c04ac4ebadc4ff7051fd11d62a1f4a6dc231181760"
STARTED = (
    "CtsBCkdzaGEyNTY6NzA5YThkOWY2ZmY4ZDExN2NiN2E2OGMwNGFjNGViYWRjNGZmNzA1MWZkMTFkNjJhMWY0YTZkYzIzMTE4MTc2MBJH"
    "c2hhMjU2OmM0ZGYyYjIwNWE4YTZhNzA4ZWY3ZDI4MDkyNmMwZTEwNTY5YzhhMDU1MzdkNzYxODNhYTc3MjA3MDJhNjg1YzAaOVthIDIv"
    "NF0gUlVOIGVjaG8gaGVsbG87IGVjaG8gZXJyID4mMjsgc2xlZXAgMTsgZWNobyB3b3JsZCoMCMG0otgGEN6E3LYB"
)
PRINTED = (
    "GmEKR3NoYTI1Njo3MDlhOGQ5ZjZmZjhkMTE3Y2I3YTY4YzA0YWM0ZWJhZGM0ZmY3MDUxZmQxMWQ2MmExZjRhNmRjMjMxMTgxNzYwEgwI"
    "wbSi2AYQuPmMuAIYASIGaGVsbG8K"
)
CACHED = (
    "Co0BCkdzaGEyNTY6MWMxOGExZjE5MWQxZTcwNGE1MzA2YzU4NjY1ZTAxMTY4Y2Q1OGIzNTc4NzBhZTgxZGVjMDQ0MTUzZDdmZjZiNBok"
    "W2ludGVybmFsXSBsb2FkIHJlbW90ZSBidWlsZCBjb250ZXh0IAEqDAjDtKLYBhC167XvATIMCMO0otgGEN+5ue8B"
)
EXPORTING = (
    "EoIBChBleHBvcnRpbmcgbGF5ZXJzEkdzaGEyNTY6ZThjNjEzZTA3YjBiN2ZmMzM4OTNiNjk0Zjc3NTlhMTBkNDJlMTgwZjJiNGRjMzQ5"
    "ZmI1N2RjNmI3MWRjYWIwMDILCMO0otgGELqQxVo6CwjDtKLYBhDso58lQgsIw7Si2AYQ1IXFWg=="
)


def message(*fields: bytes) -> str:
    """Return a message of raw fields."""
    return base64.b64encode(b"".join(fields)).decode()


def field(number: int, content: bytes) -> bytes:
    """Return one field with a length."""
    return bytes([number << 3 | 2, len(content)]) + content


def test_recorded_messages_of_an_engine() -> None:
    """A step that begins, what it prints, a cached one; the progress of an export is not for us."""
    name = "[a 2/4] RUN echo hello; echo err >&2; sleep 1; echo world"
    assert decode_trace(STARTED) == [Vertex(STEP, name, started=True)]
    assert decode_trace(PRINTED) == [StepOutput(STEP, b"hello\n")]
    (cached,) = decode_trace(CACHED)
    assert isinstance(cached, Vertex)
    assert (cached.name, cached.cached, cached.completed) == (
        "[internal] load remote build context",
        True,
        True,
    )
    assert decode_trace(EXPORTING) == []


def test_fields_of_a_later_version_are_passed_over() -> None:
    """Unknown fields of every kind stand beside known ones without harm."""
    unknown = field(15, b"more") + bytes([9 << 3 | 1]) + bytes(8) + bytes([10 << 3 | 5]) + bytes(4)
    vertex = field(1, field(1, b"d") + unknown + field(3, b"n") + field(7, b"e") + bytes([4 << 3, 1]))
    assert decode_trace(message(unknown, vertex)) == [Vertex("d", "n", cached=True, error="e")]


@pytest.mark.parametrize(
    "text",
    ["?", "C", message(b"\x0a"), message(b"\x0a\x05abc"), message(b"\xff" * 12), message(b"\x0b")],
)
def test_what_is_no_trace_is_said_to_be_none(text: str) -> None:
    """Cut or foreign messages are a TraceError."""
    with pytest.raises(TraceError):
        decode_trace(text)


def test_no_message_does_worse_than_that() -> None:
    """Messages damaged at random decode, or are a TraceError."""
    chance = random.Random(7)
    whole = base64.b64decode(STARTED) + base64.b64decode(PRINTED)
    refused = 0
    for _ in range(3000):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            decode_trace(message(bytes(damaged[: chance.randint(1, len(damaged))])))
        except TraceError:
            refused += 1
    assert refused
