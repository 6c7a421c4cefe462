"""What may be asked of a plan beyond identities: ids and caching by hand, formats, running again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from dispatch.errors import ConfigurationError
from dispatch.fingerprint import canonical
from dispatch.info import AttemptFacts, StepInfo, StepState
from dispatch.plan import RunPlan, Standing, Wanted
from dispatch.testing.plans import IDENTITIES, KnownResults, plan_steps, unique_id_of

REF = {"type": "ref", "ref": "a"}
SHELL: dict[str, Any] = {"type": "shell", "command": "make", "inputs": {"n": REF}}


def test_records_say_what_ids_are_made_of() -> None:
    """Type, version, format and arguments with their references resolved are kept with every record."""
    found = plan_steps(
        {"a": {"type": "load", "n": 1, "step_metadata": {"why": "x"}}, "b": {**SHELL, "step_image": "here"}},
        {"a": {"version": "002", "metadata": {"why": "its class", "by": "its class"}}},
    )
    first, second = found["a"].record, found["b"].record
    assert first is not None
    assert second is not None
    assert first.identity == {
        "type": "load",
        "version": "002",
        "format": canonical({"name": "auto", "version": "001"}),
        "arguments": canonical({"n": 1}),
    }
    assert first.metadata == {"why": "x", "by": "its class"}
    assert second.identity["arguments"] == [
        "d",
        [
            [["s", "command"], ["s", "make"]],
            [["s", "env"], ["d", []]],
            [["s", "image"], ["n"]],
            [["s", "inputs"], ["d", [[["s", "n"], ["step", first.unique_id, None]]]]],
            [["s", "tree"], ["n"]],
        ],
    ]


@pytest.mark.parametrize(
    ("wanted", "deterministic", "allowed", "kept"),
    [
        (None, True, None, True),
        (False, True, None, False),
        (False, True, True, False),
        (True, True, None, True),
        (True, False, None, True),
        (True, True, True, True),
        (False, True, False, False),
        (True, True, False, None),
        (True, False, False, None),
    ],
)
def test_caching_by_hand(
    wanted: bool | None, deterministic: bool, allowed: bool | None, kept: bool | None
) -> None:
    """Config may keep what the class leaves open, and drop anything, but not keep what the class refuses."""
    steps = {"a": {"type": "load", **({} if wanted is None else {"cache_results": wanted})}}
    changes = {"a": {"deterministic": deterministic, "cacheable": allowed}}
    if kept is None:
        with pytest.raises(ConfigurationError, match="step 'a': cache_results, but its class Load is not"):
            plan_steps(steps, changes)
        return
    record = plan_steps(steps, changes)["a"].record
    assert record is not None
    assert record.cacheable is kept


def test_a_command_need_not_be_kept() -> None:
    """A shell step with cache_results false is a job whose result lives as long as the run."""
    found = plan_steps({"a": {"type": "shell", "command": "date", "cache_results": False}})["a"]
    assert found.record is not None
    assert not found.record.cacheable
    assert (found.standing, found.reason) == (Standing.RUN, "its result is not kept")


def test_an_id_by_hand() -> None:
    """An overridden id is the step's id, enters what is behind it, and belongs to one identity alone."""
    own = {"type": "load", "n": 1, "step_unique_id_override": "by-hand"}
    found = plan_steps({"a": own, "b": {"type": "train", "data": REF}})
    assert unique_id_of(found["a"]) == "by-hand"
    record = found["b"].record
    assert record is not None
    assert record.dependencies == ("by-hand",)
    plan_steps({"a": own, "same": own})
    with pytest.raises(ConfigurationError, match="steps 'a' and 'b': have one unique id"):
        plan_steps({"a": own, "b": {**own, "n": 2}})


CODE = replace(IDENTITIES, code="now")
GRAPH: dict[str, Any] = {
    "a": {"type": "load"},
    "b": {"type": "train", "data": REF},
    "c": SHELL,
    "d": {"type": "use", "data": {"type": "ref", "ref": "b"}},
    "e": {"type": "after", "step_extra_dependencies": ["a"]},
    "f": {"type": "alone"},
}


def recorded(plan: RunPlan, codes: Mapping[str, str]) -> KnownResults:
    """Results of the named steps, computed by the code given for each."""
    results: dict[str, StepInfo | None] = {}
    for name, code in codes.items():
        record = plan[name].record
        assert record is not None
        facts = AttemptFacts(StepState.COMPLETED, code=code)
        results[record.unique_id] = StepInfo(record, StepState.COMPLETED, facts)
    return KnownResults(results)


def outcome(plan: RunPlan) -> dict[str, tuple[str, str, bool]]:
    """Standing, reason and whether a result is replaced."""
    return {step.node.name: (step.standing.value, step.reason, step.replaces) for step in plan.steps}


AGAIN = ("run", "'a' is run again", True)


def test_what_other_code_computed_is_run_again_on_demand() -> None:
    """Changed steps and all that depends on them run, replacing what is there; shell steps have no code."""
    known = recorded(plan_steps(GRAPH), {**dict.fromkeys(GRAPH, "now"), "a": "then", "c": "then"})
    plan = plan_steps(GRAPH, None, CODE, known)
    assert {name: each[0] for name, each in outcome(plan).items()} == dict.fromkeys(GRAPH, "cached")
    assert outcome(plan_steps(GRAPH, None, CODE, known, Wanted(rerun_changed=True))) == {
        "a": ("run", "source changed since", True),
        "b": AGAIN,
        "c": AGAIN,
        "d": ("run", "'b' is run again", True),
        "e": AGAIN,
        "f": ("cached", "", False),
    }


