"""Steps that a program runs itself: what is computed, in which order, and what the workspace is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dispatch.errors import ConfigurationError, FormatError, StepStateError
from dispatch.info import StepState
from dispatch.params import ArgumentError, Lazy
from dispatch.registrable import FromParams, Registrable
from dispatch.step import Step, StepIndexer, step
from dispatch.workspace.base import Workspace
from dispatch.workspace.local import LocalWorkspace
from dispatch.workspace.memory import MemoryWorkspace

# What has run since the test began: steps are made by their own arguments alone.
RAN: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@pytest.fixture(params=[MemoryWorkspace, None], ids=["memory", "local"])
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    """A workspace of each kind."""
    made: Callable[[], Workspace] | None = request.param
    return made() if made is not None else LocalWorkspace(tmp_path / "ws")


@step("inprocess-load")
def load(size: int = 3) -> dict[str, Any]:
    """Make data."""
    RAN.append("load")
    return {"items": list(range(size)), "size": size}


@step("inprocess-sum")
def total(items: list[int], times: float = 1) -> float:
    """Add up."""
    RAN.append("total")
    return sum(items) * times


@step("inprocess-draw", deterministic=False)
def draw(low: int = 0) -> list[int]:
    """Make something that is never kept."""
    RAN.append("draw")
    return [low, len(RAN)]


@step("inprocess-stream", deterministic=False)
def stream() -> Iterator[int]:
    """Make items one by one."""
    RAN.append("stream")
    yield from range(3)


@step("inprocess-show")
def show(a: Any, b: Any = None, c: Any = None) -> Any:
    """Return what it was given."""
    RAN.append("show")
    return [list(each) if hasattr(each, "__next__") else each for each in (a, b, c)]


@step("inprocess-broken")
def broken(a: Any = None) -> Any:  # noqa: ARG001
    """Fail."""
    raise ZeroDivisionError("by hand")


@dataclass
class Pair:
    """Plain data that holds results."""

    left: Any
    right: Any = None


class Box(FromParams):
    """An object that holds results."""

    def __init__(self, inside: Any) -> None:
        self.inside = inside


class Model(Registrable):
    """An object that is made later."""


@Model.register("inprocess-linear")
class Linear(Model):
    """One of them."""

    def __init__(self, weights: list[int], bias: float = 0) -> None:
        self.weights = weights
        self.bias = bias


@step("inprocess-objects")
def objects(pair: Pair, box: Box, model: Lazy[Model], more: Any) -> Any:
    """Look into objects."""
    made = model.construct(bias=2)
    assert isinstance(made, Linear)
    return [pair.left, pair.right, box.inside, made.weights, made.bias, more["deep"][0].left.inside]


@Step.register("inprocess-self")
class Self(Step):
    """Says what surrounds it."""

    def run(self, n: int) -> Any:  # noqa: ARG002
        """Use everything that a running step has."""
        (self.work_dir / "note").write_text("x")
        self.logger.debug("heard by whom the program lets hear")
        return [
            self.workspace.url,
            self.unique_id,
            self.kwargs,
            sorted(p.name for p in self.work_dir.iterdir()),
        ]


def test_what_a_step_needs_is_computed_first(workspace: Workspace) -> None:
    """Steps stand for their results wherever they are in arguments, and each is computed once."""
    data = load(size=4)
    last = show(
        a=total(items=StepIndexer(data, "items"), times=2),
        b=[data, {"x": (data,)}],
        c=StepIndexer(data, "size"),
    )
    value = {"items": [0, 1, 2, 3], "size": 4}
    assert last.result(workspace) == [12.0, [value, {"x": (value,)}], 4]
    assert RAN == ["load", "total", "show"]
    assert {workspace.step_info(each).state for each in (data, last)} == {StepState.COMPLETED}
    assert last.result(workspace) == last.result(workspace)
    assert RAN == ["load", "total", "show"]


def test_results_are_found_by_equal_steps(workspace: Workspace) -> None:
    """Another object with the same arguments is the same step: equal, and computed already."""
    first, second = total(items=[1, 2]), total(items=[1, 2], times=1.0)
    assert first == second
    assert len({first, second, total(items=[1])}) == 2
    assert first != "total"
    first.ensure_result(workspace)
    assert second.result(workspace) == 3
    assert RAN == ["total"]


def test_without_a_workspace_nothing_is_kept() -> None:
    """Each call computes all of it again, and what is shared only once."""
    data = load()
    twice = show(a=data, b=data)
    assert twice.result() == twice.result()
    assert RAN == ["load", "show"] * 2


def test_what_is_not_kept_is_computed_for_each_step_that_takes_it(workspace: Workspace) -> None:
    """Within one consumer, steps that are not kept included, it is one value; for another, a new."""

    @step("inprocess-double", deterministic=False, exist_ok=True)
    def double(x: list[int]) -> list[int]:
        RAN.append("double")
        return [each * 2 for each in x]

    drawn = draw(low=5)
    a, b, c = show(a=drawn, b=double(x=drawn), c=[drawn]).result(workspace)
    assert b == [each * 2 for each in a]
    assert c == [a]
    assert RAN == ["draw", "double", "show"]
    assert drawn not in workspace.step_cache
    other = show(a=drawn).result(workspace)[0]
    assert other != a
    assert drawn.result(workspace) != drawn.result(workspace)
    with pytest.raises(StepStateError, match="is not kept"):
        drawn.ensure_result(workspace)


def test_iterators_are_whole_for_each_who_takes_them(workspace: Workspace) -> None:
    """One that is not kept is computed once and given to each reference; a kept one is read anew."""
    passing = stream()
    assert show(a=passing, b=passing).result(workspace) == [[0, 1, 2], [0, 1, 2], None]
    assert RAN == ["show", "stream"]
    kept = stream(cache_results=True)
    assert show(a=kept, b=kept, c=1).result(workspace) == [[0, 1, 2], [0, 1, 2], 1]
    assert RAN.count("stream") == 2
    assert list(kept.result(workspace)) == [0, 1, 2]
    assert list(stream(cache_results=True).result()) == [0, 1, 2]


def test_objects_are_given_results_too(workspace: Workspace) -> None:
    """Steps inside dataclasses, objects that tell what they were made from, and Lazy are results there."""
    data, items = load(size=2), StepIndexer(load(size=2), "items")
    made = objects(
        pair=Pair(data, [items]),
        box=Box({"x": items}),
        model=Lazy(Model, {"type": "inprocess-linear", "weights": items}),
        more={"deep": [Pair(Box(items))]},
    )
    value = {"items": [0, 1], "size": 2}
    assert made.result(workspace) == [value, [[0, 1]], {"x": [0, 1]}, [0, 1], 2, [0, 1]]
    assert RAN == ["load"]


def test_a_running_step_has_its_surroundings(workspace: Workspace) -> None:
    """Workspace, work directory and typed arguments are there while it runs, and not on the object itself."""
    made = Self(n=2)
    assert made.result(workspace) == [workspace.url, made.unique_id, {"n": 2}, ["note"]]
    with pytest.raises(StepStateError, match="not running"):
        assert made.workspace


def test_a_failure_is_recorded_and_raised_as_it_is(workspace: Workspace) -> None:
    """The exception of the step itself comes out; what depends on it is not begun."""
    first = broken(a=load())
    with pytest.raises(ZeroDivisionError, match="by hand"):
        show(a=first).result(workspace)
    info = workspace.step_info(first)
    assert info.state is StepState.FAILED
    assert info.error == "ZeroDivisionError: by hand"
    assert workspace.step_info(show(a=first)).state is StepState.INCOMPLETE
    assert RAN == ["load"]


def test_a_result_that_cannot_be_kept_is_a_failure(workspace: Workspace) -> None:
    """What its format cannot hold is a FormatError, and the step has failed."""
    odd = load(step_format="text")
    with pytest.raises(FormatError):
        odd.result(workspace)
    assert workspace.step_info(odd).state is StepState.FAILED


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: total(items="x"), "step 'total': argument 'items': expected list[int], got str 'x'"),
        (lambda: total(step_name="t"), "step 't': argument 'items': is missing"),
        (lambda: show(a={"type": "ref", "ref": "x"}), "reference to 'x'"),
        (lambda: show(a=StepIndexer(load(), "gone")), "the result of step 'load-"),
    ],
)
def test_wrong_arguments_are_known_before_anything_is_recorded(made: Any, message: str) -> None:
    """The step is named, and it has neither started nor failed."""
    with pytest.raises(ConfigurationError) as caught:
        made().result(MemoryWorkspace())
    assert message in caught.value.message


class Quicker(MemoryWorkspace):
    """A workspace in which somebody else finishes each step just before it starts here."""

    def step_starting(self, step: Any) -> None:
        """Let the other one finish."""
        if step not in self.step_cache:
            self.step_cache[step] = "theirs"
        super().step_starting(step)


def test_a_race_that_was_lost_gives_the_winners_result() -> None:
    """Nothing is computed twice, and nothing is an error."""
    assert load().result(Quicker()) == "theirs"
    assert RAN == []


def test_chains_of_any_length_are_identified_and_run(workspace: Workspace) -> None:
    """A thousand steps in a row, made in Python, are no matter of recursion."""

    @step("inprocess-next", exist_ok=True)
    def following(x: int) -> int:
        return x + 1

    last = following(x=0)
    for _ in range(1000 if isinstance(workspace, MemoryWorkspace) else 20):
        last = following(x=last)
    assert last.result(workspace) == (1001 if isinstance(workspace, MemoryWorkspace) else 21)


def test_extra_dependencies_come_first_and_are_no_part_of_the_identity(workspace: Workspace) -> None:
    """They are computed before the step, whose id they do not change."""
    extra = load(size=7)
    made = total(items=[1], step_extra_dependencies=[extra])
    assert made.dependencies == (extra,)
    assert made.unique_id == total(items=[1]).unique_id
    made.result(workspace)
    assert RAN == ["load", "total"]


def test_a_circle_is_refused() -> None:
    """Arguments can be changed into a circle, which has no identity."""
    first = show(a=1)
    second = show(a=first)
    first.kwargs["a"] = second
    with pytest.raises(ConfigurationError, match="takes its own result"):
        assert second.unique_id


def test_an_argument_error_of_a_step_that_is_run_for_another_names_it() -> None:
    """The fault of a step that is not kept is not told as a mismatch of its consumer."""

    @step("inprocess-choice", exist_ok=True)
    def choice(x: list[int] | dict[str, Any] | None) -> Any:
        return x

    with pytest.raises(ArgumentError, match="step 'draw': argument 'low': expected int, got str 'x'"):
        choice(x=[draw(low="x", step_unique_id_override="Draw-1")]).result()
