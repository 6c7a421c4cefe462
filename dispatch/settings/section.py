"""Turns a document's plain data into typed values, key by key, with file, line and key in every error.

Owns the wording of these errors. It refuses to know any particular file: who reads one names its keys.

A validation library would do the same for more: the one measured takes 100 to 160 ms of every command's
start for a handful of small models, and its messages would have to be written anew all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dispatch.errors import ConfigurationError, did_you_mean
from dispatch.settings.document import Document, Key, describe


class Section:
    """A mapping of a document, read key by key into typed values.

    Every reader returns the value of ``key``, or None (for collections: an empty one) where the key is
    missing or empty (``key:``). It raises ConfigurationError with file, line, key, what was expected and what
    was found.
    """

    def __init__(self, document: Document, keys: tuple[Key, ...], content: Mapping[str, Any]) -> None:
        self.document = document
        self.keys = keys
        self.content = content

    @classmethod
    def of(cls, document: Document) -> Section:
        """The whole document, which must be a mapping (an empty file is an empty one)."""
        content = {} if document.content is None else document.content
        if not isinstance(content, dict):
            raise ConfigurationError(f"{document.path}: expected keys with values, got {describe(content)}")
        return cls(document, (), content)

    def __contains__(self, key: str) -> bool:
        return self.content.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.content)

    def only(self, known: Sequence[str], thing: str = "key") -> None:
        """Refuse the first key that is not among ``known``, with the nearest known word."""
        for key in self.content:
            if key not in known:
                fact = f"unknown {thing} {key!r}{did_you_mean(key, list(known))}"
                raise self.refusal(key, fact, one_of(known))

    def text(self, key: str) -> str | None:
        """A text that is not empty and holds no NUL."""
        value = self.content.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.wrong(key, "text", value)
        if not value or "\0" in value:
            raise self.refusal(key, f"{self._path(key)}: the text is empty or holds a NUL")
        return value

    def flag(self, key: str) -> bool | None:
        """``true`` or ``false``."""
        value = self.content.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "true or false", value)
        return value

    def integer(self, key: str) -> int | None:
        """A whole number."""
        value = self.content.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(key, "a whole number", value)
        return value

    def choice(self, key: str, choices: Sequence[str]) -> str | None:
        """One of a few words."""
        value = self.text(key)
        if value is not None and value not in choices:
            fact = f"{self._path(key)}: unknown {value!r}{did_you_mean(value, list(choices))}"
            raise self.refusal(key, fact, one_of(choices))
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, none of them empty."""
        value = self.content.get(key)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise self.wrong(key, "a list of texts", value)
        for index, item in enumerate(value):
            if not isinstance(item, str) or not item or "\0" in item:
                fact = f"{self._path(key)}: expected texts in the list, got {describe(item)}"
                raise self._at((key, index), fact)
        return tuple(value)

    def section(self, key: str) -> Section | None:
        """Keys with values."""
        value = self.content.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(key, "keys with values", value)
        return Section(self.document, (*self.keys, key), value)

    def sections(self, key: str) -> tuple[Section, ...]:
        """A list whose items are keys with values."""
        value = self.content.get(key)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise self.wrong(key, "a list", value)
        for index, item in enumerate(value):
            if not isinstance(item, dict):
                fact = f"{self._path(key)}: expected keys with values in the list, got {describe(item)}"
                raise self._at((key, index), fact)
        here = (*self.keys, key)
        return tuple(Section(self.document, (*here, index), item) for index, item in enumerate(value))

    def variables(self, key: str) -> dict[str, str]:
        """Environment variables: names to texts or whole numbers; our own names are refused."""
        section = self.section(key)
        if section is None:
            return {}
        return {name: section.variable(name) for name in section}

    def variable(self, name: str) -> str:
        """The value of the environment variable ``name``, as :meth:`variables` reads it."""
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            fact = f"{name!r} is no name of an environment variable"
            raise self.refusal(name, fact, "use A–Z, a–z, 0–9 and _")
        if name.startswith("DISPATCH_"):
            fact = f"{name!r}: variables that begin with DISPATCH_ are set by dispatch itself"
            raise self.refusal(name, fact, "give it another name")
        value = self.content[name]
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise self.wrong(name, "text", value, "write the value in quotes")
        if "\0" in str(value):
            raise self.refusal(name, f"{self._path(name)}: the text holds a NUL")
        return str(value)

    def wrong(self, key: str, expected: str, value: Any, remedy: str = "") -> ConfigurationError:
        """The error for a value of the wrong type."""
        return self.refusal(key, f"{self._path(key)}: expected {expected}, got {describe(value)}", remedy)

    def refusal(self, key: str | None, fact: str, remedy: str = "") -> ConfigurationError:
        """An error at ``key``, or at the section itself for None."""
        return self._at(() if key is None else (key,), fact, remedy)

    def _at(self, keys: tuple[Key, ...], fact: str, remedy: str = "") -> ConfigurationError:
        return ConfigurationError(self.document.say((*self.keys, *keys), fact), remedy)

    def _path(self, key: str) -> str:
        return ".".join(str(part) for part in (*self.keys, key))


def one_of(choices: Sequence[str]) -> str:
    """The remedy that lists all choices."""
    return f"use one of: {', '.join(choices)}"
