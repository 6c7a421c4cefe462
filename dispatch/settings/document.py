"""Reads YAML files into plain data that remembers where it stood.

Owns which YAML is spoken: the core schema of YAML 1.2. ``true`` and ``false`` are the only booleans (``yes``,
``no``, ``on``, ``off`` are text), ``1e-3`` is a number, ``010`` is ten, ``12:30`` and ``2024-01-01`` are
text. Merge keys (``<<``) and anchors work. Refused: keys given twice, keys that are not text, other tags than
the schema's, several documents. So what is read is always what JSON can hold too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dispatch.errors import ConfigurationError

if TYPE_CHECKING:
    from yaml.nodes import Node

Key = str | int
Position = tuple[int, int]

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
    """Composes nodes by the core schema; the nodes are turned into data by :class:`_Builder`."""

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
    changed: an anchor's value is one object however often it is named.
    """

    path: Path
    content: Any
    positions: Mapping[tuple[Key, ...], Position]

    def where(self, keys: tuple[Key, ...] = ()) -> str:
        """Return ``file:line:column`` of the value at ``keys``, or of the nearest thing around it."""
        for length in range(len(keys), -1, -1):
            position = self.positions.get(keys[:length])
            if position is not None:
                return f"{self.path}:{position[0]}:{position[1]}"
        return str(self.path)


def read_document(path: Path) -> Document:
    """Read a YAML file. Raises ConfigurationError where it cannot be read or is not the YAML we speak."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        fact = f"{path}: not UTF-8 text (byte {error.start})"
        raise ConfigurationError(fact, "save the file as UTF-8") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror or error}") from None
    builder = _Builder(path)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        content = None if node is None else builder.build(node, ())
    except yaml.YAMLError as error:
        raise _not_yaml(path, error) from None
    except RecursionError:
        raise ConfigurationError(f"{path}: nested too deeply") from None
    return Document(path, content, builder.positions)


def _not_yaml(path: Path, error: yaml.YAMLError) -> ConfigurationError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be understood"
    context = getattr(error, "context", None)
    fact = f"{problem} ({context})" if context else str(problem)
    return ConfigurationError(f"{place}: not YAML: {fact}", "mend the file at this place")


class _Builder:
    """Turns composed nodes into data and notes where each part began."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._built: dict[int, Any] = {}
        self._open: set[int] = set()
        self.positions: dict[tuple[Key, ...], Position] = {}

    def build(self, node: Node, keys: tuple[Key, ...]) -> Any:
        """Build ``node``, which stands at ``keys``; a node that an alias names again is built once."""
        self.positions.setdefault(keys, _position(node))
        known = id(node)
        if known in self._built:
            return self._built[known]
        if known in self._open:
            raise self._refusal(node, "an alias refers to something around itself")
        self._open.add(known)
        built = self._data(node, keys)
        self._open.discard(known)
        self._built[known] = built
        return built

    def _data(self, node: Node, keys: tuple[Key, ...]) -> Any:
        if node.tag == _CORE + "map":
            return self._mapping(node, keys)
        if node.tag == _CORE + "seq":
            return [self.build(item, (*keys, index)) for index, item in enumerate(node.value)]
        scalar = _SCALARS.get(node.tag)
        if scalar is None or not isinstance(node.value, str):
            tag = node.tag.replace(_CORE, "!!")
            raise self._refusal(node, f"the tag {tag!r} is not supported", "leave it out")
        try:
            return scalar(node.value)
        except ValueError:
            raise self._refusal(node, f"{node.value!r} is no {node.tag.replace(_CORE, '')}") from None

    def _mapping(self, node: Node, keys: tuple[Key, ...]) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for name_node, value_node in node.value:
            if name_node.tag == _MERGE:
                for mapping in self._merged(value_node, keys):
                    merged = {**mapping, **merged}
                continue
            name = self._name(name_node)
            place = (*keys, name)
            if name in own:
                fact = f"{name!r} is given twice (first in line {self.positions[place][0]})"
                raise self._refusal(name_node, fact, "keep one of them")
            self.positions[place] = _position(name_node)
            own[name] = self.build(value_node, place)
        return {**merged, **own}

    def _merged(self, node: Node, keys: tuple[Key, ...]) -> Iterator[dict[str, Any]]:
        """The mappings that ``<<`` brings in, the strongest first."""
        sources = node.value if node.tag == _CORE + "seq" else [node]
        for source in sources:
            mapping = self.build(source, (*keys, "<<"))
            if not isinstance(mapping, dict):
                fact = f"'<<' takes a mapping or a list of mappings, got {describe(mapping)}"
                raise self._refusal(source, fact)
            yield mapping

    def _name(self, node: Node) -> str:
        if node.tag == _CORE + "str":
            return str(node.value)
        if isinstance(node.value, str):
            remedy = f'write it in quotes: "{node.value}"'
            raise self._refusal(node, f"the key {node.value!r} is not text", remedy)
        raise self._refusal(node, "a key must be text")

    def _refusal(self, node: Node, fact: str, remedy: str = "") -> ConfigurationError:
        line, column = _position(node)
        return ConfigurationError(f"{self._path}:{line}:{column}: {fact}", remedy)


def _position(node: Node) -> Position:
    return node.start_mark.line + 1, node.start_mark.column + 1


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
