"""Steps: what they declare, how they describe themselves, and their unique ids."""

# The module's annotations are those of a user whose steps run on Python 3.9.
# ruff: noqa: UP006, UP035, UP045

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest

from dispatch.errors import ConfigurationError, StepStateError
from dispatch.fingerprint import canonical, resolve, unique_id
from dispatch.formats import AUTO, Format, JsonFormat
from dispatch.graph import StepGraph
from dispatch.params import ArgumentError, Lazy
from dispatch.registrable import FromParams, Registrable, UnknownNameError
from dispatch.step import Step, StepIndexer, StepResources, describe_step, step


class Loss(Registrable):
    """Objects that steps take."""


@Loss.register("l2")
class L2(Loss):
    """One of them."""

    def __init__(self, weight: float = 1) -> None:
        self.weight = weight


@dataclass
class Split:
    """Data that steps take."""

    train: float
    source: Any = None


class Holder(FromParams):
    """An object that holds another step's result."""

    def __init__(self, data: Any) -> None:
        self.data = data


@step("test-load")
def load(size: int = 10) -> Dict[str, Any]:
    """Make data."""
    return {"size": size}


@Step.register("test-train")
class Train(Step):
    """Takes everything a step can take."""

    VERSION = "001"
    SKIP_ID_ARGUMENTS = frozenset({"verbose"})
    SKIP_DEFAULT_ARGUMENTS = {"warmup": 0, "extra": None}

    def run(
        self,
        data: Dict[str, Any],
        C: float = 1,
        sizes: Optional[List[int]] = None,
        loss: Loss = L2(),  # noqa: B008 - a default like any other
        split: Optional[Split] = None,
        out: Path = Path("out"),
        later: Optional[Lazy[Loss]] = None,
        holder: Optional[Holder] = None,
        verbose: bool = False,
        warmup: float = 0.0,
        extra: Any = None,
    ) -> Any:
        """Return what it was given."""
        return locals()


REF = {"type": "ref", "ref": "data"}


def identify(type_name: str, raw: Dict[str, Any], known: Dict[str, str]) -> str:
    """Return the unique id as the client makes it of a description that went through JSON."""
    cls: Any = Step.by_name(type_name)
    found = json.loads(json.dumps(describe_step(cls, type_name, raw, name="s")))
    arguments = resolve(found["arguments"], known)
    return unique_id(found["class"], found["version"], found["type"], canonical(found["format"]), arguments)


def test_a_function_becomes_a_step_of_its_name() -> None:
    """The decorator makes a registered class that has the function's name, place and text."""
    cls: Any = load
    assert Step.by_name("test-load") is cls
    assert (cls.__name__, cls.__module__, cls.__qualname__) == ("load", __name__, "load")
    assert cls.__doc__ == "Make data."
    assert cls().run(size=3) == {"size": 3}
    assert cls().unique_id.startswith("load-")


def test_a_bound_functions_first_parameter_is_the_step() -> None:
    """With bind, the function is a method; it cannot be one without self."""

    @step("test-bound", bind=True, exist_ok=True)
    def bound(self: Step, a: int) -> Any:
        return self.name, a

    assert bound(step_name="x", a=1).run(a=1) == ("x", 1)
    assert bound(a=1).unique_id
    with pytest.raises(ConfigurationError, match="is not 'self'"):
        step("test-unbound", bind=True)(lambda a: a)
    with pytest.raises(ConfigurationError, match="without parentheses"):
        step(lambda a: a)  # type: ignore[arg-type]


def test_a_description_says_all_and_is_json() -> None:
    """Describing gives the whole answer, with typed arguments, defaults and references by name."""
    raw = {"data": REF, "C": 3, "verbose": True}
    found = describe_step(Train, "test-train", raw, name="train")
    tree = {key[1]: value for key, value in found.pop("arguments")[1]}
    assert json.loads(json.dumps(found)) == {
        "class": "Train",
        "module": __name__,
        "qualname": "Train",
        "type": "test-train",
        "version": "001",
        "deterministic": True,
        "cacheable": None,
        "format": {"name": "auto", "version": "001"},
        "requires": [],
        "modules": [],
        "metadata": {},
        "resources": None,
    }
    assert tree == {
        "data": ["ref", "data", None],
        "C": ["f", (3.0).hex()],
        "sizes": ["n"],
        "loss": ["c", f"{__name__}.L2", {"weight": ["f", (1.0).hex()]}],
        "split": ["n"],
        "out": ["p", "out"],
        "later": ["n"],
        "holder": ["n"],
    }


