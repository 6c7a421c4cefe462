"""How a mismatch between a value and its annotation is told. Loaded only when there is one."""

from __future__ import annotations

import re
from collections.abc import Mapping

from dispatch.params import hints
from dispatch.params.references import Mismatch
from dispatch.registrable import FromParams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NUMBERS = (int, float, bool)


def mismatch(at: str, annotation: Any, value: Any) -> Mismatch:
    """Return the error for a value at ``at`` that is not of the annotated type."""
    shown = f" {value!r}" if type(value) in (bool, int, float, str) and len(repr(value)) <= 40 else ""
    fact = f"expected {type_text(annotation)}, got {type(value).__name__}{shown}"
    remedy = "correct the value"
    members = annotation.__args__ if hints.is_union(annotation) else (annotation,)
    unmade = [member for member in members if _cannot_be_made(member)] if isinstance(value, Mapping) else []
    if annotation is str and type(value) in _NUMBERS:
        remedy = "put it in quotes"
    elif annotation in _NUMBERS and type(value) is str:
        remedy = "write it without quotes (and 1e-3 as 1.0e-3, which YAML takes for a number)"
    elif unmade:
        fact += f": {unmade[0].__name__} cannot be made from config"
        remedy = (
            f"derive {unmade[0].__name__} from dispatch.Registrable, and register what `type:` is to name, "
            "or from dispatch.FromParams, or make it a dataclass"
        )
    return Mismatch(at, fact, remedy)


def unregistered(base: type, error: Any) -> str:
    """Return the remedy for a name that is not registered with ``base``: what is, and how it is done."""
    known = f"{error.remedy}; " if error.remedy.startswith("registered are") else ""
    return (
        f"{known}to register a class, put @{base.__name__}.register(NAME) above it and import its module"
        " where the step is defined, or write the class's place: `type: package.module.Class`"
    )


def type_text(annotation: Any) -> str:
    """Return an annotation as its author would write it."""
    if annotation is type(None):
        return "None"
    if isinstance(annotation, str):
        return annotation
    if hasattr(annotation, "__forward_arg__"):
        return str(annotation.__forward_arg__)
    if hints.is_union(annotation):
        return " | ".join(type_text(member) for member in annotation.__args__)
    if isinstance(annotation, type) and not hasattr(annotation, "__origin__"):
        members = hints.members_of_enum(annotation)
        return f"{annotation.__name__} (one of {', '.join(members)})" if members else annotation.__name__
    return re.sub(r"ForwardRef\('([^']*)'[^)]*\)", r"\1", str(annotation).replace("typing.", ""))


def _cannot_be_made(annotation: Any) -> bool:
    if not isinstance(annotation, type) or annotation.__module__ == "builtins":
        return False
    plain = issubclass(annotation, FromParams) or hasattr(annotation, "__dataclass_fields__")
    return not plain and hints.members_of_enum(annotation) is None and not hints.is_path(annotation)
