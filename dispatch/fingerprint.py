"""Canonical encoding of values, digests of it, and the unique ids of steps: scheme 1.

Owns what a step's identity is made of. The encoding is a tree of lists that begin with a tag, so no two
values of different types meet; it depends on nothing but the value: not on the machine, the hash seed, the
order of keywords, the version of Python or of this package. Refuses every value for which that cannot be
promised. The vectors in ``tests/golden/identity.json`` are added to, never changed.

Types match exactly: a subclass of ``dict`` or ``float`` may mean more than its base, so it is refused, too.
"""

from __future__ import annotations

import json
import re

from dispatch.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

SCHEME = 1
DIGEST_LENGTH = 32

_CLASS = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_VERSION = re.compile(r"[A-Za-z0-9_.]{1,32}")


class FingerprintError(ConfigurationError):
    """A value has no canonical encoding. ``path`` leads to it from the value that was asked for."""

    def __init__(self, fact: str, remedy: str = "", path: str = "") -> None:
        super().__init__(f"{path.lstrip('.')}: {fact}" if path else fact, remedy)
        self.fact = fact
        self.path = path

    def under(self, part: str) -> FingerprintError:
        """The same error, seen from one level further out."""
        return FingerprintError(self.fact, self.remedy, part + self.path)


def canonical(value: Any) -> Any:
    """Return the canonical tree of ``value``, which consists of what JSON can hold.

    Objects may bring their own tree by a method ``__dispatch_canonical__()``. Raises FingerprintError
    naming the place inside ``value`` that has no canonical encoding.
    """
    try:
        return _encode(value)
    except RecursionError:
        raise FingerprintError("is nested too deeply, or contains itself") from None


def digest(tree: Any) -> str:
    """Return the digest of a canonical tree: 32 characters of lower-case base32."""
    import base64
    import hashlib

    text = json.dumps(tree, ensure_ascii=True, separators=(",", ":"))
    hashed = hashlib.sha256(text.encode("ascii")).digest()
    return base64.b32encode(hashed).decode("ascii").lower()[:DIGEST_LENGTH]


def unique_id(
    class_name: str, version: str | None, type_name: str, format_tree: Any, arguments_tree: Any
) -> str:
    """Return ``Class[-VERSION]-digest``, the identity of a step.

    ``format_tree`` is the canonical tree of ``{"name": …, "version": …}`` of the step's format (of None
    where the step has none), ``arguments_tree`` that of its arguments with every reference resolved (see
    ``resolve``). The digest is always the last 32 characters. Raises ConfigurationError for a class name or
    version that could not be part of a file's or a container's name.
    """
    if not _CLASS.fullmatch(class_name):
        raise ConfigurationError(
            f"step class {class_name!r}: its name cannot be part of a unique id",
            "use at most 100 ASCII letters, digits and underscores",
        )
    if version is not None and not _VERSION.fullmatch(version):
        raise ConfigurationError(
            f"step class {class_name!r}: VERSION {version!r} cannot be part of a unique id",
            "use at most 32 ASCII letters, digits, dots and underscores",
        )
    prefix = class_name if version is None else f"{class_name}-{version}"
    tree = ["dispatch-step", SCHEME, type_name, version, format_tree, arguments_tree]
    return f"{prefix}-{digest(tree)}"


def resolve(tree: Any, unique_ids: Mapping[str, str]) -> Any:
    """Return ``tree`` with every reference to a step's name replaced by the step's unique id.

    Raises ConfigurationError for a name that is not in ``unique_ids``.
    """
    tag = tree[0]
    if tag == "ref":
        if tree[1] not in unique_ids:
            raise ConfigurationError(f"reference to {tree[1]!r}: the unique id of that step is not known")
        return ["step", unique_ids[tree[1]], tree[2]]
    if tag in ("l", "t"):
        return [tag, [resolve(item, unique_ids) for item in tree[1]]]
    if tag == "S":
        return [tag, _sorted(resolve(item, unique_ids) for item in tree[1])]
    if tag == "d":
        return [tag, [[key, resolve(item, unique_ids)] for key, item in tree[1]]]
    if tag in ("c", "L"):
        return [tag, tree[1], {name: resolve(item, unique_ids) for name, item in tree[2].items()}]
    return tree


