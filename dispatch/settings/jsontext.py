"""Reads JSON as strictly as it is written down (RFC 8259), and refuses a key that is there twice."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from dispatch.errors import ConfigurationError

DEEPEST = 100


def parse(text: str, name: str) -> Any:
    """Return what JSON says. ``name`` is what messages call it. Raises ConfigurationError."""
    try:
        return loads(text, name)
    except json.JSONDecodeError as error:
        fact = f"{name}:{error.lineno}:{error.colno}: not JSON: {error.msg}"
        remedy = "mend the file at this place; comments and trailing commas are for .jsonnet"
        raise ConfigurationError(fact, remedy) from None


def loads(text: str, name: str) -> Any:
    """As :func:`parse`, but raises json.JSONDecodeError for what is not JSON at all."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in items:
            if key in found:
                raise ConfigurationError(f"{name}: {key!r} is given twice", "keep one of them")
            found[key] = value
        return found

    def constant(word: str) -> NoReturn:
        raise ConfigurationError(f"{name}: {word} is no number in JSON", "write it as a text, or use YAML")

    try:
        content = json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise _too_deep(name) from None
    except ValueError:
        # Only the interpreter's limit to the length of integers is left.
        raise ConfigurationError(f"{name}: a number has too many digits", "write it as a text") from None
    level, depth = [content], 0
    while level:
        if depth > DEEPEST:
            raise _too_deep(name)
        inside = [part.values() if isinstance(part, dict) else part for part in level if _holds(part)]
        level, depth = [part for parts in inside for part in parts], depth + 1
    return content


def _holds(value: Any) -> bool:
    return isinstance(value, (dict, list))


def _too_deep(name: str) -> ConfigurationError:
    return ConfigurationError(f"{name}: nested too deeply", f"keep below {DEEPEST} levels")
