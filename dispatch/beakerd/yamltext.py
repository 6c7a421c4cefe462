"""YAML: what the API answers with of an experiment's spec, and what a configuration is written in.

Owns the only use of PyYAML here, and which YAML is read: ``true`` and ``false`` are the only booleans (``on``
and ``no`` are text), and times and dates are text. Refused: keys given twice or that are no text, tags,
several documents, deep nesting.
"""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from dispatch.errors import ConfigurationError

_DEEPEST = 30
_CORE = "tag:yaml.org,2002:"


# The ones in C are ten times as fast, and not everywhere.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    yaml_implicit_resolvers: dict[str, list[Any]] = {}

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """As inherited, but a key may be there only once."""
        seen = set()
        for key, _ in node.value:
            if key.tag == f"{_CORE}merge":
                continue
            if key.tag != f"{_CORE}str":
                raise yaml.constructor.ConstructorError(None, None, "a key is no text", key.start_mark)
            if key.value in seen:
                fact = f"{key.value!r} is given twice"
                raise yaml.constructor.ConstructorError(None, None, fact, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Puts in quotes what either YAML 1.1 or the loader here would take for more than a text."""


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):
    for _speaker in (_Loader, _Dumper):
        _speaker.add_implicit_resolver(_CORE + _name, re.compile(rf"(?:{_pattern})\Z"), _first)
_Loader.add_constructor(f"{_CORE}int", lambda _, node: int(node.value))
_Loader.add_constructor(f"{_CORE}float", lambda _, node: float(node.value))


def yaml_text(text: str) -> str:
    """The YAML of a JSON text, its fields in their order."""
    return dump_yaml(json.loads(text))


def dump_yaml(value: Any) -> str:
    """The YAML of plain data, its fields in their order."""
    written: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return written


def read_yaml(text: str, name: str) -> Any:
    """The plain data of a YAML document; ``name`` is what messages call it.

    :raises ConfigurationError: with the place, for what is refused
    """
    try:
        # Counted on events: the composer would exhaust the interpreter's stack.
        deep = 0
        for event in yaml.parse(text, _Loader):
            deep += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if deep > _DEEPEST:
                raise ConfigurationError(f"{name}: nested too deeply", "mend the file")
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark: Any = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be understood"
        raise ConfigurationError(f"{place}: not YAML: {problem}", "mend the file at this place") from None
