"""What a typed dict takes. Loaded only for one."""

from __future__ import annotations

import sys

from dispatch.params import hints
from dispatch.params.signature import REQUIRED, Parameter, Signature

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MARKS = ("Required", "NotRequired", "ReadOnly")


def signature_of_typed_dict(cls: Any, at: str) -> Signature:
    """Return the keys of a typed dict as parameters; those that may be missing have None for a default."""
    module = sys.modules.get(cls.__module__)
    namespace = {} if module is None else module.__dict__
    parameters = {}
    for name, annotation in cls.__annotations__.items():
        required = name in cls.__required_keys__
        # In a module with postponed annotations, the class itself has not seen the marks.
        annotation = hints.read(annotation, namespace, at)
        mark = _mark(annotation)
        while mark:
            required = mark == "Required" or (required and mark != "NotRequired")
            annotation = hints.read(annotation.__args__[0], namespace, at)
            mark = _mark(annotation)
        parameters[name] = Parameter(name, annotation, REQUIRED if required else None, namespace)
    return Signature(parameters, False, cls.__qualname__)


def _mark(annotation: Any) -> str:
    name = getattr(getattr(annotation, "__origin__", None), "_name", None)
    return name if name in _MARKS else ""