@pytest.mark.parametrize(
    ("raw", "made"),
    [
        ({}, {}),
        ({"C": 1}, {"C": 1.0}),
        ({"C": 2}, {"C": 2}),
        ({"sizes": [1, 2]}, {"sizes": [1, 2]}),
        ({"loss": {"type": "l2"}}, {"loss": L2(1)}),
        ({"loss": "l2"}, {"loss": L2(weight=1.0)}),
        ({"loss": {"type": "l2", "weight": 3}}, {"loss": L2(3)}),
        ({"split": {"train": 1}}, {"split": Split(1)}),
        ({"split": {"train": 1, "source": REF}}, {"split": Split(1, "STEP")}),
        ({"holder": {"data": [REF]}}, {"holder": Holder(["STEP"])}),
        ({"out": "a/b"}, {"out": Path("a/b")}),
        ({"later": {"type": "l2", "weight": 1}}, {"later": Lazy(L2, {"weight": 1.0})}),
        ({"verbose": True}, {}),
        ({"warmup": 0}, {"warmup": 0.0}),
        ({"warmup": 2}, {"warmup": 2.0}),
        ({"extra": {"x": [1, REF]}}, {"extra": {"x": [1, "STEP"]}}),
        ({"extra": {"type": "ref", "ref": "data", "key": "k"}}, {"extra": "ITEM"}),
    ],
)
def test_config_and_python_have_one_identity(raw: Dict[str, Any], made: Dict[str, Any]) -> None:
    """A step made in Python of Step objects has the unique id that the client works out from config."""
    data = load(size=5)
    known = {"data": identify("test-load", {"size": 5}, {})}
    assert data.unique_id == known["data"]
    put_in = {"STEP": data, "ITEM": StepIndexer(data, "k")}
    in_python = Train(data=data, **{name: _with_steps(value, put_in) for name, value in made.items()})
    assert in_python.unique_id == identify("test-train", {"data": REF, **raw}, known)
    assert in_python.dependencies == (data,)


def _with_steps(value: Any, put_in: Dict[str, Any]) -> Any:
    """Put steps in the place of their stand-ins: they are made anew for each test."""
    if isinstance(value, dict):
        return {key: _with_steps(item, put_in) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_steps(item, put_in) for item in value]
    if isinstance(value, Split):
        return Split(value.train, _with_steps(value.source, put_in))
    if isinstance(value, Holder):
        return Holder(_with_steps(value.data, put_in))
    return put_in.get(value, value) if isinstance(value, str) else value


def test_the_order_of_keywords_does_not_enter_the_identity() -> None:
    """Arguments are a set of names with values."""
    assert Train(data={}, C=2, out="x").unique_id == Train(out=Path("x"), C=2.0, data={}).unique_id


@pytest.mark.parametrize(
    "change",
    [
        {"C": 2},
        {"sizes": []},
        {"warmup": 1},
        {"extra": 0},
        {"step_format": "json"},
        {"loss": L2(2)},
        {"data": {"a": 1}},
    ],
)
def test_what_matters_changes_the_identity(change: Dict[str, Any]) -> None:
    """An argument, the format or an object's arguments make another step; a name or resources do not."""
    assert Train(**{"data": {}, **change}).unique_id != Train(data={}).unique_id
    named = Train(data={}, step_name="n", step_resources=StepResources(cpu_count=2), cache_results=False)
    assert named.unique_id == Train(data={}).unique_id


def test_the_version_is_part_of_the_name_and_the_digest() -> None:
    """A new VERSION is another step, and is seen in the id."""

    class Other(Train):
        VERSION = "002"

    Other.__name__ = "Train"
    assert Other(data={}).unique_id.startswith("Train-002-")
    assert Other(data={}).unique_id[-32:] != Train(data={}).unique_id[-32:]


