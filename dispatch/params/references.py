"""References to other steps' results inside arguments, and the one walk through arguments.

Owns how config writes a reference and where inside an argument a fault lies. Knows neither steps nor graphs.
"""

from __future__ import annotations

from dispatch.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Frozen:
    """A small immutable value with the equality of its slots.

    Stands in for a frozen dataclass in what every step's process imports.
    """

    __slots__: tuple[str, ...] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and other._values() == self._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({inside})"

    def __reduce__(self) -> Any:
        return type(self), self._values()


class ArgumentError(ConfigurationError):
    """An argument is missing, not taken, or not of its type. ``argument`` leads to the place."""

    def __init__(self, argument: str, fact: str, remedy: str = "", step: str = "") -> None:
        place = f"argument {argument!r}" if argument else "arguments"
        super().__init__(f"step {step!r}: {place}: {fact}" if step else f"{place}: {fact}", remedy)
        self.argument = argument
        self.fact = fact
        self.step = step

    def of(self, step: str) -> ArgumentError:
        """The same error, naming the step, unless it names one already that it is about."""
        if self.step:
            return self
        return ArgumentError(self.argument, self.fact, self.remedy, step)


class Mismatch(ArgumentError):
    """A value is not of the annotated type, and that is all there is to say."""


class Dependency:
    """Base of what stands in an argument for the result of another step. It is never converted."""

    __slots__ = ()


class Reference(Frozen, Dependency):
    """The result of the step called ``name``, or the item ``key`` of it (a text or an index)."""

    __slots__ = ("name", "key")  # noqa: RUF023 - the order of __init__
    name: str
    key: str | int | None

    def __init__(self, name: str, key: str | int | None = None) -> None:
        self._set(name=name, key=key)

    def __dispatch_canonical__(self) -> Any:
        return ["ref", self.name, self.key]


def as_dependency(value: Any, at: str = "") -> Any:
    """Return what ``value`` refers to (a Dependency), or None if it is no reference.

    Config writes ``{"type": "ref", "ref": NAME[, "key": KEY]}``; ``type`` may be left out. Raises
    ArgumentError for ``at`` where ``type`` is ``ref`` and the rest is malformed.
    """
    if isinstance(value, Dependency):
        return value
    if type(value) is not dict or ("ref" not in value and value.get("type") != "ref"):
        return None
    name, key = value.get("ref"), value.get("key")
    fits = type(name) is str and (key is None or type(key) in (str, int))
    if fits and value.keys() <= {"type", "ref", "key"} and value.get("type", "ref") == "ref":
        return Reference(str(name), key)
    if value.get("type") == "ref":
        remedy = "write {type: ref, ref: NAME}, and key: KEY for one item of the result"
        raise ArgumentError(at, "holds a malformed reference", remedy)
    return None


DESCEND = object()


def transform(value: Any, visit: Callable[[Any, str], Any], at: str = "") -> Any:
    """Return ``value`` rebuilt with ``visit(part, place)`` for every part for which that is not DESCEND.

    The one walk through arguments: lists, tuples, sets and the values of dicts are entered, outermost first,
    in order.
    """
    found = visit(value, at)
    if found is not DESCEND:
        return found
    kind = type(value)
    if kind is dict:
        return {key: transform(item, visit, join(at, key)) for key, item in value.items()}
    if kind in (list, tuple, set, frozenset):
        return kind(transform(item, visit, f"{at}[{index}]") for index, item in enumerate(value))
    return value


def replace_references(value: Any, substitute: Callable[[Any], Any], at: str = "") -> Any:
    """Return ``value``, which is at ``at``, with ``substitute(reference)`` for every reference inside it."""

    def visit(part: Any, place: str) -> Any:
        dependency = as_dependency(part, place)
        return DESCEND if dependency is None else substitute(dependency)

    return transform(value, visit, at)


def mark_references(value: Any) -> Any:
    """Return ``value`` with a Reference for every reference as config writes it."""
    return replace_references(value, lambda reference: reference)


def find_references(value: Any) -> list[Any]:
    """Return all references inside ``value`` in order; a repeated one is repeated."""
    found: list[Any] = []
    replace_references(value, found.append)
    return found


def join(at: str, name: Any) -> str:
    """Return the place of the item ``name`` inside ``at``."""
    return f"{at}.{name}" if at else str(name)
