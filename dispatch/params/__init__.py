"""From config to typed arguments: plain data goes in, what the annotations of a callable say comes out.

``references`` owns what a reference to another step's result looks like inside arguments, and the one walk
that finds and replaces them; ``signature`` reads callables, ``hints`` reads types, ``convert`` puts
them together. Every mismatch is an ArgumentError naming the step, the place inside the argument, and both
types. Refuses to guess: text is never read as a number, and a value never loses a part on its way.

Neither ``inspect`` nor ``typing`` nor ``dataclasses`` is imported: each costs the start of a step's process
more than all of this. What they would tell is read from the objects themselves. ``Params``, ``Lazy`` and
what only describing needs are loaded when they are asked for.
"""

from __future__ import annotations

from dispatch.params.convert import bind_arguments
from dispatch.params.references import (
    DESCEND,
    ArgumentError,
    Dependency,
    Frozen,
    Reference,
    as_dependency,
    find_references,
    mark_references,
    replace_references,
    transform,
)
from dispatch.params.signature import REQUIRED, Parameter, Signature, signature_of
from dispatch.registrable import FromParams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dispatch.params.describing import Construction
    from dispatch.params.objects import Lazy, Params

__all__ = [
    "ArgumentError",
    "Construction",
    "DESCEND",
    "Dependency",
    "FromParams",
    "Frozen",
    "Lazy",
    "Parameter",
    "Params",
    "REQUIRED",
    "Reference",
    "Signature",
    "as_dependency",
    "bind_arguments",
    "find_references",
    "mark_references",
    "replace_references",
    "signature_of",
    "transform",
]


def __getattr__(name: str) -> Any:
    if name in ("Lazy", "Params"):
        from dispatch.params import objects

        return getattr(objects, name)
    if name == "Construction":
        from dispatch.params.describing import Construction

        return Construction
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
