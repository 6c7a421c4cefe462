"""What a callable takes, as its keyword arguments meet it.

Reads functions, methods and classes written in Python; refuses callables that do not tell.
"""

from __future__ import annotations

import sys
from types import FunctionType, MethodType

from dispatch.errors import ConfigurationError
from dispatch.params.references import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

REQUIRED = object()
UNANNOTATED = object()

_TAKES_KEYWORDS = 0x08  # CO_VARKEYWORDS of a code object's flags


class Parameter(Frozen):
    """A parameter as it is declared: its annotation unread, and the namespace to read it in."""

    __slots__ = ("name", "annotation", "default", "namespace")  # noqa: RUF023 - the order of __init__
    name: str
    annotation: Any
    default: Any
    namespace: dict[str, Any]

    def __init__(self, name: str, annotation: Any, default: Any, namespace: dict[str, Any]) -> None:
        self._set(name=name, annotation=annotation, default=default, namespace=namespace)


class Signature(Frozen):
    """Parameters by name, in order; ``open`` if others are taken by keyword. ``title`` is for messages."""

    __slots__ = ("parameters", "open", "title")  # noqa: RUF023 - the order of __init__
    parameters: dict[str, Parameter]
    open: bool
    title: str

    def __init__(self, parameters: dict[str, Parameter], open: bool, title: str) -> None:
        self._set(parameters=parameters, open=open, title=title)


def signature_of(called: Callable[..., Any]) -> Signature:
    """Return the signature of a function, a bound method or a class.

    ``**kwargs`` of a class's ``__init__`` are taken to go to the next ``__init__`` above it. Raises
    ConfigurationError for other callables, and for a parameter that can only be given by position.
    """
    if isinstance(called, type):
        return _of_class(called)
    if isinstance(called, MethodType):
        return _of_function(called.__func__, 1)
    return _of_function(called, 0)


def _of_function(called: Any, skip: int) -> Signature:
    while hasattr(called, "__wrapped__"):
        called = called.__wrapped__
    if not isinstance(called, FunctionType):
        raise ConfigurationError(
            f"{called!r}: its parameters cannot be read", "use a function or class written in Python"
        )
    code, title = called.__code__, f"{called.__name__}()"
    positional = code.co_varnames[: code.co_argcount]
    if code.co_posonlyargcount > skip:
        raise ConfigurationError(
            f"{title}: {positional[skip]!r} can only be given by position",
            "remove the '/' from its parameters: arguments come by name",
        )
    names = positional[skip:] + code.co_varnames[code.co_argcount :][: code.co_kwonlyargcount]
    defaults = dict(zip(reversed(positional), reversed(called.__defaults__ or ())))
    defaults.update(called.__kwdefaults__ or {})
    notes = called.__annotations__
    parameters = {
        name: Parameter(name, notes.get(name, UNANNOTATED), defaults.get(name, REQUIRED), called.__globals__)
        for name in names
    }
    return Signature(parameters, bool(code.co_flags & _TAKES_KEYWORDS), title)


def _of_class(cls: type) -> Signature:
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return _of_named_tuple(cls)
    parameters: dict[str, Parameter] = {}
    is_open = True
    for owner in cls.__mro__:
        init = owner.__dict__.get("__init__")
        if init is None:
            continue
        own = _of_function(init, 1) if isinstance(init, FunctionType) else Signature({}, False, "")
        for name, parameter in own.parameters.items():
            parameters.setdefault(name, _of_field(cls, parameter))
        is_open = own.open
        if not is_open:
            break
    return Signature(parameters, is_open, cls.__qualname__)


def _of_named_tuple(cls: Any) -> Signature:
    notes, module = getattr(cls, "__annotations__", {}), sys.modules.get(cls.__module__)
    namespace = {} if module is None else module.__dict__
    parameters = {
        name: Parameter(
            name, notes.get(name, UNANNOTATED), cls._field_defaults.get(name, REQUIRED), namespace
        )
        for name in cls._fields
    }
    return Signature(parameters, False, cls.__qualname__)


def _of_field(cls: type, parameter: Parameter) -> Parameter:
    """Undo what a dataclass's generated ``__init__`` hides: where annotations were written, and factories."""
    field = getattr(cls, "__dataclass_fields__", {}).get(parameter.name)
    if field is None:
        return parameter
    declared = (c for c in cls.__mro__ if parameter.name in vars(c).get("__annotations__", {}))
    module = sys.modules.get(next(declared, cls).__module__)
    namespace = parameter.namespace if module is None else module.__dict__
    default = parameter.default
    if default is not REQUIRED and callable(field.default_factory):
        default = field.default_factory()
    return Parameter(parameter.name, field.type, default, namespace)