def test_massage_kwargs_changes_the_identity_alone() -> None:
    """A class may normalise what identifies it; run still gets what was given."""

    @step("test-massaged", exist_ok=True)
    def massaged(names: List[str]) -> Any:
        return names

    massaged.massage_kwargs = classmethod(lambda _, kwargs: {"names": sorted(kwargs["names"])})  # type: ignore[method-assign,assignment]
    assert massaged(names=["b", "a"]).unique_id == massaged(names=["a", "b"]).unique_id
    assert massaged().run(["b", "a"]) == ["b", "a"]


@pytest.mark.parametrize(
    ("type_name", "raw", "message"),
    [
        ("test-train", {}, "step 's': argument 'data': is missing"),
        ("test-train", {"data": REF, "c": 1}, "step 's': argument 'c': run() does not take it"),
        (
            "test-train",
            {"data": REF, "sizess": 1},
            "step 's': argument 'sizess': run() does not take it, did you mean 'sizes'?",
        ),
        ("test-train", {"data": REF, "C": "1"}, "step 's': argument 'C': expected float, got str '1'"),
        ("test-train", {"data": [REF]}, "step 's': argument 'data': expected Dict[str, Any], got list"),
        (
            "test-train",
            {"data": REF, "loss": "l3"},
            "step 's': argument 'loss.type': Loss: no 'l3' is registered",
        ),
        ("test-train", {"data": REF, "split": {}}, "step 's': argument 'split.train': is missing"),
        (
            "test-train",
            {"data": REF, "extra": object()},
            "step 's': argument 'extra': a value of type builtins.object",
        ),
        (
            "test-train",
            {"data": REF, "extra": [{"a": {1j}}]},
            "step 's': argument 'extra[0].a{…}': a value of type builtins.complex",
        ),
    ],
)
def test_wrong_arguments_name_step_and_argument(type_name: str, raw: Dict[str, Any], message: str) -> None:
    """Each kind of wrong argument is an error that names the step and the place."""
    with pytest.raises(ArgumentError) as caught:
        describe_step(Step.by_name(type_name), type_name, raw, name="s")  # type: ignore[arg-type]
    assert caught.value.message.startswith(message)
    assert caught.value.argument


def test_an_unknown_type_lists_the_registered_ones() -> None:
    """A type that is not registered is told apart from other errors, and the known ones are listed."""
    with pytest.raises(UnknownNameError, match="did you mean 'test-train'") as caught:
        Step.by_name("test-trian")
    assert "test-load" in caught.value.remedy


@pytest.mark.parametrize("name", ["ref", "shell"])
def test_reserved_types_cannot_be_registered(name: str) -> None:
    """What config means by itself cannot be a step's type."""
    with pytest.raises(ConfigurationError, match="reserved"):
        step(name)(lambda: None)


def test_a_class_without_run_or_with_reserved_parameters_is_refused() -> None:
    """A class that cannot be run from config is an error of the class, not of an argument."""

    class Empty(Step):
        """Nothing."""

    class Taken(Step):
        def run(self, type: str) -> None:
            """Take what config cannot give."""

    with pytest.raises(ConfigurationError, match=r"step 's': .*Empty defines no run\(\)"):
        describe_step(Empty, "x", {}, name="s")
    with pytest.raises(ConfigurationError, match="parameter 'type', which is reserved"):
        describe_step(Taken, "x", {}, name="s")


def test_the_type_is_the_registered_name_or_the_place() -> None:
    """A class has one identity, whether config names it by its registered name or by its place."""
    by_place = describe_step(Train, f"{__name__}.Train", {"data": {}})
    assert by_place["type"] == "test-train"

    class Nameless(Step):
        def run(self) -> None:
            """Do nothing."""

    assert describe_step(Nameless, "any", {})["type"] == f"{__name__}.{Nameless.__qualname__}"


def test_formats_come_from_the_class_unless_the_step_says() -> None:
    """step_format prevails over FORMAT, in the answer and on the object."""
    assert Train(data={}).format is AUTO
    assert isinstance(Train(data={}, step_format="json").format, JsonFormat)
    assert describe_step(Train, "test-train", {"data": {}}, "json")["format"] == {
        "name": "json",
        "version": "001",
    }
    with pytest.raises(ConfigurationError, match="did you mean 'json'"):
        describe_step(Train, "test-train", {"data": {}}, "jsno")


