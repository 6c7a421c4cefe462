"""Dataclasses, named tuples and enums inside JSON: by the name of their class.

A class is one that the reader has imported, or that lies in a package which the reading step declares:
importing whatever module a file names would let data run code. An object is made by its fields alone,
without ``__init__``, ``__new__`` or ``__post_init__``. It is written only if that gives it back: its class is
found under its own name in a module (other than ``__main__``, which is another one in the next process), it
has its fields and no further state, and no say in how it is copied.
"""

from __future__ import annotations

import sys
from types import MemberDescriptorType, ModuleType

from dispatch.errors import FormatError
from dispatch.formats.plain import TAG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

_DATACLASS = "__dataclass_fields__"


def encode_object(value: Any, encode: Callable[[Any], Any]) -> Any:
    """Return the JSON of an object of such a class, or None for any other object."""
    cls = type(value)
    name = f"{cls.__module__}:{cls.__qualname__}"
    if cls.__module__ == "__main__" or _loaded(name) is not cls:
        return None
    if _is_enum(cls):
        member = value._name_
        fits = isinstance(member, str) and cls.__dict__["_member_map_"].get(member) is value
        return {TAG: "enum", "class": name, "name": member} if fits else None
    if _is_named_tuple(cls):
        if getattr(value, "__dict__", None):
            return None
        pairs = zip(cls._fields, tuple.__iter__(value))
        return {TAG: "namedtuple", "class": name, "fields": _encoded(pairs, encode)}
    state = _state(value) if _is_dataclass(cls) else None
    if state is None:
        return None
    return {TAG: "dataclass", "class": name, "fields": _encoded(state.items(), encode)}


def _encoded(fields: Any, encode: Callable[[Any], Any]) -> dict[str, Any]:
    from dispatch.formats.tags import NotExactError

    found = {}
    for name, value in fields:
        try:
            found[name] = encode(value)
        except NotExactError as error:
            raise error.inside(f".{name}") from None
    return found


def decode_object(tag: str, raw: dict[str, Any], modules: Collection[str]) -> Any:
    """Return the object. FormatError if its class is not there, or is not what it was."""
    name = raw["class"]
    cls = _loaded(name)
    if cls is None and _may_import(name, modules):
        import importlib

        importlib.import_module(name.partition(":")[0])
        cls = _loaded(name)
    if cls is None:
        module, _, qualname = name.partition(":")
        raise FormatError(
            f"needs the class {qualname} of the module {module}, which has not been imported here",
            f"import {module} in the module of the step that reads it",
        )
    if tag == "enum":
        members = cls.__dict__["_member_map_"] if _is_enum(cls) else {}
        if raw["name"] not in members:
            raise _changed(name, f"no member {raw['name']!r}")
        return members[raw["name"]]
    fields = raw["fields"]
    if tag == "namedtuple":
        if not _is_named_tuple(cls) or [*cls._fields] != [*fields]:
            raise _changed(name, "other fields")
        return tuple.__new__(cls, fields.values())
    if not _is_dataclass(cls) or _fields(cls) != [*fields]:
        raise _changed(name, "other fields")
    return _made(cls, fields, name)


def _changed(name: str, fact: str) -> FormatError:
    return FormatError(
        f"the class {name.replace(':', '.')} has {fact} than when this was written"
        if fact == "other fields"
        else f"the class {name.replace(':', '.')} has {fact} any more",
        "compute the step again that made the result: change its VERSION",
    )


def _loaded(name: str) -> Any:
    """The class of a name, from what is loaded, without running a module's or a class's own look-up."""
    module, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module)
    if not isinstance(found, ModuleType):
        return None
    for part in qualname.split("."):
        found = vars(found).get(part) if isinstance(found, (type, ModuleType)) else None
    if isinstance(found, type) and (found.__module__, found.__qualname__) == (module, qualname):
        return found
    return None


def _may_import(name: str, modules: Collection[str]) -> bool:
    module = name.partition(":")[0]
    if not all(part.isidentifier() for part in module.split(".")):
        return False
    return any(module == each or module.startswith(f"{each}.") for each in modules)


def _is_enum(cls: type) -> bool:
    enum = sys.modules.get("enum")
    return enum is not None and issubclass(cls, enum.Enum) and "_member_map_" in cls.__dict__


def _is_named_tuple(cls: Any) -> bool:
    """Whether ``namedtuple`` or ``NamedTuple`` made the class, or it adds no state to such a class."""
    if not issubclass(cls, tuple) or not isinstance(getattr(cls, "_fields", None), tuple):
        return False
    return (
        all(isinstance(field, str) and field.isidentifier() for field in cls._fields)
        and all(base in (object, tuple) or _is_plain(base) for base in cls.__mro__)
        and sum("_fields" in vars(base) for base in cls.__mro__) == 1
    )


def _is_plain(base: type) -> bool:
    return base.__module__ == "typing" or not {"__reduce__", "__reduce_ex__", "__setstate__"} & {*vars(base)}


def _is_dataclass(cls: type) -> bool:
    """One whose objects are what their fields are: made by ``object.__new__``, copied in the ordinary way."""
    special = ("__reduce_ex__", "__reduce__", "__getattribute__")
    return _DATACLASS in vars(cls) and all(getattr(cls, name) is getattr(object, name) for name in special)


def _fields(cls: Any) -> list[str]:
    from dataclasses import fields

    return [field.name for field in fields(cls)]


def _state(value: Any) -> dict[str, Any] | None:
    """The values of the fields in order, or None if they are not all that the object is made of."""
    cls = type(value)
    names = _fields(cls)
    slots = _slots(cls)
    held = getattr(value, "__dict__", {})
    if {*slots, *held} != {*names} or any(_is_guarded(cls, name) for name in held):
        return None
    try:
        object.__new__(cls)
        return {name: slots[name].__get__(value, cls) if name in slots else held[name] for name in names}
    except (AttributeError, TypeError):
        # A slot that was never set; or a class that has the layout of another type, such as an exception.
        return None


def _made(cls: Any, fields: dict[str, Any], name: str) -> Any:
    slots = _slots(cls)
    made = object.__new__(cls)
    for field, value in fields.items():
        if field in slots:
            slots[field].__set__(made, value)
        elif _is_guarded(cls, field):
            raise _changed(name, "other fields")
        else:
            made.__dict__[field] = value
    return made


def _slots(cls: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        for name, attribute in vars(base).items():
            if isinstance(attribute, MemberDescriptorType):
                found.setdefault(name, attribute)
    return found


def _is_guarded(cls: type, name: str) -> bool:
    """Whether the class runs code of its own when the attribute is set."""
    for base in cls.__mro__:
        if name in vars(base):
            return hasattr(type(vars(base)[name]), "__set__")
    return False
