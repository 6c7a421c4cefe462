"""Typed arguments from plain config: every annotation, every mismatch, references and objects."""

# The older spellings of types are part of what is tested.
# ruff: noqa: UP006, UP007, UP035, UP036, UP045, RUF013

from __future__ import annotations

import collections.abc as abc
import enum
import os
import sys
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Dict,
    FrozenSet,
    List,
    Literal,
    Mapping,
    NewType,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)

import pytest

from dispatch.errors import ConfigurationError
from dispatch.fingerprint import canonical
from dispatch.params import (
    ArgumentError,
    Construction,
    Lazy,
    Params,
    Reference,
    bind_arguments,
    find_references,
    mark_references,
    replace_references,
    signature_of,
)
from dispatch.registrable import FromParams, Registrable

REF = {"type": "ref", "ref": "a"}


class Colour(enum.Enum):
    """An enum with texts for values."""

    RED = "r"
    GREEN = 2


@dataclass
class Point:
    """Plain data with a check of its own."""

    x: float
    y: float = 1
    tags: List[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.x == 13.0:
            raise ValueError("unlucky")


class Optimizer(Registrable):
    """A base that config names implementations of."""


@Optimizer.register("sgd")
class Sgd(Optimizer):
    """An implementation."""

    def __init__(self, lr: float, momentum: Optional[float] = None) -> None:
        self.lr = lr
        self.momentum = momentum


@Optimizer.register("nested")
class Nested(Optimizer):
    """An implementation that holds another and passes the rest up."""

    def __init__(self, inner: Optimizer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inner = inner


class Plain(FromParams):
    """An object without a name."""

    def __init__(self, points: List[Point], path: Path = Path("x")) -> None:
        self.points = points
        self.path = path


Size = NewType("Size", int)


class Options(typing.TypedDict):
    """A dict whose keys are declared."""

    n: int


class MoreOptions(Options, total=False):
    """Some of them may be missing, and one is another declared dict."""

    rate: float
    inner: Options


class Shape(typing.NamedTuple):
    """A tuple whose items have names."""

    width: float
    tags: List[str] = []
    parent: Optional[Shape] = None


@dataclass
class Node:
    """A dataclass that refers to itself, as text."""

    value: float
    children: List[Node] = field(default_factory=list)


@dataclass
class Split:
    """Plain data that completes itself."""

    train: float
    test: Optional[float] = None
    names: List[str] = field(default_factory=list)
    data: Any = None
    point: Optional[Point] = None

    def __post_init__(self) -> None:
        """Fill in what follows from the rest."""
        if self.test is None:
            self.test = 1 - self.train
        if self.point is not None:
            self.names = [*self.names, *self.point.tags]


class Foreign:
    """A class of somebody else's."""

    def __init__(self, n: int = 1) -> None:
        self.n = n


Optimizer.register("test::foreign")(Foreign)


class Custom(FromParams):
    """Reads its config itself."""

    def __init__(self, n: float) -> None:
        self.n = n

    @classmethod
    def from_params(cls, params: Any) -> Any:
        """Take half of it."""
        made = super().from_params(Params({"n": params.pop("double") / 2}))
        params.assert_empty("Custom")
        return made


def bind(annotation: Any, value: Any, **options: Any) -> Any:
    """Convert one value by one annotation."""

    def run(a: Any) -> None:
        """Take one argument."""

    run.__annotations__["a"] = annotation
    return bind_arguments(run, {"a": value}, **{"substitute": lambda found: found, **options})["a"]


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, 3, 3),
        (float, 3, 3.0),
        (float, 0.5, 0.5),
        (bool, True, True),
        (str, "3", "3"),
        (None, None, None),
        (Any, {"x": [1]}, {"x": [1]}),
        (object, 1, 1),
        ("float", 3, 3.0),
        ("Optional[List[float]]", [1], [1.0]),
        (list, [1, "a"], [1, "a"]),
        (List[float], [1, 2.5], [1.0, 2.5]),
        (list[int], [1], [1]),
        (Sequence[float], [1], [1.0]),
        (Sequence[int], (1, 2), (1, 2)),
        (typing.Iterable[str], ["a"], ["a"]),
        (abc.Sequence, [1], [1]),
        (Tuple[int, str], [1, "a"], (1, "a")),
        (Tuple[float, ...], [1, 2], (1.0, 2.0)),
        (tuple, [1], (1,)),
        (Tuple[()], [], ()),
        (Set[str], ["a", "b", "a"], {"a", "b"}),
        (FrozenSet[int], [1], frozenset({1})),
        (set, {1}, {1}),
        (dict, {"a": 1}, {"a": 1}),
        (Dict[str, float], {"a": 1}, {"a": 1.0}),
        (Dict[int, str], {"5": "x", "-1": "y"}, {5: "x", -1: "y"}),
        (Dict[float, int], {"0.5": 1, "2": 2}, {0.5: 1, 2.0: 2}),
        (Dict[str, int], {"5": 1}, {"5": 1}),
        (Dict[Literal[1, 2], int], {"1": 3}, {1: 3}),
        (Dict[Optional[int], int], {"1": 3}, {1: 3}),
        (dict[Size, "tuple[Size, ...]"], {"1": [2]}, {1: (2,)}),
        (abc.Mapping[str, abc.Sequence[float]], {"a": [1]}, {"a": [1.0]}),
        (abc.Set, ["a"], {"a"}),
        (tuple[int, ...], [], ()),
        (frozenset[Colour], ["r"], frozenset({Colour.RED})),
        (List["Point"], [{"x": 1}], [Point(1.0, 1.0)]),
        (Optional["Point"], {"x": 1}, Point(1.0, 1.0)),
        (Annotated[float, "a rate"], 1, 1.0),
        (Annotated[Optional["Annotated[float, 1]"], "x"], 1, 1.0),
        (NewType("Lengths", List[float]), [1], [1.0]),
        (Union["None", Annotated[int, 0]], 1, 1),
        (Dict[Colour, int], {"r": 1}, {Colour.RED: 1}),
        (Mapping[str, List[int]], {"a": [1]}, {"a": [1]}),
        (Optional[int], None, None),
        (Optional[float], 1, 1.0),
        (Union[int, str], "a", "a"),
        (Union[float, int], 1, 1),
        (Union[float, str], 1, 1.0),
        (Union[str, Path], "a", "a"),
        (Union[Path, None], "a", Path("a")),
        (Union[List[float], List[int]], [1], [1]),
        (Union[Tuple[int, int], List[int]], [1, 2], [1, 2]),
        (Literal["a", 1], 1, 1),
        (Path, "a/b", Path("a/b")),
        (os.PathLike, "a", Path("a")),
        (Colour, "r", Colour.RED),
        (Colour, "GREEN", Colour.GREEN),
        (Colour, 2, Colour.GREEN),
        (Size, 3, 3),
        (Options, {"n": 1}, {"n": 1}),
        (MoreOptions, {"n": 1, "rate": 1}, {"n": 1, "rate": 1.0}),
        (MoreOptions, {"n": 1, "inner": {"n": 2}}, {"n": 1, "inner": {"n": 2}}),
        (Shape, {"width": 1}, Shape(1.0)),
        (Shape, [1, ["a"]], Shape(1.0, ["a"])),
        (Shape, Shape(1, parent=Shape(2)), Shape(1, parent=Shape(2))),
        (List[Shape], [{"width": 1, "parent": [2]}], [Shape(1.0, [], Shape(2.0))]),
        (Node, {"value": 1, "children": [{"value": 2}]}, Node(1.0, [Node(2.0)])),
        (Split, {"train": 0.75}, Split(0.75, 0.25)),
        (typing.TypeVar("T"), "x", "x"),
        (Point, {"x": 1}, Point(1.0, 1.0)),
        (Point, Point(1.0), Point(1.0)),
        (List[Point], [{"x": 1, "tags": ["t"]}], [Point(1.0, 1.0, ["t"])]),
    ],
)
def test_values_become_what_annotations_say(annotation: Any, value: object, expected: object) -> None:
    """A value that fits is converted to the annotated type, and to nothing else, all the way down."""
    found = bind(annotation, value)
    assert found == expected
    assert _types(found) == _types(expected)