@pytest.mark.parametrize(
    ("deterministic", "cacheable", "asked", "kept"),
    [
        (True, None, None, True),
        (False, None, None, False),
        (False, True, None, True),
        (True, False, None, False),
        (True, None, False, False),
        (False, None, True, True),
        (True, False, True, ConfigurationError),
    ],
)
def test_results_are_kept_unless_something_speaks_against_it(
    deterministic: bool, cacheable: Optional[bool], asked: Optional[bool], kept: Any
) -> None:
    """CACHEABLE decides before DETERMINISTIC; the step's own wish prevails, but not against CACHEABLE."""

    @step("test-kept", deterministic=deterministic, cacheable=cacheable, exist_ok=True)
    def kept_step() -> None:
        return None

    made = kept_step(cache_results=asked)
    if kept is ConfigurationError:
        with pytest.raises(ConfigurationError, match="CACHEABLE"):
            assert made.cache_results
    else:
        assert made.cache_results is kept
        described = describe_step(kept_step, "test-kept", {})
        assert (described["deterministic"], described["cacheable"]) == (deterministic, cacheable)


def test_a_class_may_tell_its_resources_from_its_arguments() -> None:
    """The property 'resources' of a class is part of its description, with references still open."""

    @Step.register("test-gpu", exist_ok=True)
    class Gpu(Step):
        @property
        def resources(self) -> StepResources:
            """As many as the arguments say."""
            return StepResources(gpu_count=self.kwargs["n"], memory="1GiB")

        def run(self, n: int, data: Any = None) -> None:
            """Do nothing."""

    found = describe_step(Gpu, "test-gpu", {"n": 2, "data": REF})
    assert found["resources"] == {"gpu_count": 2, "memory": "1GiB"}
    with pytest.raises(ConfigurationError, match=r"'resources' of .*Gpu cannot be told: .*not above zero"):
        describe_step(Gpu, "test-gpu", {"n": -1})


def test_resources_may_be_a_method() -> None:
    """Where 'resources' is overridden by a method, it is called."""

    @Step.register("test-method", exist_ok=True)
    class Method(Step):
        def resources(self) -> StepResources:  # type: ignore[override]
            """As many as the arguments say."""
            return StepResources(cpu_count=self.kwargs["n"])

        def run(self, n: float) -> None:
            """Do nothing."""

    assert describe_step(Method, "test-method", {"n": 2})["resources"] == {"cpu_count": 2.0}


def test_metadata_of_class_and_step() -> None:
    """The class's is described, what the step adds prevails on the object, and neither is identity."""

    @step("test-owned", metadata={"owner": "me", "tags": ["a"]}, exist_ok=True)
    def owned(n: int = 1) -> int:
        return n

    assert describe_step(owned, "test-owned", {})["metadata"] == {"owner": "me", "tags": ["a"]}
    made = owned(step_metadata={"owner": "you"})
    assert made.metadata == {"owner": "you", "tags": ["a"]}
    assert made.unique_id == owned().unique_id
    for wrong, part in (({"x": object()}, "cannot be kept: Object of type object"), ([], "is a list, not a")):
        owned.METADATA = wrong  # type: ignore[assignment]
        with pytest.raises(ConfigurationError, match=part):
            describe_step(owned, "test-owned", {}, name="s")


def test_the_step_as_config_says_it() -> None:
    """A program may say from which config a step was made."""
    assert Train(data={}).config == {}
    assert Train(data={}, step_config={"type": "test-train"}).config == {"type": "test-train"}


def test_names_may_have_colons() -> None:
    """Such a name is the type that enters the identity."""

    @step("torch::train-test", exist_ok=True)
    def train() -> None:
        return None

    assert describe_step(Step.by_name("torch::train-test"), "torch::train-test", {})["type"] == (  # type: ignore[arg-type]
        "torch::train-test"
    )


def test_formats_may_have_arguments() -> None:
    """FORMAT and step_format may be mappings; name and version enter the identity, arguments do not."""
    plain = describe_step(Train, "test-train", {"data": {}}, "json")
    zipped = describe_step(Train, "test-train", {"data": {}}, {"type": "json", "compress": "gz"})
    assert zipped == plain
    assert isinstance(Train(data={}, step_format={"type": "json", "compress": "gz"}).format, JsonFormat)
    with pytest.raises(ConfigurationError, match="compres"):
        describe_step(Train, "test-train", {"data": {}}, {"type": "json", "compres": "gz"})
    assert describe_step(Train, "test-train", {"data": {}}, "dill")["requires"] == ["dill"]


