"""The parts that both sides of tagged JSON are made of: the tag, the error, and the three plain kinds."""

from __future__ import annotations

import struct

from dispatch.formats.plain import INTEGER_BITS, TAG, encodable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class NotExactError(Exception):
    """A value that would not come back as it is; its text begins with the place inside the result."""

    def __init__(self, fact: str) -> None:
        super().__init__(fact)
        self._fact = fact
        self._place = ""

    def inside(self, place: str) -> NotExactError:
        """Note that it was met inside of something; the outermost place comes first."""
        self._place = place + self._place
        return self

    def __str__(self) -> str:
        return f"at {self._place}: {self._fact}" if self._place else self._fact


def tagged(tag: str, **parts: Any) -> dict[str, Any]:
    """Return a tagged object."""
    return {TAG: tag, **parts}


def encode_int(value: int, _depth: int) -> Any:
    """An integer; Python may refuse to read a long decimal."""
    return value if value.bit_length() <= INTEGER_BITS else tagged("int", hex=hex(value))


def encode_float(value: float, _depth: int) -> Any:
    """A float; JSON has no infinities and no NaNs."""
    return value if value - value == 0 else tagged("float", bits=struct.pack(">d", value).hex())


def encode_str(value: str, _depth: int) -> Any:
    """A text; UTF-8 has no lone surrogates."""
    return value if encodable(value) else tagged("str", bytes=value.encode("utf-8", "surrogatepass").hex())