def _types(value: Any) -> Any:
    if isinstance(value, dict):
        return [(type(key), _types(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return (type(value), [_types(item) for item in value])
    if isinstance(value, Point):
        return (Point, _types(value.x), _types(value.y))
    return type(value)


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (int, "3", "argument 'a': expected int, got str '3'"),
        (int, True, "argument 'a': expected int, got bool True"),
        (int, 3.0, "argument 'a': expected int, got float 3.0"),
        (float, "1e3", "argument 'a': expected float, got str '1e3'"),
        (float, True, "argument 'a': expected float, got bool True"),
        (bool, 1, "argument 'a': expected bool, got int 1"),
        (str, 3, "argument 'a': expected str, got int 3"),
        (str, None, "argument 'a': expected str, got NoneType"),
        (None, 1, "argument 'a': expected None, got int 1"),
        (List[str], "abc", "argument 'a': expected List[str], got str 'abc'"),
        (List[int], [1, "x"], "argument 'a[1]': expected int, got str 'x'"),
        (Tuple[int, int], [1], "argument 'a': expected Tuple[int, int], got list"),
        (Dict[str, int], [1], "argument 'a': expected Dict[str, int], got list"),
        (Dict[str, Dict[str, int]], {"x": {"y": "z"}}, "argument 'a.x.y': expected int, got str 'z'"),
        (Dict[int, int], {"x": 1}, "argument \"a['x']\": expected int, got str 'x'"),
        (Dict[int, int], {"1": 1, "01": 2}, "argument \"a['01']\": is 1 once more"),
        (Dict[int, int], {"--1": 1}, "argument \"a['--1']\": expected int, got str '--1'"),
        (Options, {}, "argument 'a.n': is missing, and Options needs it"),
        (Options, {"n": "1"}, "argument 'a.n': expected int, got str '1'"),
        (Options, {"n": 1, "m": 2}, "argument 'a.m': Options does not take it"),
        (Options, [1], "argument 'a': expected Options, got list"),
        (MoreOptions, {"n": 1, "inner": {}}, "argument 'a.inner.n': is missing, and Options needs it"),
        (Shape, {}, "argument 'a.width': is missing, and Shape needs it"),
        (Shape, [1, [], None, 4], "argument 'a': expected Shape, got list"),
        (Shape, [1, [2]], "argument 'a.tags[0]': expected str, got int 2"),
        (Node, {"value": 1, "children": [{}]}, "argument 'a.children[0].value': is missing"),
        (List["Point"], "x", "argument 'a': expected List[Point], got str 'x'"),
        (Optional["Point"], 1, "argument 'a': expected Point | None, got int 1"),
        (Foreign, {"n": 1}, "argument 'a': expected Foreign, got dict: Foreign cannot be made from config"),
        (
            List[Foreign],
            [{}],
            "argument 'a[0]': expected Foreign, got dict: Foreign cannot be made from config",
        ),
        (Foreign, 1, "argument 'a': expected Foreign, got int 1"),
        (Optional[Foreign], {}, "argument 'a': expected Foreign | None, got dict: Foreign cannot be made"),
        (abc.Callable[[], None], {}, "argument 'a': expected Callable, got dict: Callable cannot be made"),
        (Optimizer, {"type": "no.such.Thing"}, "argument 'a.type': Optimizer: no 'no.such.Thing' is regist"),
        (Optimizer, {"type": f"{__name__}.Point"}, f"argument 'a.type': '{__name__}.Point': is no Optimizer"),
        (Optional[int], "x", "argument 'a': expected int | None, got str 'x'"),
        (Union[int, List[int]], ["x"], "argument 'a[0]': expected int, got str 'x'"),
        (Literal["a", "b"], "c", "argument 'a': expected Literal['a', 'b'], got str 'c'"),
        (Literal[1], True, "argument 'a': expected Literal[1], got bool True"),
        (Colour, "blue", "argument 'a': expected Colour (one of RED, GREEN), got str 'blue'"),
        (Path, 3, "argument 'a': expected Path, got int 3"),
        (bytes, "x", "argument 'a': expected bytes, got str 'x'"),
        (Point, [1], "argument 'a': expected Point, got list"),
        (Point, {"x": "1"}, "argument 'a.x': expected float, got str '1'"),
        (Point, {"x": 1, "z": 1}, "argument 'a.z': Point does not take it"),
        (Point, {}, "argument 'a.x': is missing, and Point needs it"),
        (typing.Callable[[], None], "f", "argument 'a': expected Callable, got str 'f'"),
        (Optimizer, {"lr": 1.0}, "argument 'a.type': is missing; it says which Optimizer"),
        (
            Optimizer,
            {"type": "sdg"},
            "argument 'a.type': Optimizer: no 'sdg' is registered, did you mean 'sgd'?",
        ),
        (Optimizer, {"type": 3}, "argument 'a.type': expected str, got int 3"),
        (Optimizer, {"type": "sgd", "lr": "x"}, "argument 'a.lr': expected float, got str 'x'"),
        (Optimizer, {"type": "nested", "inner": {"type": "sgd"}}, "argument 'a.inner.lr': is missing"),
        ("Missing", 1, "argument 'a': its annotation 'Missing' cannot be read: NameError"),
    ],
)
def test_a_mismatch_names_the_place_and_both_types(annotation: Any, value: object, message: str) -> None:
    """What does not fit is an error that leads to the place and says what is expected and what is there."""
    for build in (True, False):
        with pytest.raises(ArgumentError) as caught:
            bind(annotation, value, step="train", build=build)
        assert caught.value.message.startswith(f"step 'train': {message}")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "argument 'data': is missing"),
        ({"data": 1, "detph": 2}, "argument 'detph': run() does not take it, did you mean 'depth'?"),
        ({"data": 1, "x": 2}, "argument 'x': run() does not take it"),
    ],
)
def test_arguments_are_missing_or_unknown(raw: dict[str, Any], message: str) -> None:
    """An argument that is missing or not taken is named, with what is taken as the remedy."""

    def run(data: Any, depth: int = 1) -> None:
        """Take two arguments."""

    with pytest.raises(ArgumentError) as caught:
        bind_arguments(run, raw, substitute=lambda found: found, step="s")
    assert caught.value.message.startswith(f"step 's': {message}")
    assert caught.value.remedy


