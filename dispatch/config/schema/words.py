"""What the schemas are written with: nodes of JSON Schema (draft 7) for the readers' kinds of values.

Owns how a reader's rule is spelled there. A key whose value is empty (``key:``) counts as missing to the
readers, so that each optional key may be null.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

Node = dict[str, Any]

TEXT: Node = {"type": "string", "pattern": "^[^\\u0000]+$"}
FLAG: Node = {"type": "boolean"}
NULL: Node = {"type": "null"}
VARIABLE = "[A-Za-z_][A-Za-z0-9_]*"
NAME = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
SIZE: Node = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "string", "pattern": r"^\s*[0-9]{1,15}(\.[0-9]{1,9})?\s*([KMGTkmgt][Ii]?[Bb]|[Bb])?\s*$"},
    ]
}
DURATION: Node = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "pattern": r"^\s*(?=.*[1-9])[0-9][0-9.dhms]*\s*$"},
    ]
}
VARIABLES: Node = {
    "type": "object",
    "propertyNames": {"pattern": f"^(?!DISPATCH_){VARIABLE}$"},
    "additionalProperties": {"type": ["string", "integer"]},
}


def matching(pattern: re.Pattern[str] | str) -> Node:
    """A text of one spelling."""
    return {"type": "string", "pattern": f"^(?:{pattern if isinstance(pattern, str) else pattern.pattern})$"}


def one_of(words: Sequence[str]) -> Node:
    """One of a few words."""
    return {"enum": list(words)}


def whole(minimum: int, maximum: int | None = None) -> Node:
    """A whole number."""
    return {"type": "integer", "minimum": minimum, **({} if maximum is None else {"maximum": maximum})}


def several(item: Node, *, some: bool = False) -> Node:
    """A list."""
    return {"type": "array", "items": item, **({"minItems": 1} if some else {})}


def keyed(name: str, value: Node) -> Node:
    """Keys of one spelling, each with a value of one kind."""
    return {"type": "object", "propertyNames": {"pattern": f"^(?:{name})$"}, "additionalProperties": value}


def about(text: str, node: Node) -> Node:
    """A node with what an editor shows for it."""
    return {"description": text, **node}


def optional(node: Node) -> Node:
    """A node that may be null as well."""
    described = {"description": node["description"]} if "description" in node else {}
    rest = {key: value for key, value in node.items() if key != "description"}
    if isinstance(rest.get("type"), str):
        return {**described, **rest, "type": [rest["type"], "null"]}
    if set(rest) == {"enum"}:
        return {**described, "enum": [*rest["enum"], None]}
    return {**described, "anyOf": [rest, NULL]}


def record(properties: Mapping[str, Node], required: Sequence[str] = ()) -> Node:
    """Known keys, of which some must be there."""
    known = {key: node if key in required else optional(node) for key, node in properties.items()}
    return {
        "type": "object",
        "properties": known,
        "additionalProperties": False,
        **({"required": list(required)} if required else {}),
    }


def given(*keys: str) -> Node:
    """The condition that all of some keys are there and not null."""
    return {"required": list(keys), "properties": {key: {"not": NULL} for key in keys}}


def reference(name: str) -> Node:
    """What a definition of the same document says."""
    return {"$ref": f"#/definitions/{name}"}


def absolute(*taken: str) -> Node:
    """An absolute path below ``/``, outside of some places."""
    places = "|".join(place.strip("/").replace("/", "/+") for place in taken)
    return {"type": "string", "pattern": rf"^(?!.*/\.\.(/|$))(?!/+(?:{places})(/|$))/+[^/\u0000]"}
