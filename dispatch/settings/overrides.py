"""Lays what was given on the command line over a configuration.

Mappings merge, key by key; everything else replaces what is there, lists too. ``null`` sets null, which reads
as a key that is empty. There are no dotted keys: a step's name may hold dots.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dispatch.errors import ConfigurationError
from dispatch.settings.document import OVERRIDES, Document, Keys, describe
from dispatch.settings.jsontext import loads

_EXAMPLE = 'write JSON such as {"steps": {"NAME": {"KEY": 1}}}'


def overlay(document: Document, text: str, variables: Mapping[str, str]) -> Document:
    """Return ``document`` with ``text``, JSON or Jsonnet, merged over it.

    ``variables`` are Jsonnet's external ones. Raises ConfigurationError for a text that is not a mapping.
    """
    given = _read(text, variables)
    if not isinstance(given, dict):
        fact = f"{OVERRIDES}: expected keys with values, got {describe(given)}"
        raise ConfigurationError(fact, _EXAMPLE)
    base = {} if document.content is None else document.content
    if not isinstance(base, dict):
        return document
    replaced: set[Keys] = set(document.overridden)
    content = _merge(base, given, (), replaced)
    return replace(document, content=content, overridden=frozenset(replaced))


def is_json(text: str) -> bool:
    """Whether a text is plain JSON, which has no variables."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _read(text: str, variables: Mapping[str, str]) -> Any:
    try:
        return loads(text, OVERRIDES)
    except json.JSONDecodeError:
        from dispatch.settings.jsonnet import NotJsonnetError, evaluate

        try:
            return evaluate(text, OVERRIDES, variables)
        except NotJsonnetError as error:
            raise ConfigurationError(error.message, _EXAMPLE) from None


def _merge(base: Mapping[str, Any], over: Mapping[str, Any], at: Keys, replaced: set[Keys]) -> dict[str, Any]:
    """Merge into a new mapping, and note in ``replaced`` the keys of what came from above."""
    merged = dict(base)
    for key, value in over.items():
        below = base.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            merged[key] = _merge(below, value, (*at, key), replaced)
        else:
            merged[key] = value
            replaced.add((*at, key))
    return merged