def test_arguments_come_in_order_with_defaults_converted() -> None:
    """Defaults mean the same as if config had said them; one that its annotation excludes stays as it is."""

    def run(a, b: float = 1, *args: Any, c: int = None, d: Path = "x", **more: Any) -> None:  # type: ignore[no-untyped-def,assignment]
        """Take anything."""

    bound = bind_arguments(run, {"z": 1, "a": [REF]}, substitute=lambda found: found.name)
    assert list(bound.items()) == [("a", ["a"]), ("b", 1.0), ("c", None), ("d", Path("x")), ("z", 1)]
    assert type(bound["b"]) is float


def test_methods_classes_and_wrapped_functions_tell_their_parameters() -> None:
    """A bound method is without its first parameter, a decorated function is what it wraps."""
    import functools

    class Thing:
        def run(self, a: int) -> None:
            """Take one argument."""

    def inner(a: int, b: str = "x") -> None:
        """Take two."""

    @functools.wraps(inner)
    def outer(*args: Any, **kwargs: Any) -> None:
        inner(*args, **kwargs)

    assert list(signature_of(Thing().run).parameters) == ["a"]
    assert list(signature_of(outer).parameters) == ["a", "b"]
    assert list(signature_of(Point).parameters) == ["x", "y", "tags"]
    assert list(signature_of(Nested).parameters) == ["inner"]
    with pytest.raises(ConfigurationError, match="only be given by position"):
        signature_of(_positional)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        signature_of(max)