def test_a_description_names_the_modules_that_arguments_need() -> None:
    """Those that register what config names, besides the step's own."""
    found = describe_step(Train, "test-train", {"data": {}, "loss": "l2", "later": {"type": "l2"}})
    assert found["modules"] == []

    @step("test-format", exist_ok=True)
    def takes(format: Format[Any]) -> None:  # noqa: ARG001
        return None

    assert describe_step(takes, "test-format", {"format": "json"})["modules"] == ["dispatch.formats.plain"]


def test_steps_are_equal_by_their_identity() -> None:
    """They can be keys and members of sets; another kind of thing is never equal."""
    same = Train(data={}, C=1), Train(C=1.0, data={}, step_name="x")
    assert same[0] == same[1]
    assert len({*same, Train(data={}, C=2)}) == 2
    assert same[0] != same[0].unique_id


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"cpus": 1}, "argument 'cpus'"),
        ({"cpu_count": 0}, "argument 'cpu_count': 0.0 is not above zero"),
        ({"gpu_count": 1.5}, "argument 'gpu_count': expected int | None"),
        ({"memory": "16G"}, "argument 'memory': '16G' is not a size"),
        ({"shared_memory": -1}, "argument 'shared_memory': -1 is not a size"),
        ({"machine": 3}, "argument 'machine': expected str | None"),
    ],
)
def test_wrong_resources_are_errors_of_their_key(raw: Dict[str, Any], message: str) -> None:
    """Resources are held to their types and units."""
    with pytest.raises(ArgumentError) as caught:
        StepResources.from_config(raw)
    assert caught.value.message.startswith(message)


def test_resources_are_values() -> None:
    """Resources compare, can be keys, give bytes, and come back from their JSON form."""
    resources = StepResources.from_config(
        {"cpu_count": 1, "memory": "1GiB", "shared_memory": 4096, "gpu_count": 0}
    )
    assert (resources.memory_bytes, resources.shared_memory_bytes) == (1024**3, 4096)
    assert StepResources().memory_bytes is None
    assert resources == StepResources(1.0, 0, memory="1GiB", shared_memory=4096)
    assert len({resources, StepResources.from_config(resources.to_json())}) == 1
    assert StepResources().to_json() == {}


@pytest.mark.parametrize(("name", "what"), [("work_dir", "work directory"), ("workspace", "workspace")])
def test_a_step_that_does_not_run_has_no_surroundings(name: str, what: str) -> None:
    """Work directory and workspace are there while the step runs; the logger is always there."""
    with pytest.raises(StepStateError, match=f"has no {what}, as it is not running") as caught:
        getattr(Train(data={}), name)
    assert caught.value.remedy == f"use self.{name} inside run()"
    assert Train(data={}).logger.name == f"{__name__}.Train"


def test_names_default_to_the_unique_id() -> None:
    """A step without a name is called by its id, and an id that was given is taken as it is."""
    assert Train(data={}).name == Train(data={}).unique_id
    assert Train(data={}, step_name="x").name == "x"
    assert Train(step_unique_id_override="Train-x").unique_id == "Train-x"
    assert Train(data={}).class_name == "Train"


def test_a_reference_by_name_has_no_identity_outside_a_graph() -> None:
    """In Python a step is referred to by the object; a name leads nowhere."""
    with pytest.raises(ConfigurationError, match="'data'"):
        assert Train(data=REF).unique_id


def test_a_chain_of_steps_is_identified_by_all_of_it() -> None:
    """The identity of a dependency is part of that of its dependents, in Python as in a graph."""
    graph = StepGraph.from_params(
        {
            "last": {"type": "test-train", "data": {"ref": "middle"}},
            "middle": {"type": "test-train", "data": {"ref": "first"}, "C": 2},
            "first": {"type": "test-load"},
        }
    )
    known: Dict[str, str] = {}
    for name in graph.order:
        known[name] = identify(graph[name].type, dict(graph[name].arguments), known)
    assert Train(data=Train(data=load(), C=2.0)).unique_id == known["last"]
    assert Train(data=Train(data=load(size=9), C=2.0)).unique_id != known["last"]
