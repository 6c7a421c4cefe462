"""JSON for values that JSON alone would change: each of them becomes an object with the key ``$dispatch``.

Owns these tags. What is plain stays as it is, so a file is readable by any tool; a dict that has the key
itself is written as a list of its items. Held exactly, with their very type: integers of any size, all
floats, texts that UTF-8 cannot hold, bytes (up to 1 MiB, beyond which base64 costs too much), tuples, sets,
dicts with any keys, complex, Decimal, Fraction, UUID, dates, times (with fixed zones or those of
``zoneinfo``), timedeltas, POSIX paths, NumPy numbers, and dataclasses, named tuples and enums: ``classes``
says which.

What is not of exactly these types, deeper than 100 levels (so anything that contains itself) or has more
state than its fields is refused. That one object stands in two places is not part of a value: it comes back
as two. Reading calls no code of the classes it makes: no ``__init__``, no ``__post_init__``, no ``__hash__``.
"""

from __future__ import annotations

import json
import struct
import sys
from base64 import b64decode, b64encode

from dispatch.errors import FormatError
from dispatch.formats import library
from dispatch.formats.plain import DEPTH, INTEGER_BITS, TAG, encodable
from dispatch.formats.storing import kind_of
from dispatch.formats.tags import NotExactError, encode_float, encode_int, encode_str, tagged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

_BYTES_LIMIT = 1 << 20


def encode(value: Any, depth: int = DEPTH) -> Any:
    """Return what ``json`` writes for a value. Raises NotExactError where that would not give it back."""
    if depth < 0:
        raise NotExactError(f"it is nested deeper than {DEPTH} levels, or contains itself")
    encoder = _ENCODERS.get(type(value))
    if encoder is not None:
        return encoder(value, depth)
    origin = type(value).__module__.partition(".")[0]
    if origin in library.ENCODERS:
        found = library.ENCODERS[origin](value, depth)
        if found is not None:
            return found
    from dispatch.formats.classes import encode_object

    made = encode_object(value, lambda inner: encode(inner, depth - 1))
    if made is None:
        raise NotExactError(f"a value of type {kind_of(value)} would not come back as it is")
    return made


def decode(data: bytes, modules: Collection[str] = ()) -> Any:
    """Return the value of a tagged file. FormatError for what this version cannot read."""

    def hook(raw: dict[str, Any]) -> Any:
        tag = raw.get(TAG)
        if tag is None:
            return raw
        if tag in ("dataclass", "namedtuple", "enum"):
            from dispatch.formats.classes import decode_object

            return decode_object(tag, raw, modules)
        if not isinstance(tag, str) or tag not in _DECODERS:
            raise FormatError(
                f"there is a value of a kind {tag!r} that is not known here",
                "read it with the version of dispatch that wrote it",
            )
        return _DECODERS[tag](raw)

    return json.loads(data, object_hook=hook)


def _items(values: Any, depth: int) -> list[Any]:
    found = []
    for index, value in enumerate(values):
        try:
            found.append(encode(value, depth - 1))
        except NotExactError as error:
            raise error.inside(f"[{index}]") from None
    return found


def _bytes(value: Any, _depth: int) -> Any:
    if len(value) > _BYTES_LIMIT:
        raise NotExactError(f"{len(value)} bytes in one piece are more than JSON is good for")
    return tagged(type(value).__name__, base64=b64encode(value).decode("ascii"))


def _dict(value: dict[Any, Any], depth: int) -> Any:
    if all(type(key) is str and encodable(key) for key in value) and TAG not in value:
        found = {}
        for key, item in value.items():
            try:
                found[key] = encode(item, depth - 1)
            except NotExactError as error:
                raise error.inside(f"[{_shown(key)}]") from None
        return found
    pairs = []
    for key, item in value.items():
        try:
            pairs.append([_key(key, depth - 1), encode(item, depth - 1)])
        except NotExactError as error:
            raise error.inside(f"[{_shown(key)}]") from None
    return tagged("dict", items=pairs)


def _shown(key: Any) -> str:
    """A key for a message. The repr of a class of the user's is code, and that of a long integer may fail."""
    short = type(key) in (str, float, bytes, bool) or (type(key) is int and key.bit_length() <= INTEGER_BITS)
    return repr(key)[:100] if short else f"a {kind_of(key)}"


def _key(value: Any, depth: int) -> Any:
    """What has to be hashed when it is read, so that no class of the user's has a say in it."""
    if not _is_safe_key(value):
        raise NotExactError(f"a {kind_of(value)} as a key or in a set would run its own code when read")
    return encode(value, depth)


def _set(value: Any, depth: int) -> Any:
    try:
        members = [_key(member, depth - 1) for member in value]
    except NotExactError as error:
        raise error.inside("{…}") from None
    # The order in a set depends on the process; equal sets make equal files.
    return tagged(type(value).__name__, items=sorted(members, key=lambda each: json.dumps(each)))


def _complex(value: complex, depth: int) -> Any:
    return tagged("complex", parts=[encode_float(value.real, depth), encode_float(value.imag, depth)])


_ENCODERS: dict[type, Callable[[Any, int], Any]] = {
    type(None): lambda value, _depth: value,
    bool: lambda value, _depth: value,
    int: encode_int,
    float: encode_float,
    str: encode_str,
    bytes: _bytes,
    bytearray: _bytes,
    list: _items,
    tuple: lambda value, depth: tagged("tuple", items=_items(value, depth)),
    dict: _dict,
    set: _set,
    frozenset: _set,
    complex: _complex,
}


def _is_safe_key(value: Any) -> bool:
    kind = type(value)
    if kind in (tuple, frozenset):
        return all(map(_is_safe_key, value))
    if kind in _ENCODERS:
        return True
    if kind.__module__.partition(".")[0] in library.ENCODERS:
        return sys.modules[kind.__module__].__dict__.get(kind.__name__) is kind
    enum = sys.modules.get("enum")
    if enum is None or not isinstance(value, enum.Enum):
        return False
    ours: tuple[Any, ...] = (enum.Enum, object, int, str)
    return any(kind.__hash__ is one.__hash__ for one in ours) and any(
        kind.__eq__ is one.__eq__ for one in ours
    )


def _keys(values: list[Any]) -> list[Any]:
    for value in values:
        if not _is_safe_key(value):
            raise FormatError(f"a {kind_of(value)} stands where only plain values may")
    return values


def _read_dict(raw: dict[str, Any]) -> dict[Any, Any]:
    keys = _keys([key for key, _ in raw["items"]])
    return dict(zip(keys, [item for _, item in raw["items"]]))


_DECODERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "int": lambda raw: int(raw["hex"], 16),
    "float": lambda raw: struct.unpack(">d", bytes.fromhex(raw["bits"]))[0],
    "str": lambda raw: bytes.fromhex(raw["bytes"]).decode("utf-8", "surrogatepass"),
    "bytes": lambda raw: b64decode(raw["base64"], validate=True),
    "bytearray": lambda raw: bytearray(b64decode(raw["base64"], validate=True)),
    "tuple": lambda raw: tuple(raw["items"]),
    "dict": _read_dict,
    "set": lambda raw: set(_keys(raw["items"])),
    "frozenset": lambda raw: frozenset(_keys(raw["items"])),
    "complex": lambda raw: complex(*raw["parts"]),
    **library.DECODERS,
}