def _positional(a: int, /) -> None:
    """Take an argument that config cannot give."""


@pytest.mark.parametrize(
    ("raw", "references"),
    [
        (REF, [Reference("a")]),
        ({"ref": "a"}, [Reference("a")]),
        ({"type": "ref", "ref": "a", "key": "k"}, [Reference("a", "k")]),
        ({"ref": "a", "key": 0}, [Reference("a", 0)]),
        (
            [{"x": ({"ref": "a"}, 1)}, {"ref": "b"}, {"ref": "a"}],
            [Reference("a"), Reference("b"), Reference("a")],
        ),
        ({"ref": 3}, []),
        ({"ref": "a", "other": 1}, []),
        ({"type": "other", "ref": "a"}, []),
        ("ref", []),
        ({"x": [1, None, "a"]}, []),
    ],
)
def test_references_are_found_wherever_they_are(raw: Any, references: list[Reference]) -> None:
    """Each form of a reference is found at any depth, in order, and data that resembles one is not."""
    assert find_references(raw) == references
    assert find_references(mark_references(raw)) == references


@pytest.mark.parametrize(
    "raw",
    [
        {"type": "ref"},
        {"type": "ref", "ref": 1},
        {"type": "ref", "ref": "a", "kye": 1},
        {"type": "ref", "ref": "a", "key": 1.5},
    ],
)
def test_malformed_references_are_errors_at_their_place(raw: dict[str, Any]) -> None:
    """What is marked as a reference and cannot be one is an error that leads to it."""
    with pytest.raises(ArgumentError, match=r"argument 'a\[1\]\.b': holds a malformed reference"):
        bind(list, [0, {"b": raw}])


