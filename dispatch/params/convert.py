"""Conversion of plain data to what annotations say, and of config to objects.

Works in two ways. While *building*, objects are made and references are values. While *describing*,
references are placeholders, and a Construction stands for each object: nothing of the user's is made but
dataclasses.
"""

from __future__ import annotations

import collections.abc as abc
from types import MethodType

from dispatch.errors import ConfigurationError, did_you_mean
from dispatch.params import hints
from dispatch.params.references import (
    DESCEND,
    ArgumentError,
    Dependency,
    Frozen,
    as_dependency,
    join,
    transform,
)
from dispatch.params.signature import REQUIRED, UNANNOTATED, Parameter, Signature, signature_of
from dispatch.registrable import FromParams, Registrable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any


def bind_arguments(
    run_callable: Callable[..., Any],
    raw: Mapping[str, Any],
    *,
    substitute: Callable[[Any], Any],
    build: bool = True,
    step: str = "",
) -> dict[str, Any]:
    """Return the typed keyword arguments of a call, defaults included, in the order of the parameters.

    ``raw`` is what config says; values that have their type already are taken as they are. ``substitute``
    gives what stands for a reference, and that is not looked into. ``build`` chooses between building and
    describing. Raises ArgumentError, naming ``step``.
    """
    try:
        return Converter(substitute, build).bind(signature_of(run_callable), raw, "")
    except ArgumentError as error:
        raise error.of(step) from error.__cause__


class Construction(Frozen):
    """An object that is not made yet: by which constructor, from which typed arguments."""

    __slots__ = ("constructor", "arguments", "lazy")  # noqa: RUF023 - the order of __init__
    constructor: str
    arguments: dict[str, Any]
    lazy: bool

    def __init__(self, constructor: str, arguments: dict[str, Any], lazy: bool = False) -> None:
        self._set(constructor=constructor, arguments=arguments, lazy=lazy)

    def __dispatch_canonical__(self) -> Any:
        from dispatch.fingerprint import construction

        return construction(self.constructor, self.arguments, lazy=self.lazy)


_SCALARS = (bool, int, str, float, bytes, type(None))
_LISTS = (list, abc.Sequence, abc.MutableSequence, abc.Iterable, abc.Collection, abc.Reversible)
_SETS = (set, frozenset, abc.Set, abc.MutableSet)
_DICTS = (dict, abc.Mapping, abc.MutableMapping)


