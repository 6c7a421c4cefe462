"""The same conversion without making anything: a Construction stands for each object.

What a step's identity is made of. A running step never loads this.
"""

from __future__ import annotations

from types import MethodType

from dispatch.fingerprint import construction, qualified_name
from dispatch.params.convert import Converter
from dispatch.params.references import (
    DESCEND,
    ArgumentError,
    Dependency,
    Frozen,
    as_dependency,
    join,
    transform,
)
from dispatch.params.signature import REQUIRED, Parameter, signature_of
from dispatch.registrable import FromParams, modules_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


class Construction(Frozen):
    """An object that is not made yet: by which constructor, from which typed arguments.

    ``made`` is the object all the same where it is plain data, or None. It does not count in comparisons.
    """

    __slots__ = ("constructor", "arguments", "lazy", "made")  # noqa: RUF023 - the order of __init__
    constructor: str
    arguments: dict[str, Any]
    lazy: bool
    made: Any

    def __init__(
        self, constructor: str, arguments: dict[str, Any], lazy: bool = False, made: Any = None
    ) -> None:
        self._set(constructor=constructor, arguments=arguments, lazy=lazy, made=made)

    def _values(self) -> tuple[Any, ...]:
        return (self.constructor, self.arguments, self.lazy)

    def __dispatch_canonical__(self) -> Any:
        return construction(self.constructor, self.arguments, lazy=self.lazy)


class Describer(Converter):
    """Converts as :class:`Converter` does, and makes nothing of the user's but plain data.

    ``modules`` are those that have to be imported for the names of classes that were met to be known.
    """

    build = False

    def __init__(self, substitute: Callable[[Any], Any]) -> None:
        super().__init__(substitute)
        self.modules: set[str] = set()

    def note(self, cls: type, name: str) -> None:
        """Remember which modules make ``name`` known to ``cls``."""
        self.modules.update(modules_of(cls, name))

    def make(self, constructor: Callable[..., Any], bound: dict[str, Any], lazy: bool, at: str) -> Any:  # noqa: ARG002
        """Say how the object would be made."""
        return Construction(_constructor_name(constructor), bound, lazy)

    def make_own(self, cls: Any, raw: dict[str, Any], lazy: bool, at: str) -> Any:
        """Say how ``from_params`` of the class would be called: what it takes is its own business."""
        return Construction(f"{qualified_name(cls)}.from_params", {"params": self.plain(raw, at)}, lazy)

    def make_data(self, cls: type, bound: dict[str, Any], at: str) -> Any:
        """Make plain data, since its ``__post_init__`` may change what it was given, and refuse it.

        So it is in Python, where it is made before a step is given it, with other steps for their results.
        It is run on these stand-ins here, too, and where it refuses them, nothing is changed.
        """
        given = {name: _made(value) for name, value in bound.items()}
        try:
            made = cls(**given)
        except Exception as error:
            if _holds_placeholders(given):
                return Construction(qualified_name(cls), bound)
            fact = f"{cls.__qualname__} refuses it: {type(error).__name__}: {error}"
            raise ArgumentError(at, fact, "correct the value") from error
        now = _made_from(made)
        parameters = signature_of(cls).parameters
        for name, value in given.items():
            if now.get(name, value) is not value:
                bound[name] = self._typed(parameters[name], now[name], at)
        return Construction(qualified_name(cls), bound, made=made)

    def plain(self, value: Any, at: str) -> Any:
        """Return ``value`` with a Construction for each object that tells what it was made from."""

        def visit(part: Any, place: str) -> Any:
            dependency = as_dependency(part, place)
            if dependency is not None:
                return self.substitute(dependency)
            if isinstance(part, Construction):
                return part
            own = getattr(type(part), "__dispatch_describe__", None)
            if own is not None:
                return own(part, self, place)
            given = made_from(part)
            return DESCEND if given is None else self._describe_object(type(part), given, place)

        return transform(value, visit, at)

    def _describe_object(self, cls: type, given: Mapping[str, Any], at: str) -> Construction:
        """Describe an object made in Python as if config had made it, as far as its arguments fit."""
        bound = {}
        for name, declared in signature_of(cls).parameters.items():
            value = given.get(name, declared.default)
            if value is not REQUIRED:
                bound[name] = self._typed(declared, value, at)
        bound.update((name, self.plain(given[name], join(at, name))) for name in given if name not in bound)
        return Construction(qualified_name(cls), bound)

    def _typed(self, declared: Parameter, value: Any, at: str) -> Any:
        parameter = Parameter(declared.name, declared.annotation, value, declared.namespace)
        return self.default(parameter, join(at, declared.name))


def made_from(value: Any) -> dict[str, Any] | None:
    """Return the arguments that an object made in Python was made from, or None if it does not tell."""
    cls = type(value)
    if isinstance(value, FromParams):
        positional, keywords = value._dispatch_arguments
        return {**dict(zip(signature_of(cls).parameters, positional)), **keywords}
    if hasattr(cls, "__dataclass_fields__") or (isinstance(value, tuple) and hasattr(cls, "_fields")):
        given = _made_from(value)
        # With an InitVar, or an __init__ of its own, it does not tell what it was made from.
        return given if given.keys() == signature_of(cls).parameters.keys() else None
    return None


def _made_from(value: Any) -> dict[str, Any]:
    if isinstance(value, tuple):
        return dict(zip(value._fields, value))  # type: ignore[attr-defined]
    import dataclasses

    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}


def _made(value: Any) -> Any:
    """Put made data in the place of what describes it."""

    def visit(part: Any, _: str) -> Any:
        if isinstance(part, Construction):
            return part if part.made is None else part.made
        return part if isinstance(part, Dependency) else DESCEND

    return transform(value, visit) if _holds_placeholders(value) else value


def _holds_placeholders(value: Any) -> bool:
    found = []

    def visit(part: Any, _: str) -> Any:
        if isinstance(part, (Dependency, Construction)):
            found.append(part)
            return part
        return DESCEND

    transform(value, visit)
    return bool(found)


def _constructor_name(constructor: Any) -> str:
    if isinstance(constructor, MethodType) and isinstance(constructor.__self__, type):
        return f"{qualified_name(constructor.__self__)}.{constructor.__name__}"
    return qualified_name(constructor)
