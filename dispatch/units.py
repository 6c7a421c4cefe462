"""Sizes and durations: what users write ("16GiB", "1h30m") to numbers, and back to what they read.

Owns the spelling of both. Refuses spellings with two meanings: ``16G`` is 1000³ bytes to some tools and
1024³ to others, so a size names ``GB`` or ``GiB``.
"""

from __future__ import annotations

import re

from dispatch.errors import ConfigurationError

_SIZES = {
    "": 1,
    "B": 1,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KIB": 1024,
    "MIB": 1024**2,
    "GIB": 1024**3,
    "TIB": 1024**4,
}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)")
_SIZE_REMEDY = (
    "write a whole number of bytes, or a number with KiB, MiB, GiB, TiB (1024) or KB, MB, GB, TB (1000)"
)

_DURATIONS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?")
_DURATION = re.compile(
    r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9}(?:\.[0-9]{1,6})?)s)?"
)
_DURATION_REMEDY = "write a number of seconds, or a text such as 90s, 15m, 1h30m or 2d"


def parse_size(value: object, what: str = "size") -> int:
    """Return the number of bytes that ``value`` (a whole number, or a text such as ``16GiB``) means.

    ``what`` names the value in errors. Raises ConfigurationError for anything that is not a size above zero,
    or not a whole number of bytes.
    """
    if type(value) is int and value > 0:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    factor = _SIZES.get(str(match.group(2)).upper()) if match else None
    if match is None or factor is None:
        raise ConfigurationError(f"{what}: {value!r} is not a size", _SIZE_REMEDY)
    # Whole numbers throughout: a float would round sizes above 2**53.
    whole, _, fraction = str(match.group(1)).partition(".")
    scale: int = 10 ** len(fraction)
    size, rest = divmod(int(whole + fraction) * factor, scale)
    if size <= 0 or rest:
        raise ConfigurationError(f"{what}: {value!r} is not a whole number of bytes above zero", _SIZE_REMEDY)
    return size


def parse_duration(value: object, what: str = "duration") -> float:
    """Return the number of seconds that ``value`` (a number, or a text such as ``1h30m``) means.

    ``what`` names the value in errors. Raises ConfigurationError for anything that is not a duration above
    zero.
    """
    seconds = 0.0
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str):
        text = value.strip()
        match = _DURATION.fullmatch(text + "s" if _SECONDS.fullmatch(text) else text)
        if match is not None:
            parts = zip(match.groups(), _DURATIONS.values())
            seconds = float(sum(float(part) * unit for part, unit in parts if part is not None))
    if not 0 < seconds < float("inf"):
        raise ConfigurationError(f"{what}: {value!r} is not a duration above zero", _DURATION_REMEDY)
    return seconds


def format_size(size: int) -> str:
    """Return a size for people: three significant digits, binary units (``1.5 GiB``)."""
    if size < 1024:
        return f"{size} B"
    amount = float(size)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        amount /= 1024
        # 1023.5 would print as "1024": such an amount belongs to the next unit.
        if amount < 1023.5 or unit == "TiB":
            break
    digits = 2 if amount < 9.995 else 1 if amount < 99.95 else 0
    text = f"{amount:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {unit}"


def format_duration(seconds: float) -> str:
    """Return a duration for people, two units at most (``12 ms``, ``3.4 s``, ``1 m 05 s``, ``2 h 10 m``)."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} m"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24:02d} h"
