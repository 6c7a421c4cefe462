"""A JSON object of a request, read field by field.

Owns types and the path that a refusal names (``tasks[0].datasets[1].mountPath: …``). A field that is null is
a field that is not there; a field that nobody asks for passes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dispatch.beakerd.problems import Problem, invalid

DEEPEST = 64
LARGEST = (1 << 63) - 1


class Fields:
    """The fields of one object; ``path`` is where it is in the request."""

    def __init__(self, value: Mapping[str, Any], path: str = ""):
        self._value = value
        self._path = path

    def refuse(self, name: str, fact: str) -> Problem:
        """The refusal of a field, or of the object itself where the name is empty."""
        path = ".".join(part for part in (self._path, name) if part)
        return invalid(f"{path}: {fact}" if path else fact)

    def has(self, name: str) -> bool:
        """Whether the field says anything."""
        return self._value.get(name) is not None

    def any(self, name: str) -> Any:
        """The field as it is, None where it is not there."""
        return self._value.get(name)

    def text(self, name: str) -> str | None:
        """A string; None where it is not there."""
        value = self._value.get(name)
        if value is not None and not isinstance(value, str):
            raise self.refuse(name, f"must be a string, not {_kind(value)}")
        return value

    def flag(self, name: str) -> bool | None:
        """True or false; None where it is not there."""
        value = self._value.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.refuse(name, f"must be true or false, not {_kind(value)}")
        return value

    def number(self, name: str) -> float | int | None:
        """A number from zero; None where it is not there."""
        value = self._value.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.refuse(name, f"must be a number, not {_kind(value)}")
        if value < 0:
            raise self.refuse(name, f"must not be below zero, is {value}")
        return value

    def whole(self, name: str) -> int | None:
        """A whole number from zero; None where it is not there."""
        value = self.number(name)
        if value is not None and value != int(value):
            raise self.refuse(name, f"must be a whole number, is {value}")
        return None if value is None else int(value)

    def texts(self, name: str) -> tuple[str, ...] | None:
        """A list of strings; None where it is not there."""
        found: list[str] = []
        values = self._list(name)
        for place, value in enumerate(values or ()):
            if not isinstance(value, str):
                raise self.refuse(f"{name}[{place}]", f"must be a string, not {_kind(value)}")
            found.append(value)
        return None if values is None else tuple(found)

    def object(self, name: str) -> Fields | None:
        """An object; None where it is not there."""
        value = self._value.get(name)
        return None if value is None else self._object(name, value)

    def objects(self, name: str) -> list[Fields]:
        """A list of objects; empty where it is not there."""
        return [self._object(f"{name}[{place}]", value) for place, value in enumerate(self._list(name) or ())]

    def _list(self, name: str) -> list[Any] | None:
        value = self._value.get(name)
        if value is not None and not isinstance(value, list):
            raise self.refuse(name, f"must be a list, not {_kind(value)}")
        return value

    def _object(self, name: str, value: Any) -> Fields:
        if not isinstance(value, dict):
            raise self.refuse(name, f"must be an object, not {_kind(value)}")
        return Fields(value, ".".join(part for part in (self._path, name) if part))


def check_values(value: Any, path: str = "") -> None:
    """Refuse what JSON's reader lets pass but no table, container or YAML text can hold.

    :raises Problem: INVALID, for text with NUL or half characters, numbers beyond 64 bits, nesting too deep
    """
    waiting = [(value, path, 0)]
    while waiting:
        found, where, depth = waiting.pop()
        if depth > DEEPEST:
            raise invalid(f"{where[:200]}: is nested deeper than {DEEPEST}")
        if isinstance(found, str):
            _check_text(found, where)
        elif isinstance(found, float) and not math.isfinite(found):
            raise invalid(f"{where}: is not a number")
        elif isinstance(found, (int, float)) and abs(found) > LARGEST:
            raise invalid(f"{where}: is beyond 64 bits")
        elif isinstance(found, list):
            waiting += [(each, f"{where}[{place}]", depth + 1) for place, each in enumerate(found)]
        elif isinstance(found, dict):
            for key, each in found.items():
                _check_text(key, f"a name in {where or 'the body'}")
                waiting.append((each, f"{where}.{key}" if where else key, depth + 1))


def _check_text(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise invalid(f"{where}: is not valid Unicode") from error
    if "\0" in text:
        raise invalid(f"{where}: holds a NUL character")


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else "null"
