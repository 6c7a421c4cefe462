"""Config of objects as values: ``Params``, to make one now, and ``Lazy``, to make one later."""

from __future__ import annotations

import collections.abc as abc
from types import GenericAlias

from dispatch.errors import ConfigurationError
from dispatch.params.convert import Converter, mismatch
from dispatch.params.references import ArgumentError, Dependency, join
from dispatch.params.signature import signature_of
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
        converter = _ByInit(_refuse)
        converter.own = cls
        made: T = converter.construct(self.params, cls, "")
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
        if not isinstance(value, (cls, abc.Mapping)):
            raise mismatch(at, cls, value)
        params = value if isinstance(value, Params) else cls(value)
        if not converter.build:
            return params.__dispatch_describe__(converter, at)
        return cls(converter.plain(params.params, at))

    def __dispatch_describe__(self, converter: Converter, at: str) -> Any:
        from dispatch.params.describing import Construction

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
        given = {name: Finished.of(value) for name, value in {**self.extras, **extras}.items()}
        converter = Converter(lambda dependency: dependency.value)
        made: T = converter.construct({**self.params, **given}, self.constructor, "")
        return made

    def __repr__(self) -> str:
        return f"Lazy({self.constructor.__qualname__}, {self.params!r})"

    @classmethod
    def __dispatch_convert__(
        cls, converter: Converter, value: Any, arguments: tuple[Any, ...], at: str
    ) -> Any:
        if isinstance(value, cls):
            resolve = value._resolved if converter.build else value.__dispatch_describe__
            return resolve(converter, at)
        target: Any = getattr(arguments[0], "__origin__", arguments[0]) if arguments else object
        if isinstance(value, str) and issubclass(target, Registrable):
            value = {"type": value}
        if not isinstance(value, abc.Mapping):
            raise mismatch(at, target, value)
        if not converter.build:
            return converter.construct(value, target, at, lazy=True)
        return cls(target, dict(value))._resolved(converter, at)

    def _resolved(self, converter: Converter, at: str) -> Lazy[T]:
        """Return the same with values for references, marked so that nothing looks into them."""

        def resolve(found: Any) -> Any:
            return found if isinstance(found, Finished) else Finished(converter.substitute(found))

        marking = type(converter)(resolve)
        extras = {
            name: value if isinstance(value, Finished) else Finished(converter.plain(value, join(at, name)))
            for name, value in self.extras.items()
        }
        return type(self)(self.constructor, marking.plain(self.params, at), **extras)

    def __dispatch_describe__(self, converter: Converter, at: str) -> Any:
        return converter.construct({**self.params, **self.extras}, self.constructor, at, lazy=True)


class Finished(Dependency):
    """A finished value on its way through the converter, which must not look into it."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    @classmethod
    def of(cls, value: Any) -> Finished:
        """Mark a value, once."""
        return value if isinstance(value, cls) else cls(value)


class _ByInit(Converter):
    """Makes an object of ``own`` by its ``__init__``: it is the ``from_params`` of ``own`` that asks."""

    own: type

    def make_own(self, cls: Any, raw: dict[str, Any], lazy: bool, at: str) -> Any:
        """Make it by ``__init__``, and everything inside it as ever."""
        if cls is not self.own:
            return super().make_own(cls, raw, lazy, at)
        return self.make(cls, Converter(self.substitute).bind(signature_of(cls), raw, at), lazy, at)


_REMEDY = "only an argument of a step can refer to a step"


def _refuse(dependency: Any) -> Any:
    raise ArgumentError("", f"the result of another step cannot be used here: {dependency!r}", _REMEDY)
