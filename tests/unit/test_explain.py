"""Why a step stands where it stands, from a plan and a real workspace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from dispatch.app.explain import Why, why
from dispatch.cli.why import document, lines
from dispatch.errors import ConfigurationError
from dispatch.info import AttemptFacts, StepInfo, StepState
from dispatch.plan import RunPlan, Standing, Wanted, for_run
from dispatch.testing.plans import IDENTITIES, KnownResults, plan_steps, unique_id_of
from dispatch.workspace.base import Attempt
from dispatch.workspace.local import LocalWorkspace

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
TREE = "a" * 40
REF = {"type": "ref", "ref": "digits"}


def graph(n: int = 1, c: float = 0.01) -> dict[str, Any]:
    """Two steps, of which one trains on the other's result."""
    return {"digits": {"type": "load", "n": n}, "train": {"type": "train", "data": REF, "C": c}}


class Lab:
    """A workspace, and the plans that are made on it."""

    def __init__(self, directory: Path) -> None:
        self.workspace = LocalWorkspace(directory / "ws")
        self.code = "now"

    def plan(
        self, steps: Mapping[str, Any], changes: Mapping[str, Any] | None = None, again: bool = False
    ) -> RunPlan:
        """Plan the steps."""
        known = KnownResults()
        known.completed = self._completed  # type: ignore[method-assign]
        return plan_steps(steps, changes, replace(IDENTITIES, code=self.code), known, Wanted((), again))

    def _completed(self, unique_ids: Iterable[str]) -> Mapping[str, StepInfo | None]:
        return {found: self.workspace.step_info(found) for found in self.workspace.completed(unique_ids)}

    def run(self, plan: RunPlan, name: str, **facts: Any) -> RunPlan:
        """Carry a plan out as it would have been: every job ends a second later, as ``facts`` say."""
        plan = for_run(plan, name)
        records = [step.record for step in plan.steps if step.record is not None]
        self.workspace.register_run(records, name)
        state = facts.get("state", StepState.COMPLETED)
        verdicts = {}
        for step in plan.standing(Standing.RUN):
            assert step.record is not None
            attempt = self.claim(plan, step.node.name, name)
            end = AttemptFacts(
                **{
                    "state": state,
                    "started": NOON,
                    "ended": NOON + timedelta(seconds=1),
                    "image": "base",
                    "image_digest": "sha256:" + "1" * 64,
                    "commit": "c" * 40,
                    "tree": TREE,
                    "code": self.code,
                    **facts,
                }
            )
            if state is StepState.COMPLETED:
                (attempt.result / "data.txt").write_text("1")
                self.workspace.commit(attempt, step.record, end)
            else:
                self.workspace.fail(attempt, step.record, end)
            verdicts[step.node.name] = state.value
        self.workspace.finish_run(name, state.value, {"verdicts": verdicts})
        return plan

    def claim(self, plan: RunPlan, step: str, run: str) -> Attempt:
        """Begin an attempt at a step."""
        record = plan[step].record
        assert record is not None
        attempt = self.workspace.claim(record, run, replace=plan[step].replaces)
        attempt.result.mkdir(parents=True, exist_ok=True)
        (attempt.directory / "out.log").write_text("what it printed")
        return attempt

    def why(self, plan: RunPlan, step: str) -> Why:
        """Ask about a step."""
        return why(plan, self.workspace, step, {TREE: ("digits/steps.py",)}.get)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A workspace in which nothing has run."""
    return Lab(tmp_path)


def said(found: Why) -> list[str]:
    """What is printed, save for the lines that say what the step is."""
    return [line.strip() for line in lines(found) if not line.startswith(("  id: ", "  image: "))]


def local(time: datetime) -> str:
    """A time as it is printed."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


END = local(NOON + timedelta(seconds=1))
ORIGIN = f"{END} in 1.0 s by run one in image 'base' ({'1' * 12}) from commit {'c' * 12}"


def test_a_step_that_nobody_ever_computed(lab: Lab) -> None:
    """It says so, and what has to run before it."""
    assert said(lab.why(lab.plan(graph()), "train")) == [
        "train: run: no result yet",
        "must run first: digits",
        "never computed in this workspace",
    ]


def test_a_cached_step(lab: Lab) -> None:
    """It says when, by which run, in which image and from which source."""
    lab.run(lab.plan(graph()), "one")
    assert said(lab.why(lab.plan(graph()), "train")) == ["train: cached", f"computed {ORIGIN}"]


def test_a_result_of_a_later_run_is_not_the_later_runs(lab: Lab) -> None:
    """A run that found the result there did not compute it."""
    lab.run(lab.plan(graph()), "one")
    lab.run(lab.plan(graph()), "two")
    assert said(lab.why(lab.plan(graph()), "train"))[-1] == f"computed {ORIGIN}"


def test_a_cached_step_of_other_code(lab: Lab) -> None:
    """It names the files that changed, if git knows them."""
    lab.run(lab.plan(graph()), "one")
    lab.code = "edited"
    assert said(lab.why(lab.plan(graph()), "digits")) == [
        "digits: cached: source changed since",
        f"computed {ORIGIN}",
        "changed since: digits/steps.py",
    ]
    unknown = why(lab.plan(graph()), lab.workspace, "digits")
    assert f"the source is another than its tree {'a' * 12}, which git does not know here" in said(unknown)