@pytest.mark.parametrize(
    "annotation", [int, List[int], Optional[Point], Optimizer, Any, "NotDefinedHere", Literal[1]]
)
def test_a_reference_fits_every_annotation(annotation: Any) -> None:
    """What stands for a result is not held to the annotation: the result is not there yet."""
    assert bind(annotation, REF, build=False) == Reference("a")


def test_a_result_is_passed_as_it_is() -> None:
    """A value that a reference stood for is neither converted nor searched for references."""
    result = {"ref": "looks like one", "list": [{"ref": "too"}]}
    for annotation in (int, Any, Dict[str, int]):
        assert bind(annotation, REF, substitute=lambda _: result) is result
    assert bind(Dict[str, Any], {"x": [REF]}, substitute=lambda _: result)["x"][0] is result
    lazy = bind(Lazy[Plain], {"points": REF}, substitute=lambda _: result)
    assert lazy.construct().points is result


def test_objects_are_built_from_config() -> None:
    """Registered classes are made by name, others by annotation, nested, with references as values."""
    made = bind(
        Optimizer,
        {"type": "nested", "inner": {"type": "sgd", "lr": 1, "momentum": REF}},
        substitute=lambda _: 0.9,
    )
    assert isinstance(made, Nested)
    assert isinstance(made.inner, Sgd)
    assert (made.inner.lr, made.inner.momentum) == (1.0, 0.9)
    plain = bind(Plain, {"points": [{"x": 1}], "path": "p"})
    assert (plain.points, plain.path) == ([Point(1.0)], Path("p"))
    assert isinstance(bind(Sgd, {"lr": 1}), Sgd)
    assert isinstance(bind(Sgd, {"type": "sgd", "lr": 1}), Sgd)
    ready = Sgd(1.0)
    assert bind(Optimizer, ready) is ready


@pytest.mark.parametrize(
    ("annotation", "value", "remedy"),
    [
        (Foreign, {"n": 1}, "derive Foreign from dispatch.Registrable"),
        (Optimizer, {"type": "sdg"}, "put @Optimizer.register(NAME) above it"),
        (Optimizer, {"type": "sdg"}, "registered are: nested, sgd"),
        (Optimizer, {"type": "no.such.Thing"}, "write the class's place: `type: package.module.Class`"),
    ],
)
def test_a_type_that_config_cannot_make_says_how_it_could(annotation: Any, value: Any, remedy: str) -> None:
    """The remedy is how a class is registered, or what to derive it from."""
    with pytest.raises(ArgumentError) as caught:
        bind(annotation, value)
    assert remedy in caught.value.remedy


def test_classes_of_others_can_be_registered() -> None:
    """A class that is not derived from the base is made by its registered name."""
    made = bind(Optimizer, {"type": "test::foreign", "n": 3})
    assert (type(made), made.n) == (Foreign, 3)
    described = bind(Optimizer, {"type": "test::foreign"}, build=False)
    assert described == Construction(f"{__name__}.Foreign", {"n": 1})