def test_running_again_passes_through_what_has_no_result() -> None:
    """A step without a result runs anyway and replaces nothing; those behind it are of another input then."""
    known = recorded(plan_steps(GRAPH), {"a": "then", "d": "now", "f": "now"})
    found = outcome(plan_steps(GRAPH, None, CODE, known, Wanted(rerun_changed=True)))
    assert found["b"] == ("run", "no result yet", False)
    assert found["d"] == ("run", "'b' is run again", True)


def test_running_again_passes_through_what_is_not_kept() -> None:
    """A step computed inside others carries the change on."""
    changes = {"b": {"cacheable": False}}
    known = recorded(plan_steps(GRAPH, changes), {"a": "then", "d": "now"})
    found = outcome(plan_steps(GRAPH, changes, CODE, known, Wanted(rerun_changed=True)))
    assert found["b"] == ("inside", "computed by 'd'", False)
    assert found["d"] == ("run", "'b' is run again", True)


def test_running_again_is_only_for_known_changes() -> None:
    """Where the code then or now is not known, a result stands."""
    known = recorded(plan_steps(GRAPH), dict.fromkeys(GRAPH, ""))
    found = plan_steps(GRAPH, None, CODE, known, Wanted(rerun_changed=True))
    assert {step.standing for step in found.steps} == {Standing.CACHED}


ARROW = {"format": {"name": "arrow", "version": "001"}, "requires": ("pyarrow",)}
STEPS: dict[str, Any] = {
    "a": {"type": "load", "step_image": "tables"},
    "b": {"type": "train", "data": REF, "step_image": "plain"},
}
HOLDS: dict[str | None, frozenset[str] | None] = {
    "tables": frozenset({"pyarrow", "numpy"}),
    "plain": frozenset({"numpy"}),
    None: frozenset(),
    "docker": None,
}
IN_IMAGE = "add pyarrow to the image's requirements and run `dispatch lock`, or give 'a' another step_format"
KNOWING = replace(IDENTITIES, distributions=HOLDS.__getitem__)


@pytest.mark.parametrize(
    ("image_a", "image_b", "message", "remedy"),
    [
        (
            "tables",
            "plain",
            "step 'b': reads the result of 'a' in the format 'arrow', which needs 'pyarrow', "
            "and image 'plain' does not have it",
            IN_IMAGE,
        ),
        (
            "plain",
            "tables",
            "step 'a': writes its result in the format 'arrow', which needs 'pyarrow', "
            "and image 'plain' does not have it",
            IN_IMAGE,
        ),
        (
            "tables",
            "here",
            "step 'b': reads the result of 'a' in the format 'arrow', which needs 'pyarrow', and the current "
            "environment does not have it",
            "install pyarrow, or give 'a' another step_format",
        ),
        ("tables", "tables", None, ""),
        ("tables", "docker", None, ""),
        ("docker", "tables", None, ""),
    ],
)
def test_formats_are_held_against_the_locks(
    image_a: str, image_b: str, message: str | None, remedy: str
) -> None:
    """Who writes or reads a format must have what it needs, as far as anybody can tell."""
    steps = {"a": {**STEPS["a"], "step_image": image_a}, "b": {**STEPS["b"], "step_image": image_b}}
    if message is None:
        plan_steps(steps, {"a": ARROW}, KNOWING)
        return
    with pytest.raises(ConfigurationError) as caught:
        plan_steps(steps, {"a": ARROW}, KNOWING)
    assert (caught.value.message, caught.value.remedy) == (message, remedy)


def test_who_need_not_read_a_format() -> None:
    """A command is given the files, a cached step reads nothing, and an inline one writes nothing."""
    plan_steps({**STEPS, "b": {**SHELL, "step_image": "plain"}}, {"a": ARROW}, KNOWING)
    plan_steps(
        {**STEPS, "b": {"type": "x", "step_extra_dependencies": ["a"]}},
        {"a": ARROW},
        replace(IDENTITIES, distributions=lambda image: HOLDS.get(image, frozenset())),
    )
    unchecked = plan_steps(STEPS, {"a": ARROW})
    known = KnownResults.of(unchecked["a"], unchecked["b"])
    plan_steps(STEPS, {"a": ARROW}, KNOWING, known)
    inside = {**STEPS, "a": {**STEPS["a"], "step_image": "plain"}}
    found = plan_steps(inside, {"a": {**ARROW, "cacheable": False}}, KNOWING)
    assert found["a"].standing is Standing.INLINE


def test_what_inline_steps_read_counts() -> None:
    """An inline step reads its inputs with what the image of its consumer has."""
    steps = {
        **STEPS,
        "c": {"type": "use", "data": {"type": "ref", "ref": "b"}, "step_image": "plain"},
    }
    with pytest.raises(ConfigurationError, match="step 'b': reads the result of 'a'"):
        plan_steps(steps, {"a": ARROW, "b": {"cacheable": False}}, KNOWING)


def test_each_image_is_asked_once_and_only_where_it_matters() -> None:
    """What an image has is looked up once, and not at all for formats that need nothing."""
    asked: list[str | None] = []

    def distributions(image: str | None) -> frozenset[str]:
        asked.append(image)
        return frozenset({"pyarrow"})

    knowing = replace(IDENTITIES, distributions=distributions)
    plan_steps(STEPS, None, knowing)
    assert asked == []
    plan_steps({**STEPS, "c": {**STEPS["b"], "n": 1}}, {"a": ARROW}, knowing)
    assert asked == ["tables", "plain"]