def test_a_step_that_is_run_again(lab: Lab) -> None:
    """It names the reason, and what is replaced."""
    lab.run(lab.plan(graph()), "one")
    lab.code = "edited"
    plan = lab.plan(graph(), again=True)
    assert said(lab.why(plan, "digits"))[0] == "digits: run: source changed since"
    assert said(lab.why(plan, "train")) == [
        "train: run: source changed since",
        f"computed {ORIGIN}",
        "changed since: digits/steps.py",
        "must run first: digits",
    ]


def test_an_argument_that_differs(lab: Lab) -> None:
    """The nearest result, the run that made it, and the difference."""
    first = lab.run(lab.plan(graph()), "one")
    found = lab.why(lab.plan(graph(c=0.1)), "train")
    assert said(found) == [
        "train: run: no result yet",
        f"nearest: {unique_id_of(first['train'])}, completed {END} by run one",
        "C: 0.01 → 0.1",
    ]


def test_a_dependency_that_differs(lab: Lab) -> None:
    """What differs in it is read from the workspace's record of it."""
    lab.run(lab.plan(graph()), "one")
    assert said(lab.why(lab.plan(graph(n=2)), "train"))[-2:] == [
        "data: result of step 'digits' differs",
        "digits: n: 1 → 2",
    ]


def test_a_dependency_that_is_not_kept(lab: Lab) -> None:
    """The record of one that was a job of the run is found by what its identity was."""
    changes = {"digits": {"cacheable": False}}
    steps = [{**graph(n), "train": {**graph()["train"], "step_image": "other"}} for n in (1, 2)]
    lab.run(lab.plan(steps[0], changes), "one")
    assert said(lab.why(lab.plan(steps[1], changes), "train"))[-2:] == [
        "data: result of step 'digits' differs",
        "digits: n: 1 → 2",
    ]


def test_a_step_that_failed_before(lab: Lab) -> None:
    """It says when, why, and where the log is."""
    plan = lab.plan({"digits": graph()["digits"]})
    lab.run(plan, "one", state=StepState.FAILED, error="ValueError: too small")
    lab.run(plan, "two", state=StepState.FAILED, error="ValueError: too large")
    found = said(lab.why(plan, "digits"))
    origin = ORIGIN.replace("run one", "run two")
    assert found[0] == "digits: run: no result yet"
    assert found[1].startswith("attempt 2 failed ")
    assert found[1].endswith(": ValueError: too large")
    assert origin.partition(" by run")[0] in found[1]
    assert found[2] == f"log: {lab.workspace.log_path(unique_id_of(plan['digits']))}"


def test_a_step_at_which_somebody_works(lab: Lab) -> None:
    """It says who."""
    plan = lab.plan(graph())
    lab.workspace.register_run([], "one")
    lab.claim(plan, "digits", "one")
    assert " works at it for run one since " in said(lab.why(plan, "digits"))[1]


def test_a_result_that_is_gone(lab: Lab) -> None:
    """A result without its manifest is none, and the attempt that made it is remembered."""
    plan = lab.plan(graph())
    lab.run(plan, "one")
    (lab.workspace.dir / "cache" / unique_id_of(plan["digits"]) / "manifest.json").unlink()
    found = said(lab.why(lab.plan(graph()), "digits"))
    assert found[0] == "digits: run: no result yet"
    assert found[1].startswith(f"was computed {END} ")
    assert found[1].endswith("but the result is gone: it was removed, or is damaged (`dispatch check` tells)")
    assert found[2:] == ["nothing else like it in this workspace"]


@pytest.mark.parametrize(
    ("step", "change", "standing", "fact"),
    [
        (
            {},
            {"deterministic": False},
            "inside: computed by 'train'",
            "not kept: its class is not DETERMINISTIC",
        ),
        (
            {},
            {"cacheable": False},
            "inside: computed by 'train'",
            "not kept: its class Load is not CACHEABLE",
        ),
        (
            {"cache_results": False, "step_image": "other"},
            {},
            "run: its result is not kept",
            "not kept: the config says cache_results: false",
        ),
    ],
)
def test_a_step_that_is_not_kept(
    lab: Lab, step: dict[str, Any], change: dict[str, Any], standing: str, fact: str
) -> None:
    """It says who decided that, and where it is computed."""
    steps = graph()
    steps["digits"].update(step)
    assert said(lab.why(lab.plan(steps, {"digits": change}), "digits")) == [f"digits: {standing}", fact]


def test_a_step_that_only_its_image_can_tell(lab: Lab) -> None:
    """What is not known is not guessed."""
    assert said(lab.why(lab.plan(graph(), {"train": None}), "train")) == [
        "train: unknown until built: image 'base' must be built to know",
        "`dispatch build` makes the image that can tell",
    ]


def test_an_unknown_step(lab: Lab) -> None:
    """A misspelt name is an error with a guess."""
    with pytest.raises(ConfigurationError, match="no step 'trian', did you mean 'train'"):
        lab.why(lab.plan(graph()), "trian")


def test_the_answer_for_machines(lab: Lab) -> None:
    """It holds the same, in fields."""
    first = lab.run(lab.plan(graph()), "one")
    plan = lab.plan(graph(c=0.1))
    found = document(lab.why(plan, "train"))
    assert (found["step"], found["id"], found["standing"]) == ("train", unique_id_of(plan["train"]), "run")
    assert found["nearest"]["id"] == unique_id_of(first["train"])
    assert (found["nearest"]["run"], found["nearest"]["state"]) == ("one", "completed")
    assert found["changes"] == [{"step": "train", "input": "C", "change": "0.01 → 0.1", "depth": 0}]
    cached = document(lab.why(plan, "digits"))
    assert (cached["nearest"], cached["changes"], cached["known"]["commit"]) == (None, None, "c" * 40)