def test_a_class_may_read_its_config_itself() -> None:
    """A from_params of the class's own is given the config as it is, and may call ours."""
    assert bind(Custom, {"double": 3}).n == 1.5
    assert bind(List[Custom], [{"double": REF}], substitute=lambda _: 5)[0].n == 2.5
    assert bind(Lazy[Custom], {"double": 3}).construct().n == 1.5
    with pytest.raises(ConfigurationError, match="does not take 'more'"):
        bind(Custom, {"double": 3, "more": 1})
    assert bind(Custom, {"double": REF}, build=False) == Construction(
        f"{__name__}.Custom.from_params", {"params": {"double": Reference("a")}}
    )


def test_describing_makes_no_objects() -> None:
    """While describing, a Construction stands for an object; it holds typed arguments and defaults."""
    raw = {"type": "nested", "inner": {"type": "sgd", "lr": 1, "momentum": REF}}
    found = bind(Optimizer, raw, build=False)
    inner = Construction(f"{__name__}.Sgd", {"lr": 1.0, "momentum": Reference("a")})
    assert found == Construction(f"{__name__}.Nested", {"inner": inner})


@pytest.mark.parametrize(
    ("annotation", "config", "made"),
    [
        (Optimizer, {"type": "sgd", "lr": 1}, Sgd(1)),
        (Optimizer, {"type": "sgd", "lr": 1}, Sgd(lr=1.0, momentum=None)),
        (Optimizer, {"type": "nested", "inner": {"type": "sgd", "lr": 2}}, Nested(Sgd(2))),
        (Optional[Optimizer], {"type": "sgd", "lr": 1}, Sgd(1)),
        (Plain, {"points": [{"x": 1}]}, Plain([Point(1)], Path("x"))),
        (Point, {"x": 1}, Point(1.0, 1.0)),
        (List[Point], [{"x": 1}], [Point(1.0, 1.0)]),
        (Shape, {"width": 1, "parent": [2]}, Shape(1, parent=Shape(2.0))),
        (Any, Shape(1, ["a"]), Shape(1.0, ["a"])),
        (MoreOptions, {"n": 1, "rate": 1}, {"rate": 1.0, "n": 1}),
        (Node, {"value": 1, "children": [{"value": 2}]}, Node(1, [Node(2)])),
        (Split, {"train": 0.75}, Split(0.75)),
        (Split, {"train": 0.75, "data": REF}, Split(0.75, data=REF)),
        (Split, {"train": 0.75, "test": 1, "data": [REF]}, Split(0.75, 1, data=[REF])),
        (Split, {"train": 0.5, "point": {"x": 1, "tags": ["t"]}}, Split(0.5, point=Point(1, tags=["t"]))),
        (Optional[Split], {"train": 1, "point": {"x": REF}}, Split(1, point=Point(Reference("a")))),  # type: ignore[arg-type]
        (Lazy[Optimizer], {"type": "sgd", "lr": 1}, Lazy(Optimizer, {"type": "sgd"}, lr=1)),
        (Lazy[Sgd], {"momentum": 1}, Lazy(Sgd, momentum=1.0)),
        (Params, {"a": [1]}, Params({"a": [1]})),
    ],
)
def test_config_and_python_describe_the_same(annotation: Any, config: Any, made: Any) -> None:
    """An object from config and the same object made in Python have one canonical tree."""
    assert canonical(bind(annotation, config, build=False)) == canonical(bind(annotation, made, build=False))


def test_objects_are_described_without_annotations_too() -> None:
    """Where nothing is annotated, an object made in Python is described by what it was made from."""
    assert bind(Any, {"x": [Sgd(1)]}, build=False) == {
        "x": [Construction(f"{__name__}.Sgd", {"lr": 1.0, "momentum": None})]
    }


def test_a_dataclass_that_refuses_its_fields_is_an_error_of_the_argument() -> None:
    """What a dataclass checks itself is known while describing, unless a reference is among its fields."""
    with pytest.raises(ArgumentError, match="argument 'a': Point refuses it: ValueError: unlucky"):
        bind(Point, {"x": 13}, build=False)
    assert bind(Point, {"x": 13, "tags": REF}, build=False).arguments["x"] == 13.0
    with pytest.raises(ArgumentError, match=r"argument 'a\.point': Point refuses it: ValueError: unlucky"):
        bind(Split, {"train": 1, "point": {"x": 13}}, build=False)


