"""Graphs: what may be written under ``steps:``, the order, and what is refused."""

from __future__ import annotations

from collections import OrderedDict
from datetime import date
from typing import Any

import pytest

from dispatch.errors import ConfigurationError
from dispatch.graph import StepGraph, StepNode, StepOptions
from dispatch.step import StepResources

REF = {"type": "ref", "ref": "a"}


def graph(**steps: Any) -> StepGraph:
    """Make a graph of steps of one type, each given as its references."""
    return StepGraph.from_params(
        {name: {"type": "t", "x": [{"ref": need} for need in needs]} for name, needs in steps.items()}
    )


def test_a_node_is_what_config_says() -> None:
    """Type, arguments and options are apart, and references are found at any depth, each once."""
    found = StepGraph.from_params(
        {
            "a": {"type": "load"},
            "b": {"type": "load"},
            "c": {
                "type": "train",
                "data": {"type": "ref", "ref": "b", "key": "x"},
                "more": [{"deep": {"ref": "a"}}, REF],
                "C": 0.1,
                "step_image": "sklearn",
                "step_resources": {"cpu_count": 1, "memory": "1GiB"},
                "step_env": {"A": "x", "N": 4, "F": 0.5},
                "step_network": "none",
                "step_format": "json",
            },
        }
    )
    assert found["c"] == StepNode(
        name="c",
        type="train",
        arguments={
            "data": {"type": "ref", "ref": "b", "key": "x"},
            "more": [{"deep": {"ref": "a"}}, REF],
            "C": 0.1,
        },
        dependencies=("b", "a"),
        options=StepOptions(
            image="sklearn",
            resources=StepResources(cpu_count=1.0, memory="1GiB"),
            env={"A": "x", "N": "4", "F": "0.5"},
            network="none",
            format="json",
        ),
    )
    assert found["a"].options == StepOptions()
    assert (len(found), list(found), "a" in found, "x" in found) == (3, ["a", "b", "c"], True, False)


def test_how_a_step_is_kept_is_no_argument() -> None:
    """The reserved keys that identity and records know are options, and what is left are the arguments."""
    found = StepGraph.from_params(
        {
            "s": {
                "type": "t",
                "x": 1,
                "step_name": "s",
                "step_metadata": {"owner": ("me", 1)},
                "step_format": {"type": "json", "indent": 1},
                "step_unique_id_override": "S-1",
                "cache_results": False,
            }
        }
    )["s"]
    assert found.arguments == {"x": 1}
    assert found.options == StepOptions(
        metadata={"owner": ["me", 1]},
        format={"type": "json", "indent": 1},
        unique_id="S-1",
        cache_results=False,
    )


def test_extra_dependencies_order_steps_like_others() -> None:
    """They may be written as names or references, count once, and not where an argument refers, too."""
    found = StepGraph.from_params(
        {
            "s": {
                "type": "t",
                "x": {"ref": "a"},
                "step_extra_dependencies": ["b", {"type": "ref", "ref": "c"}, {"ref": "b"}, "a"],
            },
            "c": {"type": "shell", "command": "ls", "step_extra_dependencies": ["d"]},
            "b": {"type": "t"},
            "a": {"type": "t"},
            "d": {"type": "t"},
            "e": {"type": "t"},
        }
    )
    assert (found["s"].dependencies, found["s"].extra) == (("a",), ("b", "c"))
    assert found["s"].needs == ("a", "b", "c")
    assert found.order == ("a", "b", "d", "c", "s", "e")
    assert found.dependents("b") == ("s",)
    assert list(found.sub_graph(["s"])) == ["s", "c", "b", "a", "d"]
    with pytest.raises(ConfigurationError, match="circle: s → c → s"):
        StepGraph.from_params(
            {
                "s": {"type": "t", "step_extra_dependencies": ["c"]},
                "c": {"type": "t", "x": {"ref": "s"}},
            }
        )


