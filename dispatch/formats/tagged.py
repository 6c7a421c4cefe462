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
import re
import struct
import sys
from base64 import b64decode, b64encode

from dispatch.errors import FormatError
from dispatch.formats.plain import DEPTH, INTEGER_BITS, TAG, encodable
from dispatch.formats.storing import kind_of, needed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

_BYTES_LIMIT = 1 << 20
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
_NUMBER = re.compile(r"[<>|][biufcMm][0-9]{1,2}(\[[0-9]{0,9}[A-Za-zμ]{1,7}\])?")


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


def encode(value: Any, depth: int = DEPTH) -> Any:
    """Return what ``json`` writes for a value. Raises NotExactError where that would not give it back."""
    if depth < 0:
        raise NotExactError(f"it is nested deeper than {DEPTH} levels, or contains itself")
    encoder = _ENCODERS.get(type(value))
    if encoder is not None:
        return encoder(value, depth)
    library = type(value).__module__.partition(".")[0]
    if library in _LIBRARY:
        found = _LIBRARY[library](value, depth)
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


def _tagged(tag: str, **parts: Any) -> dict[str, Any]:
    return {TAG: tag, **parts}


def _items(values: Any, depth: int) -> list[Any]:
    found = []
    for index, value in enumerate(values):
        try:
            found.append(encode(value, depth - 1))
        except NotExactError as error:
            raise error.inside(f"[{index}]") from None
    return found


def _int(value: int, _depth: int) -> Any:
    return value if value.bit_length() <= INTEGER_BITS else _tagged("int", hex=hex(value))


def _float(value: float, _depth: int) -> Any:
    return value if value - value == 0 else _tagged("float", bits=struct.pack(">d", value).hex())


def _str(value: str, _depth: int) -> Any:
    return value if encodable(value) else _tagged("str", bytes=value.encode("utf-8", "surrogatepass").hex())


def _bytes(value: Any, _depth: int) -> Any:
    if len(value) > _BYTES_LIMIT:
        raise NotExactError(f"{len(value)} bytes in one piece are more than JSON is good for")
    return _tagged(type(value).__name__, base64=b64encode(value).decode("ascii"))


def _dict(value: dict[Any, Any], depth: int) -> Any:
    if all(type(key) is str and encodable(key) for key in value) and TAG not in value:
        found = {}
        for key, item in value.items():
            try:
                found[key] = encode(item, depth - 1)
            except NotExactError as error:
                raise error.inside(f"[{key!r}]") from None
        return found
    pairs = []
    for key, item in value.items():
        try:
            pairs.append([_key(key, depth - 1), encode(item, depth - 1)])
        except NotExactError as error:
            # The repr of a class of the user's is code, and may fail.
            shown = repr(key)[:100] if type(key) in (str, int, float, bytes, bool) else f"a {kind_of(key)}"
            raise error.inside(f"[{shown}]") from None
    return _tagged("dict", items=pairs)


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
    return _tagged(type(value).__name__, items=sorted(members, key=lambda each: json.dumps(each)))


def _complex(value: complex, depth: int) -> Any:
    return _tagged("complex", parts=[_float(value.real, depth), _float(value.imag, depth)])


_ENCODERS: dict[type, Callable[[Any, int], Any]] = {
    type(None): lambda value, _depth: value,
    bool: lambda value, _depth: value,
    int: _int,
    float: _float,
    str: _str,
    bytes: _bytes,
    bytearray: _bytes,
    list: _items,
    tuple: lambda value, depth: _tagged("tuple", items=_items(value, depth)),
    dict: _dict,
    set: _set,
    frozenset: _set,
    complex: _complex,
}


def _pathlib(value: Any, depth: int) -> Any:
    from pathlib import Path, PurePosixPath

    for tag, cls in (("path", type(Path())), ("pure_path", PurePosixPath)):
        if type(value) is cls:
            return _tagged(tag, value=_str(str(value), depth))
    return None


def _decimal(value: Any, _depth: int) -> Any:
    from decimal import Decimal

    return _tagged("decimal", value=str(value)) if type(value) is Decimal else None


def _fraction(value: Any, depth: int) -> Any:
    from fractions import Fraction

    if type(value) is not Fraction:
        return None
    return _tagged("fraction", parts=[_int(value.numerator, depth), _int(value.denominator, depth)])


def _uuid(value: Any, _depth: int) -> Any:
    from uuid import UUID, SafeUUID

    # Whether it was made safely is state, too, which only pickle keeps.
    fits = type(value) is UUID and value.is_safe is SafeUUID.unknown
    return _tagged("uuid", value=str(value)) if fits else None


