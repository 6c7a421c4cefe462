"""Tagged JSON: whatever it takes comes back with the very same types, and reading it runs no code."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import os
import struct
import sys
import tempfile
import types
from collections import namedtuple
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, ClassVar, NamedTuple
from uuid import UUID, uuid1
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatch.errors import FormatError
from dispatch.formats import AUTO, JsonFormat, read_result, runs_code

EXAMPLES = max(30, int(600 * float(os.environ.get("DISPATCH_STRESS", "1.0"))))


class Colour(enum.Enum):
    """Plain members."""

    RED = "r"
    GREEN = ("g", 2)


class Level(enum.IntEnum):
    """Members that are numbers, too."""

    LOW = 1
    ALSO_LOW = 1
    HIGH = 2


class Mode(enum.Flag):
    """Members that add up."""

    READ = 1
    WRITE = 2


class Point(NamedTuple):
    """A named tuple by annotation."""

    x: Any
    y: Any = 0


Pair = namedtuple("Pair", ["left", "right"])


@dataclass
class Plain:
    """The usual one."""

    name: Any
    items: list[Any] = field(default_factory=list)
    kind: ClassVar[str] = "plain"


@dataclass(frozen=True)
class Frozen:
    """One whose fields cannot be set."""

    value: Any


@dataclass
class Slotted:
    """One without a dict."""

    __slots__ = ("value",)
    value: Any


@dataclass
class Derived(Plain):
    """One with a parent's fields, and a say in how it is made that is not to be asked."""

    extra: Any = None

    def __post_init__(self) -> None:
        """Change a field."""
        self.extra = ("made", self.extra)


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal to the last bit, with all types; NaN is itself here."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return struct.pack(">d", one) == struct.pack(">d", other)
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, dict):
        return same([*one.items()], [*other.items()])
    if isinstance(one, (set, frozenset)):
        return len(one) == len(other) and all(any(same(a, b) for b in other) for a in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if dataclasses.is_dataclass(one):
        return all(
            same(getattr(one, each.name), getattr(other, each.name)) for each in dataclasses.fields(one)
        )
    if isinstance(one, (datetime, time)):
        parts = (one.replace(tzinfo=None), one.fold), (other.replace(tzinfo=None), other.fold)
        return parts[0] == parts[1] and repr(one.tzinfo) == repr(other.tzinfo)
    return repr(one) == repr(other)


def through(value: Any) -> Any:
    """Write a value by AUTO, and read it without trust."""
    with tempfile.TemporaryDirectory() as directory:
        name = AUTO.write(value, directory)
        assert name.split(".")[1] in ("json", "txt", "bin"), name
        return read_result(directory)


offsets = st.timedeltas(timedelta(hours=-23), timedelta(hours=23))
zones = st.one_of(
    st.none(),
    st.just(timezone.utc),
    st.builds(timezone, offsets),
    st.builds(timezone, offsets, st.text(max_size=5)),
    st.sampled_from([ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), ZoneInfo("UTC")]),
)
texts = st.text(st.characters(exclude_categories=[]), max_size=8)
hashable_atoms: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(2**2040, 2**2060),
    st.floats(),
    texts,
    st.binary(max_size=9),
    st.complex_numbers(allow_nan=True, allow_infinity=True),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.uuids(),
    st.dates(),
    st.datetimes(timezones=zones),
    st.builds(
        lambda at, zone, fold: at.replace(tzinfo=zone, fold=fold), st.times(), zones, st.integers(0, 1)
    ),
    st.timedeltas(),
    st.builds(Path, st.text("ab/.é", max_size=5)),
    st.builds(PurePosixPath, st.text("ab/.", max_size=5)),
    st.sampled_from([*Colour, *Level, *Mode, timezone.utc]),
)
keys = st.recursive(
    hashable_atoms,
    lambda inner: st.one_of(st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3)),
    max_leaves=4,
)
values = st.recursive(
    st.one_of(hashable_atoms, st.decimals(), st.binary(max_size=5).map(bytearray), st.sets(keys, max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
        st.dictionaries(st.sampled_from(["$dispatch", "items", "a", "fields"]), inner, max_size=4),
        st.builds(Point, inner, inner),
        st.builds(Pair, inner, inner),
        st.builds(Plain, inner, st.lists(inner, max_size=2)),
        st.builds(Frozen, inner),
        st.builds(Slotted, inner),
        st.builds(Derived, inner, extra=inner),
    ),
    max_leaves=12,
)


@pytest.mark.filterwarnings("ignore:the result is the path")
@settings(max_examples=EXAMPLES, deadline=None)
@given(values)
def test_whatever_is_written_comes_back_exactly(value: Any) -> None:
    """Types, signs of zeros, payloads of NaNs, folds and zones of times, order of dicts: all of it."""
    assert same(value, through(value))


@pytest.mark.parametrize(
    "value",
    [
        [math.inf, -math.inf, math.nan, -math.nan, struct.unpack(">d", bytes.fromhex("7ff8000000000001"))[0]],
        [2**2048, -(2**9999)],
        ["\ud83d", "\ud83d\ude00", "\U0001f600"],
        {"\ud83d": 1},
        {"$dispatch": "tuple", "items": [1]},
        {"$dispatch": {"$dispatch": ()}},
        {1: "a", "1": "b", None: "c", (1, (2,)): "d", frozenset({1}): "e"},
        datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
        datetime(2024, 1, 1, 1, 1, 1, 1, timezone(timedelta(microseconds=-1), "odd")),
        time(1, 2, tzinfo=timezone.utc),
        Decimal("-0E+3"),
        Decimal("sNaN123"),
        [Path("a"), Path("/"), Path("\udcff")],
        [Colour.GREEN, Level.ALSO_LOW, Mode.READ],
        {Level.LOW: 1, Colour.RED: 2},
    ],
    ids=lambda value: repr(value)[:40].encode("ascii", "replace").decode(),
)
def test_odd_values_come_back_exactly(value: Any) -> None:
    """Those that other encodings get wrong."""
    assert same(value, through(value))


class Zone(tzinfo):
    """A time zone of somebody's own."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        """Say nothing."""

    def dst(self, moment: datetime | None) -> timedelta | None:
        """Say nothing."""

    def tzname(self, moment: datetime | None) -> str | None:
        """Say nothing."""


class Text(str):
    """A text that is more than its letters."""


@dataclass
class Careful:
    """One with a say in how it is copied."""

    value: int

    def __reduce__(self) -> Any:
        return Careful, (self.value,)


@dataclass
class Guarded:
    """One that runs code when a field is set."""

    value: Any

    def _get(self) -> Any:
        return self.__dict__["value"]

    def _set(self, value: Any) -> None:
        self.__dict__["value"] = value


Guarded.value = property(Guarded._get, Guarded._set)


@dataclass
class Fault(Exception):
    """One that has the layout of another type."""

    value: int


def changed(value: Any, **attributes: Any) -> Any:
    """Return an object with more state than its fields."""
    vars(value).update(attributes)
    return value


def local() -> Any:
    """Return an object of a class that only exists inside a function."""

    @dataclass
    class Local:
        value: int

    return Local(1)


MAIN = type("MAIN", (), {"__module__": "__main__"})


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [1, {"b": Text("x")}]}, r"\['a'\]\[1\]\['b'\]"),
        ([Plain("x", [0, local()])], r"\[0\]\.items\[1\]"),
        (Point(1, (2, changed(Plain(1), more=2))), r"\.y\[1\]"),
        ({frozenset({Frozen(1)}): 1}, r"\[a builtins\.frozenset\]"),
        ({Point(1)}, r"\{…\}"),
        ({2**99999: Text("x")}, r"\[a builtins\.int\]"),
        ([Careful(1)], r"\[0\]"),
        ([Guarded(1)], r"\[0\]"),
        ([Fault(1)], r"\[0\]"),
        ([datetime(2024, 1, 1, tzinfo=Zone())], r"\[0\]"),
        ([Mode.READ | Mode.WRITE], r"\[0\]"),
        ([uuid1()], r"\[0\]"),
        ([PureWindowsPath("a")], r"\[0\]"),
        ([MAIN()], r"\[0\]"),
        ([object.__new__(Slotted)], r"\[0\]"),
    ],
)
def test_what_would_change_is_refused_by_its_place(value: Any, place: str, tmp_path: Path) -> None:
    """JSON that was asked for does not fall back to anything: the error leads to the value."""
    assert not JsonFormat().accepts(value)
    with pytest.raises(FormatError, match=f"at {place}: "):
        JsonFormat().write(value, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_value_that_contains_itself_is_refused(tmp_path: Path) -> None:
    """It has no end in JSON; pickle can do it."""
    value: list[Any] = [()]
    value.append(value)
    with pytest.raises(FormatError, match="deeper than 100 levels, or contains itself"):
        JsonFormat().write(value, tmp_path)
    assert AUTO.write(value, tmp_path) == "data.pickle"


def write(directory: Path, content: Any) -> Path:
    """Write a file as somebody else would."""
    (directory / "data.json").write_text(json.dumps(content))
    return directory


def test_making_an_object_runs_nothing_of_its_class(tmp_path: Path) -> None:
    """Not even __post_init__, which would change what was stored."""
    AUTO.write([Derived("a", [], 1)], tmp_path)
    assert read_result(tmp_path) == [Derived("a", [], 1)]
    assert read_result(tmp_path)[0].extra == ("made", 1)
    assert runs_code(tmp_path) is None


def test_no_module_is_imported_because_data_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class of a module that the reader has not loaded is an error, unless the reading step declares it."""
    package = tmp_path / "code" / "dispatch_test_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "shapes.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Circle:\n    radius: float\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    name = "dispatch_test_package.shapes"
    circle = {"$dispatch": "dataclass", "class": f"{name}:Circle", "fields": {"radius": 1.5}}
    write(tmp_path, circle)
    for modules in ((), ("dispatch_test_pack",), ("dispatch_test_package.other",)):
        with pytest.raises(
            FormatError, match=r"needs the class Circle of the module dispatch_test_package"
        ) as caught:
            read_result(tmp_path, trust_pickle=True, modules=modules)
        assert "import dispatch_test_package.shapes" in caught.value.remedy
        assert name not in sys.modules
    try:
        assert repr(read_result(tmp_path, modules=("dispatch_test_package",))) == "Circle(radius=1.5)"
        assert repr(read_result(tmp_path)) == "Circle(radius=1.5)"
    finally:
        sys.modules.pop(name, None)
        sys.modules.pop("dispatch_test_package", None)


HERE = __name__


@pytest.mark.parametrize(
    "content",
    [
        {"$dispatch": "dataclass", "class": "os:system", "fields": {"command": "true"}},
        {"$dispatch": "dataclass", "class": "os:path.join", "fields": {}},
        {"$dispatch": "dataclass", "class": "subprocess:Popen", "fields": {"args": "true"}},
        {"$dispatch": "dataclass", "class": f"{HERE}:Plain", "fields": {"name": 1}},
        {"$dispatch": "dataclass", "class": f"{HERE}:Plain", "fields": {"name": 1, "items": [], "more": 1}},
        {"$dispatch": "dataclass", "class": f"{HERE}:Plain", "fields": {"items": [], "name": 1}},
        {"$dispatch": "dataclass", "class": f"{HERE}:Careful", "fields": {"value": 1}},
        {"$dispatch": "dataclass", "class": f"{HERE}:Guarded", "fields": {"value": 1}},
        {"$dispatch": "dataclass", "class": f"{HERE}:Fault", "fields": {"value": 1}},
        {"$dispatch": "dataclass", "class": f"{HERE}:dataclass", "fields": {}},
        {"$dispatch": "dataclass", "class": "dispatch:Executor", "fields": {}},
        {"$dispatch": "dataclass", "class": 3, "fields": {}},
        {"$dispatch": "dataclass"},
        {"$dispatch": "namedtuple", "class": f"{HERE}:Pair", "fields": {"left": 1}},
        {"$dispatch": "namedtuple", "class": f"{HERE}:Plain", "fields": {"name": 1, "items": []}},
        {"$dispatch": "enum", "class": f"{HERE}:Colour", "name": "BLUE"},
        {"$dispatch": "enum", "class": f"{HERE}:Colour", "name": "__class__"},
        {"$dispatch": "enum", "class": f"{HERE}:Plain", "name": "name"},
        {"$dispatch": "set", "items": [[]]},
        {"$dispatch": "set", "items": [{"$dispatch": "namedtuple", "class": f"{HERE}:Pair",
                                        "fields": {"left": 1, "right": 2}}]},
        {"$dispatch": "dict", "items": [[1]]},
        {"$dispatch": "zone", "key": "../../etc/passwd"},
        {"$dispatch": "zone", "key": "No/Where"},
        {"$dispatch": "numpy", "dtype": "O", "base64": ""},
        {"$dispatch": "bytes", "base64": "?"},
        {"$dispatch": "from a later version"},
        {"$dispatch": ["tuple"]},
    ],
    ids=lambda content: json.dumps(content)[:60],
)  # fmt: skip
def test_what_is_not_what_we_write_is_an_error(content: Any, tmp_path: Path) -> None:
    """A file that names anything but data is refused, and the error names the file."""
    with pytest.raises(FormatError, match=r"data\.json: "):
        read_result(write(tmp_path, content), modules=(HERE,))


def test_looking_for_a_class_asks_no_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module's ``__getattr__`` would run code for whatever name data gives."""
    module = types.ModuleType("dispatch_test_lazy")
    asked: list[str] = []
    module.__getattr__ = asked.append  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "dispatch_test_lazy", module)
    write(tmp_path, {"$dispatch": "enum", "class": "dispatch_test_lazy:Thing", "name": "A"})
    with pytest.raises(FormatError, match="needs the class Thing"):
        read_result(tmp_path)
    assert asked == []


def test_what_is_plain_stays_readable_by_any_tool(tmp_path: Path) -> None:
    """Only what JSON would change has a tag."""
    AUTO.write(
        {"when": date(2024, 2, 3), "scores": [1.5, 2], "shape": (2, 3), UUID(int=1): Fraction(1, 3)}, tmp_path
    )
    AUTO_TEXT = (tmp_path / "data.json").read_text()
    assert json.loads(AUTO_TEXT)["items"][1] == ["scores", [1.5, 2]]
    (tmp_path / "data.json").unlink()
    AUTO.write({"scores": [1.5, 2], "shape": (2, 3)}, tmp_path)
    assert json.loads((tmp_path / "data.json").read_text()) == {
        "scores": [1.5, 2],
        "shape": {"$dispatch": "tuple", "items": [2, 3]},
    }
