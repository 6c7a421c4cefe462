"""Names for classes: what ``type:`` in a config stands for.

Owns the registries, one for each class, and their lookup. A name is registered with its class, or ahead of it
with the place to import it from; a class that is not registered has its place for a name (see ``place``).
Refuses to search: no file is imported to see whether it might register a name.

``FromParams`` is here because objects of registered classes remember what they were made from; how config
becomes arguments is the business of ``params``.
"""

from __future__ import annotations

import re
import sys

from dispatch.errors import ConfigurationError, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Protocol, TypeVar

    _C = TypeVar("_C", bound=type)
    _F = TypeVar("_F", bound="FromParams")

    class Maker(Protocol):
        """What :class:`dispatch.params.Params` is to a class: something that can make it."""

        def construct(self, cls: type[_F]) -> _F:
            """Make an object of ``cls`` or of the subclass that the params name."""


_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,199}")
_TARGET = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*")


class UnknownNameError(ConfigurationError):
    """Nothing is registered under the name."""


class FromParams:
    """Base of classes whose objects can be arguments: made from config by the annotations of ``__init__``.

    An object remembers the arguments it was made with; they are its identity, so changing it afterwards
    does not change the unique id of a step it is given to.
    """

    # In the instance's dictionary and not a slot, so that copies and pickles carry it along.
    _dispatch_arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls: type[_F], *args: Any, **kwargs: Any) -> _F:
        """Make the object as its other bases would, and keep the arguments."""
        make: Callable[..., Any] = super().__new__
        made: _F = make(cls) if make is object.__new__ else make(cls, *args, **kwargs)
        made.__dict__["_dispatch_arguments"] = (args, kwargs)
        return made

    @classmethod
    def from_params(cls: type[_F], params: Maker) -> _F:
        """Make an object of this class, or of the registered subclass that ``type`` names."""
        if not hasattr(params, "construct"):
            raise ConfigurationError(
                f"{cls.__name__}.from_params takes Params, not {type(params).__name__}",
                f"write {cls.__name__}.from_params(Params(…))",
            )
        return params.construct(cls)


class _Entry:
    """What a name stands for: a class and one of its constructors, or the place to import the class from.

    ``module`` is where it was registered, which need not be where the class is.
    """

    __slots__ = ("cls", "constructor", "module", "target")

    def __init__(self, cls: type | None, constructor: str | None, target: str, module: str) -> None:
        self.cls = cls
        self.constructor = constructor
        self.target = target
        self.module = module