def _zoneinfo(value: Any, _depth: int) -> Any:
    from zoneinfo import ZoneInfo

    key = getattr(value, "key", None)
    if type(value) is not ZoneInfo or key is None or not _ZONE.fullmatch(key) or ZoneInfo(key) is not value:
        return None
    return _tagged("zone", key=key)


def _datetime(value: Any, depth: int) -> Any:
    import datetime

    kind = type(value)
    if kind is datetime.timedelta:
        return _tagged("timedelta", parts=[value.days, value.seconds, value.microseconds])
    if kind is datetime.date:
        return _tagged("date", value=value.isoformat())
    if kind is datetime.timezone:
        offset, *name = value.__getinitargs__()
        return _tagged("timezone", offset=_datetime(offset, depth), name=[_str(each, depth) for each in name])
    if kind not in (datetime.datetime, datetime.time):
        return None
    made = _tagged(kind.__name__, value=value.replace(tzinfo=None, fold=0).isoformat())
    if value.fold:
        made["fold"] = value.fold
    if value.tzinfo is not None:
        library = type(value.tzinfo).__module__.partition(".")[0]
        zone = _LIBRARY[library](value.tzinfo, depth) if library in ("datetime", "zoneinfo") else None
        if zone is None:
            raise NotExactError(f"the time zone is a {kind_of(value.tzinfo)}: use datetime's or zoneinfo's")
        made["zone"] = zone
    return made


def _numpy(value: Any, _depth: int) -> Any:
    numpy = needed("numpy", "json")
    if not isinstance(value, numpy.generic) or not _NUMBER.fullmatch(value.dtype.str):
        return None
    back = _number(value.dtype.str, value.tobytes())
    if type(back) is not type(value) or back.dtype.metadata or value.dtype.metadata:
        return None
    return _tagged("numpy", dtype=value.dtype.str, base64=b64encode(value.tobytes()).decode("ascii"))


def _number(dtype: str, data: bytes) -> Any:
    if not _NUMBER.fullmatch(dtype):
        raise FormatError(f"{dtype!r} is no kind of number")
    return needed("numpy", "json").frombuffer(data, dtype)[0]


_LIBRARY: dict[str, Callable[[Any, int], Any]] = {
    "datetime": _datetime,
    "decimal": _decimal,
    "fractions": _fraction,
    "numpy": _numpy,
    "pathlib": _pathlib,
    "uuid": _uuid,
    "zoneinfo": _zoneinfo,
}


def _is_safe_key(value: Any) -> bool:
    kind = type(value)
    if kind in (tuple, frozenset):
        return all(map(_is_safe_key, value))
    if kind in _ENCODERS:
        return True
    library = kind.__module__.partition(".")[0]
    if library in _LIBRARY:
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


def _read_path(raw: dict[str, Any]) -> Any:
    from pathlib import Path, PurePosixPath

    return (Path if raw[TAG] == "path" else PurePosixPath)(raw["value"])


def _read_decimal(raw: dict[str, Any]) -> Any:
    from decimal import Decimal

    return Decimal(raw["value"])


def _read_fraction(raw: dict[str, Any]) -> Any:
    from fractions import Fraction

    return Fraction(*raw["parts"])


def _read_uuid(raw: dict[str, Any]) -> Any:
    from uuid import UUID

    return UUID(raw["value"])


def _read_zone(raw: dict[str, Any]) -> Any:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    key = raw["key"]
    if not _ZONE.fullmatch(key):
        raise FormatError(f"{key!r} is no name of a time zone")
    try:
        return ZoneInfo(key)
    except ZoneInfoNotFoundError as error:
        raise FormatError(
            f"the time zone {key!r} is not known here",
            "add tzdata to what the image of the reading step installs",
        ) from error


def _read_datetime(raw: dict[str, Any]) -> Any:
    import datetime

    tag = raw[TAG]
    if tag == "timedelta":
        days, seconds, microseconds = raw["parts"]
        return datetime.timedelta(days, seconds, microseconds)
    if tag == "timezone":
        return datetime.timezone(raw["offset"], *raw["name"])
    if tag == "date":
        return datetime.date.fromisoformat(raw["value"])
    cls: Any = datetime.datetime if tag == "datetime" else datetime.time
    return cls.fromisoformat(raw["value"]).replace(tzinfo=raw.get("zone"), fold=raw.get("fold", 0))


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
    "path": _read_path,
    "pure_path": _read_path,
    "decimal": _read_decimal,
    "fraction": _read_fraction,
    "uuid": _read_uuid,
    "zone": _read_zone,
    "timedelta": _read_datetime,
    "timezone": _read_datetime,
    "date": _read_datetime,
    "time": _read_datetime,
    "datetime": _read_datetime,
    "numpy": lambda raw: _number(raw["dtype"], b64decode(raw["base64"], validate=True)),
}
