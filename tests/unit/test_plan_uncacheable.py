"""Steps whose results are not kept: computed inside those that need them, or jobs with results for a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from dispatch.fingerprint import canonical, digest
from dispatch.plan import Place, RunPlan, Standing, Wanted, for_run, unscoped
from dispatch.testing.plans import KnownResults, plan_steps, unique_id_of

CHANCE = {"deterministic": False}


def ref(name: str) -> dict[str, str]:
    """A reference as config writes it."""
    return {"type": "ref", "ref": name}


DRAW: dict[str, Any] = {"type": "draw"}
TRAIN: dict[str, Any] = {"type": "train", "data": ref("draw")}
SHELL: dict[str, Any] = {"type": "shell", "command": "wc", "inputs": {"d": ref("draw")}}
TWO_CPUS = {"step_resources": {"cpu_count": 2}}
AT_HOME = {"step_resources": {"machine": "local"}}


def standings(plan: RunPlan) -> dict[str, str]:
    """Where each step stands."""
    return {step.node.name: step.standing.value for step in plan.steps}


@pytest.mark.parametrize(
    ("steps", "standing"),
    [
        ({"draw": DRAW, "t": TRAIN}, "inside"),
        ({"draw": DRAW, "t": TRAIN, "u": {**TRAIN, "n": 1}}, "inside"),
        ({"draw": DRAW}, "run"),
        ({"draw": DRAW, "t": SHELL}, "run"),
        ({"draw": DRAW, "t": TRAIN, "u": SHELL}, "run"),
        ({"draw": {"type": "shell", "command": "true", "cache_results": False}, "t": TRAIN}, "run"),
        ({"draw": DRAW, "t": {**TRAIN, "step_image": "other"}}, "run"),
        ({"draw": DRAW, "t": TRAIN, "u": {**TRAIN, "step_image": "other"}}, "run"),
        ({"draw": {**DRAW, "step_image": "here"}, "t": {**TRAIN, "step_image": "here"}}, "inside"),
        ({"draw": {**DRAW, "step_image": "here"}, "t": TRAIN}, "run"),
        ({"draw": DRAW, "t": {**TRAIN, **AT_HOME}}, "run"),
        ({"draw": {**DRAW, **AT_HOME}, "t": {**TRAIN, **AT_HOME}}, "inside"),
        ({"draw": {**DRAW, **TWO_CPUS}, "t": TRAIN}, "run"),
        ({"draw": {**DRAW, **TWO_CPUS}, "t": {**TRAIN, **TWO_CPUS}}, "inside"),
        ({"draw": DRAW, "t": {**TRAIN, **TWO_CPUS}}, "inside"),
        ({"draw": {**DRAW, "step_env": {"A": "1"}}, "t": TRAIN}, "run"),
        ({"draw": DRAW, "t": {**TRAIN, "step_env": {"A": "1"}}}, "run"),
        ({"draw": {**DRAW, "step_network": "none"}, "t": TRAIN}, "run"),
        ({"draw": DRAW, "t": {"type": "train", "step_extra_dependencies": ["draw"]}}, "run"),
        ({"draw": DRAW, "t": TRAIN, "u": {"type": "x", "step_extra_dependencies": ["draw"]}}, "run"),
    ],
)
def test_what_is_computed_inside_others(steps: dict[str, Any], standing: str) -> None:
    """A step is inlined if all that refer to it are Python steps whose jobs are all that its own would be."""
    found = plan_steps(steps, {"draw": CHANCE})
    assert found["draw"].standing.value == standing
    assert all(step.standing is Standing.RUN for step in found.steps if step.node.name != "draw")


def test_a_target_by_name_is_a_job() -> None:
    """Who asks for a step by name gets its result, and those behind it take that one."""
    steps = {"draw": DRAW, "t": TRAIN}
    assert standings(plan_steps(steps, {"draw": CHANCE}, wanted=Wanted(("draw", "t"))))["draw"] == "run"
    assert standings(plan_steps(steps, {"draw": CHANCE}, wanted=Wanted(("t",))))["draw"] == "inside"


def test_reasons_name_who_computes_it() -> None:
    """The reason names the steps that need it in this run, and few of many."""
    steps = {"draw": DRAW, **{f"t{number}": {**TRAIN, "n": number} for number in range(5)}}
    reason = plan_steps(steps, {"draw": CHANCE})["draw"].reason
    assert reason == "computed by 't0', 't1', 't2' and 2 more"


CHAIN: dict[str, Any] = {
    "base": {"type": "load"},
    "draw": {"type": "draw", "x": ref("base")},
    "mix": {"type": "mix", "a": ref("draw"), "b": ref("base")},
    "other": {"type": "other", "a": ref("draw")},
    "end": {"type": "train", "data": [ref("mix"), ref("other")], "step_extra_dependencies": ["aside"]},
    "aside": {"type": "aside"},
}
CHANCES = {"draw": CHANCE, "mix": CHANCE, "other": CHANCE}


def test_chains_are_inlined_into_each_other() -> None:
    """A job computes all inline steps it needs, each once and after its own, and is given what those need."""
    found = plan_steps(CHAIN, CHANCES)
    assert [step.node.name for step in found.standing(Standing.INLINE)] == ["draw", "mix", "other"]
    assert found.inlined("end") == ("draw", "mix", "other")
    assert found.mounted("end") == ("base", "aside")
    assert found.needs("end") == ("base", "aside")
    assert found.inlined("base") == found.mounted("base") == found.needs("base") == ()


def test_a_chain_breaks_at_another_image() -> None:
    """Where a link is a job of its own, those before it are inlined there."""
    steps = {**CHAIN, "end": {**CHAIN["end"], "step_image": "other"}}
    found = plan_steps(steps, CHANCES)
    assert standings(found) == {
        "base": "run",
        "draw": "inside",
        "mix": "run",
        "other": "run",
        "aside": "run",
        "end": "run",
    }
    assert found["draw"].reason == "computed by 'mix', 'other'"
    assert (found.inlined("mix"), found.mounted("mix")) == (("draw",), ("base",))
    assert found.mounted("end") == found.needs("end") == ("mix", "other", "aside")


def test_extra_dependencies_of_inline_steps_are_mounted_too() -> None:
    """What an inline step waits for is waited for by the job that computes it."""
    steps = {"aside": {"type": "aside"}, "draw": {**DRAW, "step_extra_dependencies": ["aside"]}, "t": TRAIN}
    found = plan_steps(steps, {"draw": CHANCE})
    assert found["draw"].standing is Standing.INLINE
    assert found.mounted("t") == found.needs("t") == ("aside",)


def test_only_what_has_to_run_is_waited_for() -> None:
    """A cached input is mounted and not waited for."""
    first = plan_steps(CHAIN, CHANCES)
    found = plan_steps(CHAIN, CHANCES, known=KnownResults.of(first["base"]))
    assert found.mounted("end") == ("base", "aside")
    assert found.needs("end") == ("aside",)


@pytest.mark.parametrize(
    ("behind", "cached", "targets", "expected"),
    [
        (TRAIN, True, (), ("inside", "nothing needs it")),
        (TRAIN, True, ("draw",), ("run", "its result is not kept")),
        (SHELL, True, (), ("inside", "nothing needs it")),
        (TRAIN, False, (), ("inside", "computed by 't'")),
        (SHELL, False, (), ("run", "its result is not kept")),
    ],
)
def test_what_nothing_needs_is_not_run(
    behind: dict[str, Any], cached: bool, targets: tuple[str, ...], expected: tuple[str, str]
) -> None:
    """Where all behind a step is cached there is nobody to compute it for, unless the user asks for it."""
    steps = {"draw": DRAW, "t": behind}
    known = KnownResults.of(plan_steps(steps, {"draw": CHANCE})["t"]) if cached else None
    found = plan_steps(steps, {"draw": CHANCE}, known=known, wanted=Wanted(targets))
    assert (found["draw"].standing.value, found["draw"].reason) == expected


def test_what_only_the_needless_need_is_needless() -> None:
    """It goes on from link to link."""
    found = plan_steps(CHAIN, CHANCES, known=KnownResults.of(plan_steps(CHAIN, CHANCES)["end"]))
    assert {found[name].reason for name in CHANCES} == {"nothing needs it"}


def test_behind_an_unknown_step_nothing_is_assumed() -> None:
    """A step that may have to run counts as one that needs its inputs."""
    found = plan_steps({"draw": DRAW, "t": TRAIN}, {"draw": CHANCE, "t": None})
    assert standings(found) == {"draw": "inside", "t": "unknown until built"}
    assert found["draw"].reason == "computed by 't'"


@pytest.mark.parametrize(
    ("changes", "notice"),
    [
        ({"draw": CHANCE}, "no result yet; depends on 'draw', which is not deterministic"),
        (
            {"draw": {**CHANCE, "cacheable": True}},
            "no result yet; depends on 'draw', which is not deterministic",
        ),
        ({"draw": {"cacheable": False}}, "no result yet"),
        ({}, "no result yet"),
    ],
)
def test_a_kept_result_of_chance_is_said(changes: Mapping[str, Any], notice: str) -> None:
    """Whoever keeps what depends on chance is told so."""
    assert plan_steps({"draw": DRAW, "t": TRAIN}, changes)["t"].reason == notice


def test_chance_reaches_through_what_is_not_kept_and_no_further() -> None:
    """A step that is not kept passes chance on; one that is kept fixes what came out."""
    steps = {
        "draw": DRAW,
        "mix": {"type": "mix", "a": ref("draw")},
        "t": {"type": "train", "data": ref("mix")},
        "u": {"type": "use", "data": ref("t")},
    }
    changes = {"draw": CHANCE, "mix": {"cacheable": False}}
    first = plan_steps(steps, changes)
    assert first["t"].reason == "no result yet; depends on 'draw', which is not deterministic"
    assert first["u"].reason == "no result yet"
    found = plan_steps(steps, changes, known=KnownResults.of(first["t"]))
    assert (found["t"].standing, found["t"].reason) == (
        Standing.CACHED,
        "depends on 'draw', which is not deterministic",
    )


def test_results_that_live_as_long_as_a_run() -> None:
    """A run gives such a step an id of its own, and tells those behind it; identities stay as they are."""
    plan = plan_steps({"draw": DRAW, "t": SHELL}, {"draw": CHANCE})
    one, again, two = for_run(plan, "one"), for_run(plan, "one"), for_run(plan, "two")
    assert one == again
    assert unique_id_of(one["draw"]) == f"{unique_id_of(plan['draw'])}-{digest(canonical('one'))[:8]}"
    assert unique_id_of(one["draw"]) != unique_id_of(two["draw"])
    before, after = plan["t"].record, one["t"].record
    assert before is not None
    assert after is not None
    assert (after.unique_id, after.identity) == (before.unique_id, before.identity)
    assert after.dependencies == (unique_id_of(one["draw"]),)
    record = one["draw"].record
    assert record is not None
    assert unscoped(record) == unique_id_of(plan["draw"])
    assert unscoped(after) == after.unique_id


def test_a_run_leaves_everything_else_as_it_is() -> None:
    """Cached steps, and those computed inside others, keep their ids; without any of the kind, all do."""
    plan = plan_steps(CHAIN, CHANCES)
    assert for_run(plan, "one") is plan
    cached = plan_steps({"draw": DRAW, "t": SHELL}, {"draw": CHANCE}, known=KnownResults())
    known = KnownResults.of(cached["t"])
    found = for_run(
        plan_steps({"draw": DRAW, "t": SHELL, "u": {**SHELL, "command": "u"}}, {"draw": CHANCE}, known=known),
        "one",
    )
    record = found["t"].record
    assert record is not None
    assert record.dependencies == (unique_id_of(cached["draw"]),)


def test_equal_declarations_are_two_draws() -> None:
    """Two steps that are declared alike have one identity, and each its own result in a run."""
    found = for_run(plan_steps({"a": DRAW, "b": DRAW}, {"a": CHANCE, "b": CHANCE}), "one")
    assert unique_id_of(found["a"]) != unique_id_of(found["b"])
    assert found == for_run(plan_steps({"a": DRAW, "b": DRAW}, {"a": CHANCE, "b": CHANCE}), "one")


def test_where_steps_run() -> None:
    """Without an image, or on the client's own machine, a step is a process."""
    found = plan_steps(
        {"a": DRAW, "b": {**DRAW, "step_image": "here"}, "c": {**DRAW, **AT_HOME}, "d": DRAW},
        {"d": {"resources": {"machine": "local"}}},
    )
    assert [step.place for step in found.steps] == [
        Place.CONTAINER,
        Place.PROCESS,
        Place.PROCESS,
        Place.PROCESS,
    ]


def test_long_chains_need_no_depth() -> None:
    """A thousand links that are inlined into each other are found without recursion."""
    steps: dict[str, Any] = {"s0": {"type": "load"}}
    steps.update({f"s{n}": {"type": "mix", "a": ref(f"s{n - 1}")} for n in range(1, 2000)})
    steps["end"] = {"type": "train", "a": ref("s1999")}
    found = plan_steps(steps, {f"s{n}": CHANCE for n in range(1, 2000)})
    assert found.inlined("end") == tuple(f"s{n}" for n in range(1, 2000))
    assert found.mounted("end") == ("s0",)
