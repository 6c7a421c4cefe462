"""Sizes and durations as the API's users write them.

Owns their spellings, which are the real API's and wider than the house's own (:mod:`dispatch.units`):
``1024m`` is 1 024 000 000 bytes, since a prefix without ``i`` is a power of 1000, whatever its case.
"""

from __future__ import annotations

import re

_SIZE = re.compile(r"([0-9]{0,20})(?:\.([0-9]{0,20}))? ?([A-Za-z]*)")
_PREFIXES = "kmgtpe"
_FACTORS = {"": 1, "b": 1}
for _power, _prefix in enumerate(_PREFIXES, start=1):
    _FACTORS[_prefix] = _FACTORS[f"{_prefix}b"] = 1000**_power
    _FACTORS[f"{_prefix}ib"] = 1024**_power

_DURATION_PART = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,12}))?([a-zµ]*)")
_UNITS = {
    1: ("ns", "nanosecond", "nanoseconds"),
    1_000: ("us", "µs", "microsecond", "microseconds"),
    1_000_000: ("ms", "millisecond", "milliseconds"),
    1_000_000_000: ("", "s", "sec", "second", "seconds"),
    60_000_000_000: ("m", "min", "minute", "minutes"),
    3_600_000_000_000: ("h", "hr", "hour", "hours"),
    86_400_000_000_000: ("d", "day", "days"),
}
_NANOSECONDS = {name: factor for factor, names in _UNITS.items() for name in names}


def size(text: str) -> int | None:
    """The bytes that a text such as ``2.5GiB``, ``10 GB`` or ``1024m`` means; None where it means none.

    A fraction of a byte is left away.
    """
    match = _SIZE.fullmatch(text.strip())
    factor = _FACTORS.get(match.group(3).lower()) if match else None
    if match is None or factor is None or not (match.group(1) or match.group(2)):
        return None
    fraction = match.group(2) or ""
    return int((match.group(1) or "0") + fraction) * factor // int(10 ** len(fraction))


def duration(text: str) -> int | None:
    """The nanoseconds that a text such as ``1h30m``, ``90s`` or ``2.5 hours`` means; None for any other.

    A number alone is seconds, as public clients read it.
    """
    text = text.replace(" ", "").lower()
    place, nanoseconds = 0, 0
    while place < len(text) or not text:
        match = _DURATION_PART.match(text, place)
        factor = _NANOSECONDS.get(match.group(3)) if match else None
        if match is None or factor is None:
            return None
        fraction = match.group(2) or ""
        nanoseconds += int(match.group(1) + fraction) * factor // int(10 ** len(fraction))
        place = match.end()
    return nanoseconds
