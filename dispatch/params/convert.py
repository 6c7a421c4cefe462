"""Conversion of plain data to what annotations say, and of config to objects.

Builds: objects are made, and references are values. ``describing`` has the other way, in which nothing is
made and references are stand-ins.
"""

from __future__ import annotations

import collections.abc as abc

from dispatch.errors import ConfigurationError, did_you_mean
from dispatch.params import hints
from dispatch.params.references import ArgumentError, Mismatch, as_dependency, join, replace_references
from dispatch.params.signature import REQUIRED, UNANNOTATED, Parameter, Signature, signature_of
from dispatch.registrable import FromParams, Registrable, UnknownNameError

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
    converter = Converter(substitute) if build else _describer(substitute)
    try:
        return converter.bind(signature_of(run_callable), raw, "")
    except ArgumentError as error:
        raise error.of(step) from error.__cause__


def _describer(substitute: Callable[[Any], Any]) -> Converter:
    from dispatch.params.describing import Describer

    return Describer(substitute)


_SCALARS = (bool, int, str, float, bytes, type(None))
_LISTS = (list, abc.Sequence, abc.MutableSequence, abc.Iterable, abc.Collection, abc.Reversible)
_SETS = (set, frozenset, abc.Set, abc.MutableSet)
_DICTS = (dict, abc.Mapping, abc.MutableMapping)


class Converter:
    """One conversion; ``substitute`` gives what stands for a reference.

    A class that knows better may bring ``__dispatch_convert__(converter, value, arguments of the
    annotation, at)`` as a class method, and ``__dispatch_describe__(self, converter, at)``.
    """

    build = True

    def __init__(self, substitute: Callable[[Any], Any]) -> None:
        self.substitute = substitute
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
        """Make an object of ``cls`` from config: by the constructor that ``type`` names, or its own.

        A class with a ``from_params`` of its own is given its config as it is.
        """
        if isinstance(raw, str) and issubclass(cls, Registrable):
            raw = {"type": raw}
        if not isinstance(raw, abc.Mapping):
            raise mismatch(at, cls, raw)
        raw = dict(raw)
        constructor = self._constructor(raw, cls, at) if issubclass(cls, Registrable) else cls
        if _has_own_from_params(constructor):
            return self.make_own(constructor, raw, lazy, at)
        bound = self.bind(signature_of(constructor), raw, at, partial=lazy)
        return self.make(constructor, bound, lazy, at)

    def make(self, constructor: Callable[..., Any], bound: dict[str, Any], lazy: bool, at: str) -> Any:  # noqa: ARG002
        """Make an object."""
        return constructor(**bound)

    def make_own(self, cls: Any, raw: dict[str, Any], lazy: bool, at: str) -> Any:  # noqa: ARG002
        """Make an object by the ``from_params`` of its class."""
        from dispatch.params.objects import Params

        return cls.from_params(Params(self.plain(raw, at)))

    def make_data(self, cls: type, bound: dict[str, Any], at: str) -> Any:  # noqa: ARG002
        """Make a dataclass or a named tuple."""
        return cls(**bound)

    def note(self, cls: type, name: str) -> None:
        """Take notice of a name that was looked up in the registry of ``cls``."""

    def _constructor(self, raw: dict[str, Any], cls: type[Registrable], at: str) -> Callable[..., Any]:
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
            found = cls.by_name(name)
        except ConfigurationError as error:
            remedy = error.remedy
            if isinstance(error, UnknownNameError):
                from dispatch.params.complaints import unregistered

                remedy = unregistered(cls, error)
            raise ArgumentError(place, error.message, remedy) from error
        self.note(cls, name)
        return found

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
                    if error.step:
                        # It is not about this value, but about another step, which was run for it.
                        raise
                    errors.append(error)
                finally:
                    self._exact = outer
        telling = [error for error in errors if len(error.argument) > len(at) or type(error) is not Mismatch]
        if not telling:
            raise mismatch(at, annotation, value)
        raise max(telling, key=lambda error: len(error.argument))

    def _convert_dict(self, value: Any, annotation: Any, inside: tuple[Any, Any], at: str) -> Any:
        """Convert a mapping. Keys travel as JSON, where all are texts: those of numbers become numbers."""
        arguments, namespace = inside
        if not isinstance(value, abc.Mapping):
            raise mismatch(at, annotation, value)
        keys, values = arguments if len(arguments) == 2 else (UNANNOTATED, UNANNOTATED)
        converted: dict[Any, Any] = {}
        for name, item in value.items():
            key = self._convert_key(name, keys, namespace, f"{at}[{name!r}]")
            if key in converted:
                raise ArgumentError(f"{at}[{name!r}]", f"is {key!r} once more", "remove one of the two")
            converted[key] = self.convert(item, values, namespace, join(at, key))
        return converted

    def _convert_key(self, key: Any, annotation: Any, namespace: dict[str, Any], at: str) -> Any:
        try:
            return self.convert(key, annotation, namespace, at)
        except ArgumentError:
            for number in _numbers(key):
                return self.convert(number, annotation, namespace, at)
            raise

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
        if hasattr(cls, "__total__"):
            return self._convert_typed_dict(value, cls, at)
        if hints.is_instance(value, cls):
            return self.plain(value, at)
        if not self._exact:
            for found in _from_scalar(value, cls):
                return found
        if issubclass(cls, FromParams):
            return self.construct(value, cls, at)
        named = getattr(cls, "_fields", None) if issubclass(cls, tuple) else None
        if named is not None and isinstance(value, (list, tuple)) and len(value) <= len(named):
            value = dict(zip(named, value))
        if isinstance(value, abc.Mapping) and (named is not None or hasattr(cls, "__dataclass_fields__")):
            return self.make_data(cls, self.bind(signature_of(cls), value, at), at)
        raise mismatch(at, cls, value)

    def _convert_typed_dict(self, value: Any, cls: type, at: str) -> Any:
        from dispatch.params.typed_dict import signature_of_typed_dict

        if not isinstance(value, abc.Mapping):
            raise mismatch(at, cls, value)
        bound = self.bind(signature_of_typed_dict(cls, at), value, at)
        return {name: item for name, item in bound.items() if name in value}

    def plain(self, value: Any, at: str) -> Any:
        """Return ``value`` with its references replaced, and otherwise as it is."""
        return replace_references(value, self.substitute, at)


def _has_own_from_params(constructor: Any) -> bool:
    """Whether a class brings its own ``from_params``, and does not merely inherit ours."""
    own = getattr(constructor, "from_params", None)
    return isinstance(constructor, type) and getattr(own, "__func__", None) not in (
        None,
        FromParams.from_params.__func__,  # type: ignore[attr-defined]
    )


def _members(kind: type, arguments: tuple[Any, ...], length: int) -> Iterable[Any] | None:
    """The annotations of ``length`` items, or None if a tuple of that length does not fit."""
    if kind is tuple and arguments and arguments[1:] != (Ellipsis,):
        members = () if arguments == ((),) else arguments
        return members if len(members) == length else None
    return (arguments[0] if arguments else UNANNOTATED,) * length


def _numbers(key: Any) -> Iterator[float]:
    """Yield the number that a key of JSON stands for, if it does."""
    try:
        yield int(key) if key.lstrip("-").isdecimal() else float(key)
    except (ValueError, AttributeError):
        return


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


def mismatch(at: str, annotation: Any, value: Any) -> Mismatch:
    """Return the error for a value at ``at`` that is not of the annotated type."""
    from dispatch.params import complaints

    return complaints.mismatch(at, annotation, value)