class Registrable(FromParams):
    """Base of classes that config names. Each subclass has a registry of its own.

    ``default_implementation`` is the name that is meant where config gives none.
    """

    default_implementation: str | None = None
    RESERVED_NAMES: frozenset[str] = frozenset()

    _registry: dict[str, _Entry] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Give the subclass its own registry."""
        super().__init_subclass__(**kwargs)
        cls._registry = {}

    @classmethod
    def register(
        cls, name: str, exist_ok: bool = False, constructor: str | None = None
    ) -> Callable[[_C], _C]:
        """Return a decorator that registers a subclass under ``name``.

        A class of somebody else's, which is no subclass, can be registered, too. ``constructor`` names a
        class method to make objects with, instead of the class itself. A name can be taken once, unless
        ``exist_ok``; the same class may come again (a reloaded module). Raises ConfigurationError for a name
        that is malformed, reserved or taken.
        """
        module = sys._getframe(1).f_globals.get("__name__", "")

        def decorate(subclass: _C) -> _C:
            cls._put(name, _Entry(subclass, constructor, _target_of(subclass), module), exist_ok)
            return subclass

        cls._check_name(name)
        return decorate

    @classmethod
    def register_lazy(cls, name: str, target: str, exist_ok: bool = False) -> None:
        """Register ``name`` for the class at ``target`` ("module:attribute"), imported when needed."""
        cls._check_name(name)
        if not _TARGET.fullmatch(target):
            raise ConfigurationError(
                f"{cls.__name__} {name!r}: {target!r} is not of the form 'module:attribute'"
            )
        cls._put(name, _Entry(None, None, target, ""), exist_ok)

    @classmethod
    def by_name(cls, name: str) -> Callable[..., Any]:
        """Return the subclass, or its registered constructor, that ``name`` stands for.

        ``name`` is a registered name, or the place of a subclass, "module.Qualname", whose module is imported
        if need be. Raises UnknownNameError, which lists the registered names, or PlaceError.
        """
        for owner, entry in cls._entries(name):
            found = _load(owner, name, entry)
            if owner is cls or issubclass(found, cls):
                return getattr(found, entry.constructor) if entry.constructor else found
        for subclass in _subclasses(cls):
            if f"{subclass.__module__}.{subclass.__qualname__}" == name:
                return subclass
        if "." in name:
            from dispatch import place

            if place.is_place(name):
                return cls._at(name)
        raise cls._unknown(name)

    @classmethod
    def _unknown(cls, name: str, tried: str = "") -> UnknownNameError:
        known = cls.list_available()
        return UnknownNameError(
            f"{cls.__name__}: no {name!r} is registered{tried}{did_you_mean(name, known)}",
            f"registered are: {', '.join(known)}" if known else "is its module imported?",
        )

    @classmethod
    def _at(cls, name: str) -> type[Registrable]:
        """Return the subclass at a place."""
        from dispatch import place

        try:
            found = place.find(name)
        except place.PlaceImportError as error:
            if error.absent:
                raise cls._unknown(name, f", and there is no module {error.absent!r}") from error
            raise
        if not isinstance(found, type) or not issubclass(found, cls):
            raise place.PlaceError(
                f"{name!r}: is no {cls.__name__}, but a {type(found).__name__}",
                f"derive the class from {cls.__name__}",
            )
        return found

    @classmethod
    def list_available(cls) -> list[str]:
        """Return the registered names in alphabetic order, the default implementation first."""
        names = sorted({name for owner in _owners(cls) for name in owner._registry})
        default = cls.default_implementation
        return [default, *(name for name in names if name != default)] if default in names else names

    @classmethod
    def registered_name(cls, subclass: type) -> str | None:
        """Return the first name under which ``subclass`` itself is registered here, or None."""
        for owner in _owners(cls):
            for name, entry in owner._registry.items():
                if entry.cls is subclass and entry.constructor is None:
                    return name
        return None

    @classmethod
    def _entries(cls, name: str) -> Iterator[tuple[type[Registrable], _Entry]]:
        """The entries of ``name`` here and in the classes above, nearest first."""
        for owner in _owners(cls):
            if name in owner._registry:
                yield owner, owner._registry[name]

    @classmethod
    def _check_name(cls, name: str) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"{cls.__name__}: {name!r} cannot be a registered name",
                "use letters, digits and . : - _, and begin with a letter, digit or underscore",
            )
        if name in cls.RESERVED_NAMES:
            raise ConfigurationError(
                f"{cls.__name__}: the name {name!r} is reserved", "register another name"
            )

    @classmethod
    def _put(cls, name: str, entry: _Entry, exist_ok: bool) -> None:
        taken = cls._registry.get(name)
        if taken is not None and not exist_ok and taken.target != entry.target:
            raise ConfigurationError(
                f"{cls.__name__}: the name {name!r} is taken by {taken.target.replace(':', '.')}",
                "register another name, or say exist_ok=True to replace it",
            )
        cls._registry[name] = entry


def modules_of(cls: type[Registrable], name: str) -> set[str]:
    """Return the modules to import so that ``name`` is known to ``cls``: where it was registered, and is."""
    for _, entry in cls._entries(name):
        return {entry.target.partition(":")[0], *filter(None, [entry.module])}
    return set()


def _owners(cls: type[Registrable]) -> Iterator[type[Registrable]]:
    for owner in cls.__mro__:
        if issubclass(owner, Registrable) and owner is not Registrable:
            yield owner


def _subclasses(cls: type) -> Iterator[type]:
    todo = [cls]
    while todo:
        current = todo.pop()
        yield current
        todo.extend(current.__subclasses__())


def _target_of(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _load(owner: type[Registrable], name: str, entry: _Entry) -> type:
    """Return the class of an entry, importing it the first time. Errors of the import are not hidden."""
    if entry.cls is None:
        import importlib

        module, _, path = entry.target.partition(":")
        found: Any = importlib.import_module(module)
        for attribute in path.split("."):
            found = getattr(found, attribute, None)
        if not isinstance(found, type):
            raise ConfigurationError(f"{owner.__name__} {name!r}: there is no class at {entry.target!r}")
        entry.cls = found
    return entry.cls
