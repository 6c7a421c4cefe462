"""Reads TOML into what YAML and JSON could hold, too.

Owns the translation of the parser's errors. A date or a time has no place in JSON and is refused, as YAML's
tag for them is; texts that look like dates are texts everywhere.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from dispatch.errors import ConfigurationError
from dispatch.settings.jsontext import DEEPEST

_PLACE = re.compile(
    r"(?P<fact>.*) \((?:at line (?P<line>\d+), column (?P<column>\d+)|at end of document)\)", re.S
)

Keys = tuple[str | int, ...]


def parse(text: str, name: str) -> dict[str, Any]:
    """Return what TOML says. ``name`` is what messages call it. Raises ConfigurationError."""
    try:
        content: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _not_toml(name, text, str(error)) from None
    except RecursionError:
        raise _too_deep(name) from None
    except ValueError:
        # Only the interpreter's limit to the length of integers is left.
        raise ConfigurationError(f"{name}: a number has too many digits", "write it as a text") from None
    for keys, value in _values(content):
        if len(keys) > DEEPEST:
            raise _too_deep(name)
        if not isinstance(value, (dict, list, str, int, float)):
            raise ConfigurationError(
                f"{name}: {'.'.join(map(str, keys))}: a {type(value).__name__} is not supported ({value})",
                "write it as a text, in quotes",
            )
    return content


def _values(content: Any) -> Iterator[tuple[Keys, Any]]:
    """Every value with its keys, in the order of the file; not by recursion, as depth is what is checked."""
    waiting: list[tuple[Keys, Any]] = [((), content)]
    while waiting:
        keys, value = waiting.pop()
        yield keys, value
        if len(keys) > DEEPEST:
            continue
        inside = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        waiting += reversed([((*keys, key), each) for key, each in inside])


def _not_toml(name: str, text: str, said: str) -> ConfigurationError:
    found = _PLACE.fullmatch(said)
    if found is None:
        return ConfigurationError(f"{name}: not TOML: {said}", "mend the file")
    line, column = found["line"], found["column"]
    if line is None:
        lines = text.split("\n")
        line, column = str(len(lines)), str(len(lines[-1]) + 1)
    return ConfigurationError(
        f"{name}:{line}:{column}: not TOML: {found['fact']}", "mend the file at this place"
    )


def _too_deep(name: str) -> ConfigurationError:
    return ConfigurationError(f"{name}: nested too deeply", f"keep below {DEEPEST} levels")
