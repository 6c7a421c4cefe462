"""A mapping of the configuration file, read key by key.

Owns types, the path that an error names (``clusters[0].nodes[1].gpus: …``), and that no key is left over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from dispatch.errors import ConfigurationError, did_you_mean
from dispatch.units import parse_duration, parse_size

# Beaker's own rule for names.
NAME = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._-]*")
NAME_REMEDY = "use letters, digits, periods, dashes and underscores, without a dash at the beginning"
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")

Value = TypeVar("Value")


class Section:
    """The keys of one mapping. ``at`` is the file and the mapping's place in it, ``joint`` what stands
    between it and a key. :meth:`end` it."""

    def __init__(self, value: Any, at: str, joint: str = "."):
        if not isinstance(value, dict):
            raise ConfigurationError(f"{at}: is {kind(value)}", "write a mapping: `key: value` lines")
        self._value = value
        self._at = at
        self._joint = joint
        self._known: list[str] = []

    def place(self, key: str) -> str:
        """What messages call the value of a key."""
        return f"{self._at}{self._joint}{key}"

    def get(self, key: str, read: Callable[[Any, str], Value], default: Value) -> Value:
        """The value of a key by its reader; the default where the key is not there or null."""
        self._known.append(key)
        value = self._value.get(key)
        return default if value is None else read(value, self.place(key))

    def need(self, key: str, read: Callable[[Any, str], Value]) -> Value:
        """The value of a key that must be there."""
        self._known.append(key)
        if self._value.get(key) is None:
            raise ConfigurationError(f"{self.place(key)}: is missing", f"write `{key}:` and its value")
        return read(self._value[key], self.place(key))

    def end(self) -> None:
        """Refuse keys that nobody asked for."""
        for key in self._value:
            if key not in self._known:
                near = did_you_mean(key, self._known)
                raise ConfigurationError(
                    f"{self._at}: there is no key {key!r}{near}", f"the keys are: {', '.join(self._known)}"
                )


def kind(value: Any) -> str:
    """What a value is, for messages."""
    names = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false", type(None): "empty"}
    return names.get(type(value), "a number")


def many(read: Callable[[Any, str], Value]) -> Callable[[Any, str], tuple[Value, ...]]:
    """The reader of a list of what ``read`` reads."""

    def reader(value: Any, at: str) -> tuple[Value, ...]:
        if not isinstance(value, list):
            raise ConfigurationError(f"{at}: is {kind(value)}", "write a list: one `- …` line each")
        return tuple(read(each, f"{at}[{place}]") for place, each in enumerate(value))

    return reader


def unique(values: Sequence[str], at: str) -> None:
    """Refuse a value that is there twice."""
    for place, value in enumerate(values):
        if value in values[:place]:
            raise ConfigurationError(f"{at}: {value!r} is given twice", "keep one of them")


def text(value: Any, at: str) -> str:
    """A text."""
    if not isinstance(value, str):
        raise ConfigurationError(f"{at}: {value!r} is {kind(value)}", "write a text, in quotes where needed")
    return value


def flag(value: Any, at: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{at}: {value!r} is {kind(value)}", "write true or false")
    return value


def name(value: Any, at: str) -> str:
    """A name by Beaker's rule."""
    if NAME.fullmatch(text(value, at)) is None or set(value) <= {"."}:
        raise ConfigurationError(f"{at}: {value!r} is no name", NAME_REMEDY)
    return str(value)


def full_name(value: Any, at: str) -> str:
    """``owner/name``."""
    owner, slash, rest = text(value, at).partition("/")
    if not slash:
        raise ConfigurationError(f"{at}: {value!r} has no owner", f"write ORGANIZATION/{value}")
    return f"{name(owner, at)}/{name(rest, at)}"


def hostname(value: Any, at: str) -> str:
    """The name of a machine."""
    if len(text(value, at)) > 253 or _HOST.fullmatch(value) is None:
        raise ConfigurationError(f"{at}: {value!r} is no host name", "use letters, digits, dashes, periods")
    return str(value)


def whole(lowest: int, highest: int) -> Callable[[Any, str], int]:
    """The reader of a whole number within bounds."""

    def reader(value: Any, at: str) -> int:
        if type(value) is not int or not lowest <= value <= highest:
            raise ConfigurationError(
                f"{at}: {value!r} is no whole number from {lowest} to {highest}", "write one that is"
            )
        return value

    return reader


def amount(value: Any, at: str) -> float:
    """A number above zero, also a fraction."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
        raise ConfigurationError(f"{at}: {value!r} is no number above zero", "write one, such as 8 or 0.5")
    return float(value)


def size(value: Any, at: str) -> int:
    """Bytes, above zero."""
    return parse_size(value, at)


def duration(value: Any, at: str) -> float:
    """Seconds; zero is one."""
    return 0.0 if value == 0 and not isinstance(value, bool) else parse_duration(value, at)


def choice(known: Sequence[str], what: str) -> Callable[[Any, str], str]:
    """The reader of one of some words."""

    def reader(value: Any, at: str) -> str:
        if value not in known:
            near = did_you_mean(str(value), list(known))
            raise ConfigurationError(
                f"{at}: {value!r} is no {what}{near}", f"write one of: {', '.join(known)}"
            )
        return str(value)

    return reader


def directory(value: Any, at: str) -> Path:
    """The absolute path of a directory that is there."""
    path = Path(text(value, at))
    if not path.is_absolute() or ".." in path.parts:
        raise ConfigurationError(f"{at}: {value!r} is not an absolute path", "write it from the root: /…")
    if not path.is_dir():
        raise ConfigurationError(f"{at}: {value} is no directory that is there", "make it, or leave it out")
    return path


def pairs(value: Any, at: str) -> Iterator[tuple[str, Any, str]]:
    """The keys, values and places of a mapping whose keys are the user's own."""
    if not isinstance(value, dict):
        raise ConfigurationError(f"{at}: is {kind(value)}", "write a mapping: `key: value` lines")
    for key, each in value.items():
        yield key, each, f"{at}[{key}]"
