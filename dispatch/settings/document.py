"""Reads YAML, JSON and Jsonnet files into plain data that remembers where it stood.

Owns what a file's ending means, and which YAML is spoken: the core schema of YAML 1.2. ``true`` and ``false``
are the only booleans (``yes``, ``no``, ``on``, ``off`` are text), ``1e-3`` is a number, ``010`` is ten,
``12:30`` and ``2024-01-01`` are text. Merge keys (``<<``) and anchors work. Refused: keys given twice, keys
that are not text, other tags than the schema's, several documents. So what is read is always what JSON can
hold too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)

from dispatch.errors import ConfigurationError
from dispatch.settings.jsontext import DEEPEST, parse

Key = str | int
Keys = tuple[Key, ...]
Position = tuple[int, int]

# What messages call the place of values that were given on the command line.
OVERRIDES = "-o"

_CORE = "tag:yaml.org,2002:"
_MERGE = _CORE + "merge"
_SHOWN = 60

# Each row: tag, what it matches (YAML 1.2.2, 10.3.2, and the merge key), the characters it can begin with.
_SCHEMA = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Parses, and resolves plain scalars by the core schema; :class:`_Builder` makes data of the events."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}


for _name, _pattern, _first in _SCHEMA:
    # PyYAML files an empty scalar under "".
    _letters = ["" if letter == "\0" else letter for letter in _first]
    _Loader.add_implicit_resolver(_CORE + _name, re.compile(rf"(?:{_pattern})\Z"), _letters)


def _integer(text: str) -> int:
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _float(text: str) -> float:
    text = text.lower()
    if text.endswith(".inf"):
        return -math.inf if text.startswith("-") else math.inf
    return math.nan if text == ".nan" else float(text)


_SCALARS: dict[str, Callable[[str], Any]] = {
    _CORE + "null": lambda _: None,
    _CORE + "bool": lambda text: text.lower() == "true",
    _CORE + "int": _integer,
    _CORE + "float": _float,
    _CORE + "str": str,
    _MERGE: str,
}


@dataclass(frozen=True)
class Document:
    """A file's content, and where each part of it stands (line and column, counted from one).

    ``content`` is made of dict (keys are text), list, str, int, float, bool and None, and is not to be
    changed: an anchor's value is one object however often it is named. JSON and what Jsonnet made have no
    positions. ``overridden`` are the keys whose values do not come from the file but from ``-o``.
    """

    path: Path
    content: Any
    positions: Mapping[Keys, Position]
    overridden: frozenset[Keys] = frozenset()

    def where(self, keys: Keys = ()) -> str:
        """Return ``file:line:column`` of the value at ``keys``, or of the nearest thing around it.

        Where no line is known it is the file, and ``-o`` for what came from there.
        """
        if self.is_overridden(keys):
            return OVERRIDES
        for length in range(len(keys), -1, -1):
            position = self.positions.get(keys[:length])
            if position is not None:
                return f"{self.path}:{position[0]}:{position[1]}"
        return str(self.path)

    def say(self, keys: Keys, fact: str) -> str:
        """Return a message about ``keys``: where they stand, and the keys themselves where no line tells."""
        where, named = self.where(keys), ".".join(map(str, keys))
        known = where not in (OVERRIDES, str(self.path)) or not named or fact.startswith(named)
        return f"{where}: {fact}" if known else f"{where}: {named}: {fact}"

    def is_overridden(self, keys: Keys) -> bool:
        """Whether the value at ``keys`` came from ``-o``."""
        return any(keys[:length] in self.overridden for length in range(1, len(keys) + 1))


def read_document(path: Path, variables: Mapping[str, str] | None = None) -> Document:
    """Read a file: JSON (``.json``), Jsonnet (``.jsonnet``, ``.libsonnet``), and all others as YAML.

    ``variables`` are Jsonnet's external ones. Raises ConfigurationError where the file cannot be read or is
    not of its kind.
    """
    text = _text(path)
    if path.suffix == ".json":
        return Document(path, parse(text, str(path)), {})
    if is_jsonnet(path):
        from dispatch.settings.jsonnet import evaluate

        return Document(path, evaluate(text, str(path), variables or {}), {})
    try:
        builder = _Builder(path, _Loader(text))
        content = builder.document()
    except yaml.YAMLError as error:
        raise _not_yaml(path, error) from None
    return Document(path, content, builder.positions)


def is_jsonnet(path: Path) -> bool:
    """Whether a file is taken for Jsonnet."""
    return path.suffix in (".jsonnet", ".libsonnet")


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        fact = f"{path}: not UTF-8 text (byte {error.start})"
        raise ConfigurationError(fact, "save the file as UTF-8") from None
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be read: {error.strerror or error}", "name a file that is there and readable"
        ) from None


def _not_yaml(path: Path, error: yaml.YAMLError) -> ConfigurationError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be understood"
    # Some versions of the parser have a limit of their own, and read ahead of us.
    if "nesting" in str(problem):
        return ConfigurationError(f"{place}: nested too deeply", "mend the file at this place")
    context = getattr(error, "context", None)
    fact = f"{problem} ({context})" if context else str(problem)
    return ConfigurationError(f"{place}: not YAML: {fact}", "mend the file at this place")


class _Builder:
    """Turns the parser's events into data and notes where each part began.

    Events, not nodes: PyYAML's composer crashes the interpreter on a file that is nested deeply enough.
    """

    def __init__(self, path: Path, loader: Any) -> None:
        self._path = path
        self._loader = loader
        self._anchors: dict[str, Any] = {}
        self._open: set[str] = set()
        self.positions: dict[Keys, Position] = {}

    def document(self) -> Any:
        """Build the one document of the file; None if there is none."""
        self._loader.get_event()
        if self._loader.check_event(StreamEndEvent):
            return None
        self._loader.get_event()
        content = self._build(())
        self._loader.get_event()
        if not self._loader.check_event(StreamEndEvent):
            raise self._refusal(
                self._loader.peek_event(), "another document begins here", "keep one in a file"
            )
        return content

    def _build(self, keys: Keys) -> Any:
        event = self._loader.get_event()
        self.positions.setdefault(keys, _position(event))
        if len(keys) > DEEPEST:
            raise self._refusal(event, "nested too deeply")
        anchor = event.anchor
        if isinstance(event, AliasEvent):
            return self._alias(event)
        if anchor is not None:
            self._open.add(anchor)
        if isinstance(event, ScalarEvent):
            built = self._scalar(event)
        elif isinstance(event, MappingStartEvent):
            built = self._mapping(event, keys)
        else:
            built = self._sequence(event, keys)
        if anchor is not None:
            self._open.discard(anchor)
            self._anchors[anchor] = built
        return built

    def _alias(self, event: AliasEvent) -> Any:
        if event.anchor in self._open:
            raise self._refusal(event, f"the alias '*{event.anchor}' refers to something around itself")
        if event.anchor not in self._anchors:
            raise self._refusal(event, f"the alias '*{event.anchor}' has no anchor before it")
        return self._anchors[event.anchor]

    def _tag(self, event: ScalarEvent) -> str:
        if event.tag is None or event.tag == "!":
            return str(self._loader.resolve(yaml.ScalarNode, event.value, event.implicit))
        return str(event.tag)

    def _scalar(self, event: ScalarEvent) -> Any:
        tag = self._tag(event)
        if tag not in _SCALARS:
            raise self._unsupported(event, tag)
        try:
            return _SCALARS[tag](event.value)
        except ValueError:
            raise self._refusal(event, f"{event.value!r} is no {tag.replace(_CORE, '')}") from None

    def _sequence(self, event: CollectionStartEvent, keys: Keys) -> list[Any]:
        if event.tag not in (None, "!", _CORE + "seq"):
            raise self._unsupported(event, event.tag)
        items: list[Any] = []
        while not self._loader.check_event(SequenceEndEvent):
            items.append(self._build((*keys, len(items))))
        self._loader.get_event()
        return items

    def _mapping(self, event: CollectionStartEvent, keys: Keys) -> dict[str, Any]:
        if event.tag not in (None, "!", _CORE + "map"):
            raise self._unsupported(event, event.tag)
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while not self._loader.check_event(MappingEndEvent):
            key = self._loader.get_event()
            if isinstance(key, ScalarEvent) and self._tag(key) == _MERGE:
                merged = {**self._merged((*keys, "<<")), **merged}
                continue
            name = self._name(key)
            place = (*keys, name)
            if name in own:
                fact = f"{name!r} is given twice (first in line {self.positions[place][0]})"
                raise self._refusal(key, fact, "keep one of them")
            self.positions[place] = _position(key)
            own[name] = self._build(place)
        self._loader.get_event()
        return {**merged, **own}

    def _merged(self, keys: Keys) -> dict[str, Any]:
        """What ``<<`` brings in: a mapping, or several of which the first is the strongest."""
        first = self._loader.peek_event()
        brought = self._build(keys)
        sources = brought if isinstance(brought, list) else [brought]
        for source in sources:
            if not isinstance(source, dict):
                fact = f"'<<' takes a mapping or a list of mappings, got {describe(source)}"
                raise self._refusal(first, fact)
        return {name: value for source in reversed(sources) for name, value in source.items()}

    def _name(self, event: Event) -> str:
        if not isinstance(event, ScalarEvent):
            raise self._refusal(event, "a key must be text")
        if self._tag(event) != _CORE + "str":
            remedy = f'write it in quotes: "{event.value}"'
            raise self._refusal(event, f"the key {event.value!r} is not text", remedy)
        return str(event.value)

    def _unsupported(self, event: Event, tag: str) -> ConfigurationError:
        shown = tag.replace(_CORE, "!!")
        return self._refusal(event, f"the tag {shown!r} is not supported", "leave it out")

    def _refusal(self, event: Event, fact: str, remedy: str = "") -> ConfigurationError:
        line, column = _position(event)
        return ConfigurationError(f"{self._path}:{line}:{column}: {fact}", remedy)


def _position(event: Event) -> Position:
    mark = event.start_mark
    assert mark is not None, "the parser marks every event"
    return mark.line + 1, mark.column + 1


def describe(value: Any) -> str:
    """Say in plain words what a value is, shortened: ``the text 'yes'``, ``a list``."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "keys with values"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    shown = repr(value)
    if len(shown) > _SHOWN:
        shown = shown[: _SHOWN - 1] + "…"
    return f"the text {shown}" if isinstance(value, str) else f"the number {shown}"
