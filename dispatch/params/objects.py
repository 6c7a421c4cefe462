"""Config of objects as values: ``Params``, to make one now, and ``Lazy``, to make one later."""

from __future__ import annotations

import collections.abc as abc
from types import GenericAlias

from dispatch.errors import ConfigurationError
from dispatch.params.convert import Construction, Converter, mismatch
from dispatch.params.references import ArgumentError, Dependency, replace_references
from dispatch.registrable import Registrable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, Generic, TypeVar

    T = TypeVar("T")

    class _Subscriptable(Generic[T]):
        """What makes ``Lazy[X]`` known to type checkers."""
else:

    class _Subscriptable:
        """What makes ``Lazy[X]`` an annotation that can be read."""

        __class_getitem__ = classmethod(GenericAlias)


class Params:
    """The config of one object: ``Params({"type": "adam", "lr": 0.1}).construct(Optimizer)``."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = dict(params)

    def construct(self, cls: type[T]) -> T:
        """Make an object of ``cls``, or of the registered subclass that ``type`` names."""
        made: T = Converter(_refuse, True).construct(self.params, cls, "")
        return made

    def as_dict(self) -> dict[str, Any]:
        """Return a copy of what is left."""
        return dict(self.params)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of ``key``."""
        return self.params.get(key, default)

    def pop(self, key: str, *default: Any) -> Any:
        """Remove ``key`` and return its value. ConfigurationError if it is missing and has no default."""
        if key not in self.params and not default:
            raise ConfigurationError(f"{key!r} is missing")
        return self.params.pop(key, *default)

    def assert_empty(self, name: str) -> None:
        """Raise ConfigurationError if anything is left that ``name`` did not take."""
        if self.params:
            raise ConfigurationError(f"{name} does not take {', '.join(map(repr, self.params))}")

    def __contains__(self, key: object) -> bool:
        return key in self.params

    def __getitem__(self, key: str) -> Any:
        return self.params[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.params)

    def __len__(self) -> int:
        return len(self.params)

    def __repr__(self) -> str:
        return f"Params({self.params!r})"

    @classmethod
    def __dispatch_convert__(cls, converter: Converter, value: Any, _: tuple[Any, ...], at: str) -> Any:
        if isinstance(value, abc.Mapping):
            value = cls(converter.plain(dict(value), at))
        if not isinstance(value, cls):
            raise mismatch(at, cls, value)
        return value if converter.build else value.__dispatch_describe__(converter, at)

    def __dispatch_describe__(self, converter: Converter, at: str) -> Any:
        return Construction("dispatch.Params", {"params": converter.plain(self.params, at)})


class Lazy(_Subscriptable["T"]):
    """An object whose making is put off until ``construct``, which may add arguments that config cannot know.

    Annotate with ``Lazy[Optimizer]``. ``params`` is config as it would make the object at once.
    """

    def __init__(self, constructor: type[T], params: Mapping[str, Any] | None = None, **extras: Any) -> None:
        self.constructor = constructor
        self.params = dict(params or {})
        self.extras = extras

    def construct(self, **extras: Any) -> T:
        """Make the object; ``extras`` are taken as they are and prevail over what config says."""
        given = {name: _Value(value) for name, value in {**self.extras, **extras}.items()}
        converter = Converter(lambda dependency: dependency.value, True)
        made: T = converter.construct({**self.params, **given}, self.constructor, "")
        return made

    def __repr__(self) -> str:
        return f"Lazy({self.constructor.__qualname__}, {self.params!r})"

    @classmethod
    def __dispatch_convert__(
        cls, converter: Converter, value: Any, arguments: tuple[Any, ...], at: str
    ) -> Any:
        if isinstance(value, cls):
            return value if converter.build else value.__dispatch_describe__(converter, at)
        target: Any = getattr(arguments[0], "__origin__", arguments[0]) if arguments else object
        if isinstance(value, str) and issubclass(target, Registrable):
            value = {"type": value}
        if not isinstance(value, abc.Mapping):
            raise mismatch(at, target, value)
        if not converter.build:
            return converter.construct(value, target, at, lazy=True)
        return cls(target, replace_references(dict(value), lambda found: _Value(converter.substitute(found))))

    def __dispatch_describe__(self, converter: Converter, at: str) -> Any:
        return converter.construct({**self.params, **self.extras}, self.constructor, at, lazy=True)


class _Value(Dependency):
    """A finished value on its way through the converter, which must not look into it."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


_REMEDY = "only an argument of a step can refer to a step"


def _refuse(dependency: Any) -> Any:
    raise ArgumentError("", f"the result of another step cannot be used here: {dependency!r}", _REMEDY)
