"""Values of other modules than the language's own in tagged JSON: numbers, dates, paths, NumPy's numbers.

Each is told by its very class; a subclass has more to it, and is refused. The module is imported only where
such a value is, or is read.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode

from dispatch.errors import FormatError
from dispatch.formats.plain import TAG
from dispatch.formats.storing import kind_of, needed
from dispatch.formats.tags import NotExactError, encode_int, encode_str, tagged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
_NUMBER = re.compile(r"[<>|][biufcMm][0-9]{1,2}(\[[0-9]{0,9}[A-Za-zμ]{1,7}\])?")


def _pathlib(value: Any, depth: int) -> Any:
    from pathlib import Path, PurePosixPath

    for tag, cls in (("path", type(Path())), ("pure_path", PurePosixPath)):
        if type(value) is cls:
            return tagged(tag, value=encode_str(str(value), depth))
    return None


def _decimal(value: Any, _depth: int) -> Any:
    from decimal import Decimal

    return tagged("decimal", value=str(value)) if type(value) is Decimal else None


def _fraction(value: Any, depth: int) -> Any:
    from fractions import Fraction

    if type(value) is not Fraction:
        return None
    return tagged(
        "fraction", parts=[encode_int(value.numerator, depth), encode_int(value.denominator, depth)]
    )


def _uuid(value: Any, _depth: int) -> Any:
    from uuid import UUID, SafeUUID

    # Whether it was made safely is state, too, which only pickle keeps.
    fits = type(value) is UUID and value.is_safe is SafeUUID.unknown
    return tagged("uuid", value=str(value)) if fits else None


def _zoneinfo(value: Any, _depth: int) -> Any:
    from zoneinfo import ZoneInfo

    key = getattr(value, "key", None)
    if type(value) is not ZoneInfo or key is None or not _ZONE.fullmatch(key) or ZoneInfo(key) is not value:
        return None
    return tagged("zone", key=key)


def _datetime(value: Any, depth: int) -> Any:
    import datetime

    kind = type(value)
    if kind is datetime.timedelta:
        return tagged("timedelta", parts=[value.days, value.seconds, value.microseconds])
    if kind is datetime.date:
        return tagged("date", value=value.isoformat())
    if kind is datetime.timezone:
        offset, *name = value.__getinitargs__()
        return tagged(
            "timezone", offset=_datetime(offset, depth), name=[encode_str(each, depth) for each in name]
        )
    if kind not in (datetime.datetime, datetime.time):
        return None
    made = tagged(kind.__name__, value=value.replace(tzinfo=None, fold=0).isoformat())
    if value.fold:
        made["fold"] = value.fold
    if value.tzinfo is not None:
        library = type(value.tzinfo).__module__.partition(".")[0]
        zone = ENCODERS[library](value.tzinfo, depth) if library in ("datetime", "zoneinfo") else None
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
    return tagged("numpy", dtype=value.dtype.str, base64=b64encode(value.tobytes()).decode("ascii"))


def _number(dtype: str, data: bytes) -> Any:
    if not _NUMBER.fullmatch(dtype):
        raise FormatError(f"{dtype!r} is no kind of number")
    return needed("numpy", "json").frombuffer(data, dtype)[0]


ENCODERS: dict[str, Callable[[Any, int], Any]] = {
    "datetime": _datetime,
    "decimal": _decimal,
    "fractions": _fraction,
    "numpy": _numpy,
    "pathlib": _pathlib,
    "uuid": _uuid,
    "zoneinfo": _zoneinfo,
}


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


DECODERS: dict[str, Callable[[dict[str, Any]], Any]] = {
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