@pytest.mark.parametrize(
    ("steps", "order"),
    [
        ({}, ()),
        ({"a": [], "b": [], "c": []}, ("a", "b", "c")),
        ({"c": ["a"], "b": [], "a": []}, ("a", "c", "b")),
        ({"d": ["b", "c"], "c": ["a"], "b": ["a"], "a": []}, ("a", "b", "c", "d")),
        ({"a": [], "d": ["c", "a"], "c": ["b"], "b": ["a"]}, ("a", "b", "c", "d")),
    ],
)
def test_the_order_is_that_of_the_config_as_far_as_references_allow(
    steps: dict[str, list[str]], order: tuple[str, ...]
) -> None:
    """Dependencies come first, and all else as it is written."""
    assert graph(**steps).order == order


def test_long_chains_are_no_problem() -> None:
    """A chain of ten thousand steps, written backwards, is ordered without recursion."""
    count = 10_000
    steps = {f"s{i}": [f"s{i - 1}"] if i else [] for i in reversed(range(count))}
    assert graph(**steps).order == tuple(f"s{i}" for i in range(count))


@pytest.mark.parametrize(
    ("steps", "path"),
    [
        ({"a": ["a"]}, "a → a"),
        ({"a": ["b"], "b": ["a"]}, "a → b → a"),
        ({"x": [], "a": ["x", "b"], "b": ["c"], "c": ["b"]}, "b → c → b"),
    ],
)
def test_a_cycle_is_printed(steps: dict[str, list[str]], path: str) -> None:
    """The error shows the circle and nothing that only leads into it."""
    with pytest.raises(ConfigurationError, match=f"circle: {path}$"):
        graph(**steps)


def test_a_missing_reference_names_both_ends() -> None:
    """The error names the step, the name it refers to, and the nearest one that is there."""
    with pytest.raises(
        ConfigurationError, match="step 'b': refers to 'lod', which is no step, did you mean 'load'"
    ):
        graph(load=[], b=["lod"])


def test_a_sub_graph_holds_what_is_needed() -> None:
    """Named steps and all behind them stay, in the order of the config."""
    whole = graph(d=["c"], x=[], c=["a", "b"], b=[], a=[])
    assert list(whole.sub_graph(["c"])) == ["c", "b", "a"]
    assert whole.sub_graph(["x", "d"]).order == ("a", "b", "c", "d", "x")
    assert whole.sub_graph([]).order == ()
    with pytest.raises(ConfigurationError, match="there is no step 'dd', did you mean 'd'"):
        graph(d=[], a=[]).sub_graph(["dd"])