class Converter:
    """One conversion: what stands for references, and whether it builds or describes.

    A class that knows better may bring ``__dispatch_convert__(converter, value, arguments of the
    annotation, at)`` as a class method, and ``__dispatch_describe__(self, converter, at)``.
    """

    def __init__(self, substitute: Callable[[Any], Any], build: bool) -> None:
        self.substitute = substitute
        self.build = build
        # On the first pass over a union's members, only an exact match counts.
        self._exact = False

    def bind(
        self, signature: Signature, raw: Mapping[str, Any], at: str, partial: bool = False
    ) -> dict[str, Any]:
        """Return the arguments of a call. ``partial`` lets required ones be missing."""
        known = list(signature.parameters)
        for name in raw:
            if name not in signature.parameters and not signature.open:
                fact = f"{signature.title} does not take it{did_you_mean(str(name), known)}"
                raise ArgumentError(join(at, name), fact, f"it takes: {', '.join(known) or 'nothing'}")
        bound = {}
        for name, parameter in signature.parameters.items():
            place = join(at, name)
            if name in raw:
                bound[name] = self.convert(raw[name], parameter.annotation, parameter.namespace, place)
            elif parameter.default is not REQUIRED:
                bound[name] = self.default(parameter, place)
            elif not partial:
                raise ArgumentError(
                    place, f"is missing, and {signature.title} needs it", "add it to the config"
                )
        for name, value in raw.items():
            if name not in bound:
                bound[name] = self.plain(value, join(at, name))
        return bound

    def default(self, parameter: Parameter, at: str) -> Any:
        """A default, converted like config, so that leaving it out means the same as writing it out.

        Python allows any default, also one that the annotation excludes: that one stays as it is.
        """
        exact, self._exact = self._exact, False
        try:
            return self.convert(parameter.default, parameter.annotation, parameter.namespace, at)
        except ArgumentError:
            return self.plain(parameter.default, at)
        finally:
            self._exact = exact

    def construct(self, raw: Any, cls: type, at: str, lazy: bool = False) -> Any:
        """Make an object of ``cls`` from config, or say how it would be made."""
        if isinstance(raw, str) and issubclass(cls, Registrable):
            raw = {"type": raw}
        if not isinstance(raw, abc.Mapping):
            raise mismatch(at, cls, raw)
        raw = dict(raw)
        constructor = _constructor(raw, cls, at) if issubclass(cls, Registrable) else cls
        bound = self.bind(signature_of(constructor), raw, at, partial=lazy)
        if self.build:
            return constructor(**bound)
        return Construction(_constructor_name(constructor), bound, lazy)

    def convert(self, value: Any, annotation: Any, namespace: dict[str, Any], at: str) -> Any:
        """Return ``value`` as ``annotation``, read in ``namespace``, wants it."""
        dependency = as_dependency(value, at)
        if dependency is not None:
            return self.substitute(dependency)
        annotation = hints.read(annotation, namespace, at)
        if annotation is UNANNOTATED or hints.is_anything(annotation):
            return self.plain(value, at)
        if hints.is_union(annotation):
            return self._convert_union(value, annotation, namespace, at)
        origin = getattr(annotation, "__origin__", annotation)
        arguments = () if origin is annotation else getattr(annotation, "__args__", ())
        if hints.is_literal(annotation):
            if any(type(value) is type(member) and value == member for member in arguments):
                return value
            raise mismatch(at, annotation, value)
        if not isinstance(origin, type):
            return self.plain(value, at)
        if origin in _DICTS:
            return self._convert_dict(value, annotation, (arguments, namespace), at)
        if origin is tuple or origin in _LISTS or origin in _SETS:
            return self._convert_items(value, annotation, (origin, arguments, namespace), at)
        own = getattr(origin, "__dispatch_convert__", None)
        if own is not None:
            inside = tuple(hints.read(argument, namespace, at) for argument in arguments)
            return own(self, value, inside, at)
        return self._convert_class(value, origin, at)

    def _convert_union(self, value: Any, annotation: Any, namespace: dict[str, Any], at: str) -> Any:
        """Convert to the first member that matches exactly, else to the first that can be converted to.

        If none can, the member that got furthest into the value tells best what is wrong.
        """
        errors: list[ArgumentError] = []
        outer = self._exact
        for exact in (True,) if outer else (True, False):
            errors.clear()
            for member in annotation.__args__:
                self._exact = exact
                try:
                    return self.convert(value, member, namespace, at)
                except ArgumentError as error:
                    errors.append(error)
                finally:
                    self._exact = outer
        deepest = max(errors, key=lambda error: len(error.argument))
        raise deepest if len(deepest.argument) > len(at) else mismatch(at, annotation, value)

    def _convert_dict(self, value: Any, annotation: Any, inside: tuple[Any, Any], at: str) -> Any:
        """Convert a mapping. Keys travel as JSON, where all are texts: digits become an integer again."""
        arguments, namespace = inside
        if not isinstance(value, abc.Mapping):
            raise mismatch(at, annotation, value)
        keys, values = arguments if len(arguments) == 2 else (UNANNOTATED, UNANNOTATED)
        keys = hints.read(keys, namespace, at)
        converted = {}
        for key, item in value.items():
            if keys is int and type(key) is str and key.lstrip("-").isdecimal():
                key = int(key)
            key = self.convert(key, keys, namespace, f"{at}[{key!r}]")
            converted[key] = self.convert(item, values, namespace, join(at, key))
        return converted

    def _convert_items(self, value: Any, annotation: Any, inside: tuple[Any, Any, Any], at: str) -> Any:
        """Convert a list, set or tuple. Config has only lists; a value of the right kind keeps its type."""
        kind, arguments, namespace = inside
        lenient: Any = () if self._exact else (list, tuple)
        made: Any = tuple if kind is tuple else set
        accepted: Any = (tuple, *lenient)
        if kind in _SETS:
            accepted = (set, frozenset, *lenient)
            made = frozenset if kind is frozenset or type(value) is frozenset else set
        elif kind in _LISTS:
            accepted = (list, *lenient) if kind in (list, abc.MutableSequence) else (list, tuple)
            made = tuple if type(value) is tuple and kind not in (list, abc.MutableSequence) else list
        members = _members(kind, arguments, len(value)) if isinstance(value, accepted) else None
        if members is None:
            raise mismatch(at, annotation, value)
        return made(
            self.convert(item, member, namespace, f"{at}[{index}]")
            for index, (item, member) in enumerate(zip(value, members))
        )

    def _convert_class(self, value: Any, cls: type, at: str) -> Any:
        """Convert to a class that is no container."""
        if cls in _SCALARS:
            if type(value) is cls:
                return value
            # Beyond 2**1000 a float could overflow, and says nothing of the integer anyway.
            if cls is float and type(value) is int and not self._exact and value.bit_length() < 1000:
                return float(value)
            raise mismatch(at, cls, value)
        if hints.is_instance(value, cls):
            return self.plain(value, at)
        if not self._exact:
            for found in _from_scalar(value, cls):
                return found
        if issubclass(cls, FromParams):
            return self.construct(value, cls, at)
        if hasattr(cls, "__dataclass_fields__"):
            return self._construct_dataclass(value, cls, at)
        raise mismatch(at, cls, value)

    def _construct_dataclass(self, value: Any, cls: type, at: str) -> Any:
        """Make a dataclass, while describing, too, unless it holds what is not there yet: it is data.

        So what its ``__post_init__`` refuses is known before anything runs.
        """
        if not isinstance(value, abc.Mapping):
            raise mismatch(at, cls, value)
        bound = self.bind(signature_of(cls), value, at)
        if self.build:
            return cls(**bound)
        if not _holds_placeholders(bound):
            try:
                made = cls(**bound)
            except Exception as error:
                fact = f"{cls.__qualname__} refuses it: {type(error).__name__}: {error}"
                raise ArgumentError(at, fact, "correct the value") from error
            kept = _made_from(made)
            bound = {name: kept.get(name, given) for name, given in bound.items()}
        return Construction(_name_of(cls), bound)

    def plain(self, value: Any, at: str) -> Any:
        """Return ``value`` with its references replaced, and otherwise as it is.

        While describing, a Construction stands for each object that tells what it was made from.
        """

        def visit(part: Any, place: str) -> Any:
            dependency = as_dependency(part, place)
            if dependency is not None:
                return self.substitute(dependency)
            if self.build:
                return DESCEND
            own = getattr(type(part), "__dispatch_describe__", None)
            if own is not None:
                return own(part, self, place)
            if isinstance(part, FromParams):
                positional, keywords = part._dispatch_arguments
                given = {**dict(zip(signature_of(type(part)).parameters, positional)), **keywords}
                return self._describe_object(type(part), given, place)
            if hasattr(type(part), "__dataclass_fields__"):
                given = _made_from(part)
                # With an InitVar, or an __init__ of its own, it does not tell what it was made from.
                known = given.keys() == signature_of(type(part)).parameters.keys()
                return self._describe_object(type(part), given, place) if known else part
            return DESCEND

        return transform(value, visit, at)

    def _describe_object(self, cls: type, given: Mapping[str, Any], at: str) -> Construction:
        """Describe an object made in Python as if config had made it, as far as its arguments fit."""
        bound = {}
        for name, declared in signature_of(cls).parameters.items():
            value = given.get(name, declared.default)
            if value is not REQUIRED:
                parameter = Parameter(name, declared.annotation, value, declared.namespace)
                bound[name] = self.default(parameter, join(at, name))
        bound.update((name, self.plain(given[name], join(at, name))) for name in given if name not in bound)
        return Construction(_name_of(cls), bound)