def construction(constructor: str, arguments: Mapping[str, Any], *, lazy: bool = False) -> Any:
    """Return the tree of an object that ``constructor`` ("module.Qualname") makes from ``arguments``.

    ``lazy`` marks one that is made later, and may be given further arguments then.
    """
    fields = {}
    for name in sorted(arguments):
        try:
            fields[name] = _encode(arguments[name])
        except FingerprintError as error:
            raise error.under(f".{name}") from None
    return ["L" if lazy else "c", constructor, fields]


def qualified_name(cls: type) -> str:
    """Return ``module.Qualname`` of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


_FEW_DIGITS = 10**600


def _encode(value: Any) -> Any:
    encoder = _ENCODERS.get(type(value))
    return encoder(value) if encoder is not None else _encode_object(value)


def _encode_float(value: float) -> Any:
    return ["f", "nan" if value != value else value.hex()]


def _encode_bytes(value: bytes) -> Any:
    return ["b", len(value), _sha256(value)]


def _encode_items(tag: str, value: Iterable[Any]) -> Any:
    items: list[Any] = []
    append = items.append
    try:
        for item in value:
            encoder = _ENCODERS.get(type(item))
            append(encoder(item) if encoder is not None else _encode_object(item))
    except FingerprintError as error:
        raise error.under(f"[{len(items)}]") from None
    return [tag, items]


def _encode_dict(value: dict[Any, Any]) -> Any:
    pairs = []
    for key, item in value.items():
        place = f".{key}" if isinstance(key, str) else f"[{key!r}]"
        try:
            pairs.append([_encode(key), _encode(item)])
        except FingerprintError as error:
            raise error.under(place) from None
    pairs.sort(key=lambda pair: _text(pair[0]))
    return ["d", pairs]


def _encode_set(value: Iterable[Any]) -> Any:
    try:
        return ["S", _sorted(_encode(item) for item in value)]
    except FingerprintError as error:
        raise error.under("{…}") from None


_ENCODERS: dict[type, Callable[[Any], Any]] = {
    type(None): lambda _: ["n"],
    bool: lambda value: ["o", value],
    int: lambda value: ["i", str(value) if -_FEW_DIGITS < value < _FEW_DIGITS else _decimal(value)],
    float: _encode_float,
    str: lambda value: ["s", value],
    bytes: _encode_bytes,
    list: lambda value: _encode_items("l", value),
    tuple: lambda value: _encode_items("t", value),
    dict: _encode_dict,
    set: _encode_set,
    frozenset: _encode_set,
}


def _decimal(value: int) -> str:
    """Decimal digits of any integer; ``str`` refuses more than 4300 digits in newer Pythons."""
    sign, rest, parts = ("-" if value < 0 else ""), abs(value), []
    while rest:
        rest, part = divmod(rest, 10**500)
        parts.append(f"{part:0500d}")
    return sign + "".join(reversed(parts)).lstrip("0")


def _encode_object(value: Any) -> Any:
    """Encode a value of a type that is not a plain one.

    Modules are found by name instead of imported: a value of one of their types exists only if its module
    has been imported already.
    """
    import sys

    own = getattr(type(value), "__dispatch_canonical__", None)
    if own is not None:
        return own(value)
    modules = sys.modules
    if "enum" in modules and isinstance(value, modules["enum"].Enum):
        return _encode_enum(value)
    if "pathlib" in modules and isinstance(value, modules["pathlib"].PurePath):
        return ["p", value.as_posix()]
    if "datetime" in modules and type(value).__module__ == "datetime":
        return _encode_time(value)
    if hasattr(type(value), "__dataclass_fields__"):
        return _encode_dataclass(value)
    if isinstance(value, tuple) and hasattr(type(value), "_fields"):
        fields: Any = getattr(type(value), "_fields")  # noqa: B009 - which mypy knows of no tuple
        return construction(qualified_name(type(value)), dict(zip(fields, value)))
    if hasattr(value, "__array_interface__") or all(hasattr(value, n) for n in ("dtype", "shape", "tobytes")):
        return _encode_array(value)
    raise FingerprintError(
        f"a value of type {qualified_name(type(value))} cannot be part of a step's identity",
        "pass plain data, a dataclass, an object made from config, or the result of another step",
    )


def _encode_enum(value: Any) -> Any:
    if value.name not in type(value).__members__:
        raise FingerprintError(
            f"a combination of flags of {qualified_name(type(value))} cannot be part of a step's identity",
            "pass a list of its members",
        )
    return ["e", qualified_name(type(value)), value.name]


def _encode_dataclass(value: Any) -> Any:
    """What a dataclass is made from: the fields of its constructor. Those it derives say nothing new."""
    import dataclasses

    init_only = getattr(dataclasses, "_FIELD_INITVAR")  # noqa: B009 - private, and there is no public way
    if any(getattr(field, "_field_type") is init_only for field in value.__dataclass_fields__.values()):  # noqa: B009
        raise FingerprintError(
            f"{qualified_name(type(value))} has an InitVar, whose value a finished object does not tell",
            "make it an ordinary field",
        )
    arguments = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
    return construction(qualified_name(type(value)), arguments)


def _encode_time(value: Any) -> Any:
    import datetime

    kind = type(value)
    if kind is datetime.timedelta:
        return ["td", str((value.days * 86400 + value.seconds) * 1000000 + value.microseconds)]
    if kind is datetime.date:
        return ["date", value.isoformat()]
    if kind not in (datetime.datetime, datetime.time):
        raise FingerprintError(f"a value of type {qualified_name(kind)} cannot be part of a step's identity")
    tag = "dt" if kind is datetime.datetime else "time"
    if value.tzinfo is None:
        return [tag, "naive", value.isoformat()]
    offset = value.utcoffset()
    if offset is None:
        raise FingerprintError("a time of day in a zone without a fixed offset has no meaning in UTC")
    if kind is datetime.time:
        clock = datetime.timedelta(
            hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond
        )
        return [tag, "utc", _encode_time(clock - offset)[1]]
    try:
        return [tag, "utc", (value.replace(tzinfo=None) - offset).isoformat()]
    except OverflowError:
        raise FingerprintError("a time before year 1 or after year 9999 in UTC") from None


def _encode_array(value: Any) -> Any:
    """Encode an array or array scalar by dtype, shape and bytes in C order, whatever library it is from."""
    dtype = value.dtype
    if getattr(dtype, "hasobject", False) or getattr(dtype, "names", None) or hasattr(value, "mask"):
        raise FingerprintError(
            f"an array of dtype {dtype} or with a mask cannot be part of a step's identity",
            "pass an array of plain numbers, or the result of another step",
        )
    return ["a", str(dtype.str), [int(size) for size in value.shape], _sha256(_in_c_order(value))]


def _in_c_order(array: Any) -> Any:
    """The bytes of an array: its own memory where they lie there in order, else a copy."""
    try:
        view = memoryview(array)
    except (TypeError, ValueError):
        # Times have no buffer, nor have arrays of every library.
        return array.tobytes()
    return view.cast("B") if view.c_contiguous and view.nbytes else array.tobytes()


def _sorted(trees: Iterable[Any]) -> list[Any]:
    return sorted(trees, key=_text)


def _text(tree: Any) -> str:
    return json.dumps(tree, ensure_ascii=True, separators=(",", ":"))


def _sha256(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()