def test_dependents_are_the_steps_that_refer() -> None:
    """Direct dependents are told in the order of the config."""
    found = graph(d=["a", "c"], c=["a"], a=[])
    assert (found.dependents("a"), found.dependents("d")) == (("d", "c"), ())
    with pytest.raises(KeyError):
        found.dependents("x")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "step 's': has no 'type'"),
        ({"typ": "t"}, "step 's': has no 'type', but 'typ': did you mean 'type'"),
        ({"type": 3}, "step 's': type: expected a text, got int 3"),
        ({"type": ""}, "step 's': type: expected a text"),
        ({"type": "ref", "ref": "a"}, "step 's': is a reference"),
        ("t", "step 's': expected a mapping, got str"),
        (None, "step 's': expected a mapping, got NoneType"),
        ({"type": "t", "step_imag": "x"}, "step 's': there is no key 'step_imag', did you mean 'step_image'"),
        ({"type": "t", "step_identity": 1}, "step 's': 'step_identity' is not supported yet"),
        ({"type": "t", "step_config": {}}, "step 's': 'step_config' cannot be given"),
        ({"type": "t", "step_name": "other"}, "step 's': step_name is 'other', but under `steps:` it is 's'"),
        ({"type": "t", "step_extra_dependencies": "a"}, "step_extra_dependencies: expected a list of names"),
        ({"type": "t", "step_extra_dependencies": [3]}, "step_extra_dependencies[0]: expected the name"),
        (
            {"type": "t", "step_extra_dependencies": [{"ref": "a", "key": 0}]},
            "step_extra_dependencies[0]: expected the name of a step",
        ),
        (
            {"type": "t", "step_extra_dependencies": [{"type": "ref"}]},
            "step_extra_dependencies[0]: holds a malformed reference",
        ),
        ({"type": "t", "step_extra_dependencies": ["a"]}, "step 's': refers to 'a', which is no step"),
        ({"type": "t", "step_extra_dependencies": ["s"]}, "in a circle: s → s"),
        ({"type": "t", "cache_results": 1}, "step 's': cache_results: expected true or false, got int 1"),
        ({"type": "t", "step_metadata": ["x"]}, "step 's': step_metadata: expected a mapping, got list"),
        ({"type": "t", "step_metadata": {"d": date(2024, 1, 1)}}, "step 's': step_metadata.d: is a date"),
        ({"type": "t", "step_metadata": {"d": {"ref": "a"}}}, "step 's': step_metadata: refers to a step"),
        ({"type": "t", "step_format": {"type": "json", "x": {1}}}, "step 's': step_format.x: is a set"),
        ({"type": "t", "step_format": ["json"]}, "step 's': step_format: expected the name of a format, or"),
        ({"type": "t", "step_unique_id_override": "../x"}, "step_unique_id_override: '../x' cannot be"),
        ({"type": "t", "step_unique_id_override": "a" * 151}, "cannot be a unique id"),
        ({"type": "t", 3: "x"}, "step 's': the key 3 is not a text"),
        ({"type": "t", "step_image": 3}, "step 's': step_image: expected a name or a declaration, got int 3"),
        ({"type": "t", "step_image": ""}, "step 's': step_image: expected a name or a declaration"),
        (
            {"type": "t", "step_network": "host"},
            "step 's': step_network: expected 'bridge' or 'none', got str 'host'",
        ),
        ({"type": "t", "step_network": True}, "step 's': step_network: expected 'bridge' or 'none'"),
        ({"type": "t", "step_format": 3}, "step 's': step_format: expected the name of a format"),
        ({"type": "t", "step_env": ["A=1"]}, "step 's': step_env: expected a mapping, got list"),
        (
            {"type": "t", "step_env": {"A": True}},
            "step 's': step_env.A: expected a text or a number, got bool True",
        ),
        ({"type": "t", "step_env": {"A": None}}, "step 's': step_env.A: expected a text or a number"),
        ({"type": "t", "step_env": {"A": "x\0"}}, "step 's': step_env.A: expected a text or a number"),
        ({"type": "t", "step_env": {"A-B": "x"}}, "step 's': step_env.A-B: 'A-B' cannot be the name"),
        ({"type": "t", "step_env": {"A\n": "x"}}, "cannot be the name"),
        (
            {"type": "t", "step_env": {"dispatch_X": "x"}},
            "step 's': step_env.dispatch_X: the name is reserved",
        ),
        ({"type": "t", "step_resources": 4}, "step 's': step_resources: expected a mapping, got int 4"),
        (
            {"type": "t", "step_resources": {"cpu": 1}},
            "step 's': step_resources.cpu: StepResources does not take it",
        ),
        (
            {"type": "t", "step_resources": {"memory": "1G"}},
            "step 's': step_resources.memory: '1G' is not a size",
        ),
        (
            {"type": "t", "step_resources": {"cpu_count": "2"}},
            "step_resources.cpu_count: expected float | None",
        ),
        ({"type": "t", "x": [{"d": date(2024, 1, 1)}]}, "step 's': argument 'x[0].d': is a date"),
        ({"type": "t", "x": {1}}, "step 's': argument 'x': is a set"),
        ({"type": "t", "x": {True: 1}}, "step 's': argument 'x': has the key True, a bool"),
        (
            {"type": "t", "x": [{"type": "ref", "rf": "a"}]},
            r"step 's': argument 'x[0]': holds a malformed reference",
        ),
        ({"type": "shell"}, "step 's': argument 'command': is missing"),
        ({"type": "shell", "command": ["ls"]}, "step 's': argument 'command': is not a text"),
        ({"type": "shell", "command": "  "}, "step 's': argument 'command': is not a text"),
        (
            {"type": "shell", "command": "ls", "input": {}},
            "argument 'input': a shell step does not take it, did you mean 'inputs'",
        ),
        (
            {"type": "shell", "command": "ls", "inputs": ["a"]},
            "step 's': argument 'inputs': expected a mapping",
        ),
        (
            {"type": "shell", "command": "ls", "inputs": {"a": [1]}},
            "argument 'inputs.a': expected a reference or a",
        ),
        (
            {"type": "shell", "command": "ls", "inputs": {"a": [{"ref": "s"}]}},
            "argument 'inputs.a': expected one reference",
        ),
        (
            {"type": "shell", "command": "ls", "inputs": {"a": {"x": {"ref": "s"}}}},
            "argument 'inputs.a': expected one reference",
        ),
        (
            {"type": "shell", "command": "ls", "inputs": {"a": {"ref": "s", "key": 0}}},
            "'inputs.a': a command is given a whole",
        ),
        ({"type": "shell", "command": "ls", "inputs": {"a b": 1}}, "argument 'inputs.a b': its name cannot"),
        (
            {"type": "shell", "command": "ls", "paths": "src"},
            "argument 'paths': expected a list of paths inside",
        ),
        (
            {"type": "shell", "command": "ls", "paths": ["/etc"]},
            "argument 'paths': expected a list of paths inside",
        ),
        (
            {"type": "shell", "command": "ls", "paths": ["a/../.."]},
            "argument 'paths': expected a list of paths inside",
        ),
        (
            {"type": "shell", "command": "ls", "paths": [""]},
            "argument 'paths': expected a list of paths inside",
        ),
    ],
)
def test_what_cannot_be_a_step_is_refused(raw: Any, message: str) -> None:
    """Each kind of wrong step is one error that names the step, the key and the fact, and has a remedy."""
    with pytest.raises(ConfigurationError) as caught:
        StepGraph.from_params({"s": raw})
    assert message in caught.value.message
    assert "\n" not in caught.value.message.replace("A\n", "")
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["", ".a", "-a", "a b", "a/b", "../a", "a\n", "é", "a" * 101, 3, None])
def test_names_that_could_not_be_files_are_refused(name: Any) -> None:
    """A step's name becomes part of paths and container names, so it is held to a whitelist."""
    with pytest.raises(ConfigurationError, match="cannot be a step's name"):
        StepGraph.from_params({name: {"type": "t"}})