def _constructor(raw: dict[str, Any], cls: type[Registrable], at: str) -> Callable[..., Any]:
    """Take ``type`` out of ``raw`` and return what it names."""
    place = join(at, "type")
    name = raw.pop("type", cls.default_implementation)
    if name is None:
        if not cls._registry:
            return cls
        known = ", ".join(cls.list_available())
        raise ArgumentError(place, f"is missing; it says which {cls.__name__}", f"one of: {known}")
    if not isinstance(name, str):
        raise mismatch(place, str, name)
    try:
        return cls.by_name(name)
    except ConfigurationError as error:
        raise ArgumentError(place, error.message, error.remedy) from error


def _name_of(cls: type) -> str:
    # Only describing needs it: a step that runs does not pay for importing what identities are made with.
    from dispatch.fingerprint import qualified_name

    return qualified_name(cls)


def _constructor_name(constructor: Any) -> str:
    if isinstance(constructor, MethodType) and isinstance(constructor.__self__, type):
        return f"{_name_of(constructor.__self__)}.{constructor.__name__}"
    return _name_of(constructor)


def _holds_placeholders(value: Any) -> bool:
    found = []

    def visit(part: Any, _: str) -> Any:
        if isinstance(part, (Dependency, Construction)):
            found.append(part)
            return part
        return DESCEND

    transform(value, visit)
    return bool(found)


def _made_from(value: Any) -> dict[str, Any]:
    """What the constructor of a dataclass was given, as far as the object tells."""
    import dataclasses

    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}


def _members(kind: type, arguments: tuple[Any, ...], length: int) -> Iterable[Any] | None:
    """The annotations of ``length`` items, or None if a tuple of that length does not fit."""
    if kind is tuple and arguments and arguments[1:] != (Ellipsis,):
        members = () if arguments == ((),) else arguments
        return members if len(members) == length else None
    return (arguments[0] if arguments else UNANNOTATED,) * length


def _from_scalar(value: Any, cls: type) -> Iterator[Any]:
    """Yield the path or the member of an enum that config writes as text or number, if ``cls`` is one."""
    members = hints.members_of_enum(cls)
    if members is not None:
        yield from (m for m in members.values() if type(m.value) is type(value) and m.value == value)
        if type(value) is str and value in members:
            yield members[value]
    elif type(value) is str and (hints.is_path(cls) or f"{cls.__module__}.{cls.__name__}" == "os.PathLike"):
        import pathlib

        yield cls(value) if hints.is_path(cls) else pathlib.Path(value)


def mismatch(at: str, annotation: Any, value: Any) -> ArgumentError:
    """Return the error for a value at ``at`` that is not of the annotated type."""
    shown = f" {value!r}" if type(value) in (bool, int, float, str) and len(repr(value)) <= 40 else ""
    fact = f"expected {hints.type_text(annotation)}, got {type(value).__name__}{shown}"
    remedy = "correct the value"
    if annotation is str and type(value) in (bool, int, float):
        remedy = "put it in quotes"
    elif annotation in (int, float, bool) and type(value) is str:
        remedy = "write it without quotes (and 1e-3 as 1.0e-3, which YAML takes for a number)"
    return ArgumentError(at, fact, remedy)