def test_lazy_objects_are_made_later_with_more() -> None:
    """A Lazy lets required arguments be missing, and what construct adds prevails as it is."""
    lazy = bind(Lazy[Optimizer], {"type": "sgd", "momentum": 1})
    assert isinstance(lazy, Lazy)
    made = lazy.construct(lr="any object", momentum=2)
    assert (made.lr, made.momentum) == ("any object", 2)
    with pytest.raises(ArgumentError, match="argument 'lr': is missing"):
        lazy.construct()
    with pytest.raises(ArgumentError, match=r"argument 'a\.wrong'"):
        bind(Lazy[Optimizer], {"type": "sgd", "wrong": 1}, build=False)
    assert bind(Lazy[Optimizer], "sgd", build=False).lazy


def test_replacing_leaves_the_original_alone() -> None:
    """The walk rebuilds what it enters, and keeps kinds and order."""
    raw = {"b": [REF, (1, {"ref": "b"})], "a": {"x"}}
    found = replace_references(raw, lambda reference: reference.name.upper())
    assert found == {"b": ["A", (1, "B")], "a": {"x"}}
    assert list(found) == ["b", "a"]
    assert raw["b"][0] == REF  # type: ignore[index]


def test_unions_may_be_written_with_bars() -> None:
    """`X | Y` in a text is read as Union, also on Python 3.9, which itself has no such thing."""
    assert bind("int | None", None) is None
    assert bind("list[float | None] | str", [1]) == [1.0]
    if sys.version_info >= (3, 10):
        assert bind(int | None, 3) == 3


def test_a_union_default_is_converted_like_any_other() -> None:
    """A default inside an optional object means the same as the value written out."""

    class Inner(FromParams):
        def __init__(self, lr: float = 1) -> None:
            self.lr = lr

    assert type(bind(Optional[Inner], {}).lr) is float


@pytest.mark.parametrize("postponed", ["", "from __future__ import annotations\n"])
def test_optional_keys_may_be_marked_one_by_one(monkeypatch: pytest.MonkeyPatch, postponed: str) -> None:
    """NotRequired and Required are read, also where annotations are texts."""
    source = "typing" if sys.version_info >= (3, 11) else "typing_extensions"
    module = types.ModuleType("marked")
    monkeypatch.setitem(sys.modules, "marked", module)
    exec(
        f"{postponed}from {source} import NotRequired, Required, TypedDict\n"
        "class Some(TypedDict, total=False):\n    a: Required[int]\n    b: float\n"
        "class All(TypedDict):\n    a: int\n    b: NotRequired[float]\n",
        module.__dict__,
    )
    for name in ("Some", "All"):
        annotation = module.__dict__[name]
        assert bind(annotation, {"a": 1}) == {"a": 1}
        assert bind(annotation, {"a": 1, "b": 2}) == {"a": 1, "b": 2.0}
        with pytest.raises(ArgumentError, match=r"'a\.a': is missing"):
            bind(annotation, {"b": 2})


def test_values_are_immutable_and_compare() -> None:
    """References are values: equal, hashable, unchangeable."""
    assert {Reference("a"), Reference("a"), Reference("a", 0)} == {Reference("a"), Reference("a", 0)}
    assert Reference("a") != Reference("a", "")
    with pytest.raises(AttributeError):
        Reference("a").name = "b"


def test_params_behave_like_the_mapping_they_hold() -> None:
    """Params give and take their items, and say what nobody took."""
    params = Params({"a": 1, "b": 2})
    assert ("a" in params, params["a"], params.get("c", 3), list(params), len(params)) == (
        True,
        1,
        3,
        ["a", "b"],
        2,
    )
    assert params.pop("a") == 1
    with pytest.raises(ConfigurationError, match="'a' is missing"):
        params.pop("a")
    with pytest.raises(ConfigurationError, match="'b'"):
        params.assert_empty("thing")
    with pytest.raises(ArgumentError):
        Params({"type": "sgd", "lr": REF}).construct(Optimizer)