def test_steps_that_are_no_mapping_are_refused() -> None:
    """A list of steps has no names."""
    with pytest.raises(ConfigurationError, match="steps: expected a mapping of names to steps, got list"):
        StepGraph.from_params([{"type": "t"}])  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="is there twice"):
        StepGraph([StepNode("a", "t", {}), StepNode("a", "t", {})])


def test_shell_steps_refer_in_their_inputs() -> None:
    """A shell step's dependencies are its inputs, which may also be single values."""
    found = StepGraph.from_params(
        {
            "a": {"type": "t"},
            "s": {
                "type": "shell",
                "command": "ls",
                "inputs": {"model": {"ref": "a"}, "n": 3},
                "paths": ["src/x", "."],
            },
        }
    )
    assert found["s"].dependencies == ("a",)
    assert found["s"].arguments["inputs"] == {"model": {"ref": "a"}, "n": 3}


def test_arguments_are_what_json_can_carry() -> None:
    """Tuples become lists, integer keys texts and other mappings dicts, as they will after the journey."""
    raw = {"type": "t", "x": (1, (2,)), "y": OrderedDict({1: {2: (3,)}, "z": None}), "f": float("inf")}
    found = StepGraph.from_params({"s": raw})["s"].arguments
    assert found == {"x": [1, [2]], "y": {"1": {"2": [3]}, "z": None}, "f": float("inf")}
    assert type(found["y"]) is dict
    assert raw["x"] == (1, (2,))
