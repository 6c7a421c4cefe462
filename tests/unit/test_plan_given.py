"""Steps of a plan that earlier runs computed, and targets that are run again."""

from __future__ import annotations

from dataclasses import replace

from dispatch.graph import StepGraph, StepNode
from dispatch.node import read_node
from dispatch.plan import Given, Identities, RunPlan, Standing, Wanted, for_run, plan_run
from dispatch.testing.plans import IDENTITIES, KnownResults, plan_steps, unique_id_of

COMMAND = {"type": "shell", "command": "cat", "inputs": {"data": {"type": "ref", "ref": "draw"}}}
DRAW = {"type": "draw", "n": 3}


def given(*, cacheable: bool = True) -> Given:
    """The step ``draw`` as an earlier run has recorded it."""
    planned = plan_steps({"draw": DRAW}, {"draw": {"deterministic": False, "cacheable": cacheable}})["draw"]
    assert planned.record is not None
    record = replace(planned.record, unique_id="Draw-earlier", cacheable=cacheable)
    return Given(record, "gpu", "'draw' of run first")


def plan_of(known: Given, results: KnownResults, wanted: Wanted) -> RunPlan:
    """The plan of one command that is given that step."""
    graph = StepGraph([StepNode("draw", "draw", {}), read_node("command", COMMAND)])
    identities = Identities(IDENTITIES.image, IDENTITIES.tree, given={"draw": known})
    images = {"draw": None, "command": "base"}
    return plan_run(graph, images, {}, identities, results.completed, wanted)


def test_a_given_step_is_never_run() -> None:
    """It is cached whatever it is, not described, and a command that needs it gets its result."""
    for cacheable in (True, False):
        plan = plan_of(given(cacheable=cacheable), KnownResults(), Wanted(("command",)))
        assert (plan["draw"].standing, plan["draw"].reason) == (Standing.CACHED, "'draw' of run first")
        assert plan["draw"].given
        assert plan["command"].standing is Standing.RUN
        assert (plan.mounted("command"), plan.needs("command")) == (("draw",), ())
        record = for_run(plan, "second")["command"].record
        assert record is not None
        assert record.dependencies == ("Draw-earlier",)


def test_its_unique_id_enters_the_identity() -> None:
    """Another result is another command; the same, under whatever origin, is the same."""
    first = plan_of(given(), KnownResults(), Wanted())
    other = replace(given(), origin="elsewhere", image=None)
    assert unique_id_of(plan_of(other, KnownResults(), Wanted())["command"]) == unique_id_of(first["command"])
    changed = replace(given(), record=replace(given().record, unique_id="Draw-later"))
    assert unique_id_of(plan_of(changed, KnownResults(), Wanted())["command"]) != unique_id_of(
        first["command"]
    )


def test_a_target_that_is_run_again() -> None:
    """With ``again`` a target replaces its result, and nothing else is computed anew."""
    before = plan_of(given(), KnownResults(), Wanted(("command",)))
    results = KnownResults.of(before["command"])
    cached = plan_of(given(), results, Wanted(("command",)))["command"]
    assert cached.standing is Standing.CACHED
    again = plan_of(given(), results, Wanted(("command",), again=True))
    assert (again["command"].standing, again["command"].replaces) == (Standing.RUN, True)
    assert again["command"].reason.startswith("asked to run again")
    assert again["draw"].standing is Standing.CACHED
