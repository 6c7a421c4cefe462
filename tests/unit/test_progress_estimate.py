"""How long a run will still take: a table, and what a workspace remembers of earlier runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from dispatch.app.earlier import earlier
from dispatch.cli.progress.estimate import Durations, Todo, left
from dispatch.info import AttemptFacts, StepState
from dispatch.testing.contracts_workspace import fill, record
from dispatch.workspace.local import LocalWorkspace

NAMES = {"a": 10.0, "b": 20.0, "c": 30.0, "d": 40.0}


def chain(*names: str) -> list[Todo]:
    """Steps that wait for one another."""
    return [Todo(name, "t", names[max(at - 1, 0) : at]) for at, name in enumerate(names)]


def beside(*names: str, type: str = "t") -> list[Todo]:
    """Steps that wait for nothing."""
    return [Todo(name, type) for name in names]


@pytest.mark.parametrize(
    ("steps", "width", "expected"),
    [
        # A chain takes its sum, however many may run at once.
        (chain("a", "b", "c", "d"), 4, 100),
        (beside("a", "b", "c", "d"), 1, 100),
        (beside("a", "b", "c", "d"), 2, 60),
        (beside("a", "b", "c", "d"), 9, 40),
        # A need that has ended is not waited for.
        ([Todo("b", "t", ("a",))], 1, 20),
        # What works already goes on, though it is more than may start now.
        ([Todo("a", "t", elapsed=4), Todo("b", "t", elapsed=4), Todo("c", "t")], 1, 46),
        # One that overran what it took before: a tenth of that again.
        ([Todo("a", "t", elapsed=50)], 1, 5),
        ([], 1, None),
    ],
)
def test_left(steps: Sequence[Todo], width: int, expected: float | None) -> None:
    """The end of a simulation of what is left, by the names' durations."""
    assert left(steps, Durations(NAMES, {}), width) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("types", "steps", "expected"),
    [
        # Of a type whose steps took about as long, a new one will, too.
        ({"t": [10.0, 14.0]}, beside("new"), 12),
        ({"t": [10.0, 300.0]}, beside("new"), None),
        ({}, beside("new"), None),
        # Fractions of a second are alike.
        ({"t": [0.01, 1.0]}, beside("new"), 0.505),
        # One of eleven may be unknown, and is taken to be like the others.
        ({"t": [10.0]}, [*beside(*"0123456789"), *beside("x", type="other")], 110),
        ({"t": [10.0]}, [*beside("0"), *beside("x", type="other")], None),
    ],
)
def test_what_is_known_well_enough(
    types: Mapping[str, Sequence[float]], steps: Sequence[Todo], expected: float | None
) -> None:
    """Without names the types tell, where they do; nothing is shown where most would be invented."""
    found = left(steps, Durations({}, types), 1)
    assert found == (None if expected is None else pytest.approx(expected))


def test_many_steps_cost_little() -> None:
    """Ten thousand steps in a deep graph end in time that a display has."""
    steps = [Todo(f"s{at}", "t", (f"s{at - 1}",) if at % 10 else ()) for at in range(10_000)]
    assert left(steps, Durations({}, {"t": [1.0]}), 10) == pytest.approx(1000, rel=0.02)


def finish(workspace: LocalWorkspace, run: str, unique_id: str, seconds: float, name: str = "one") -> None:
    """Register a run of a step that took so long."""
    step = replace(record(unique_id), name=name)
    workspace.register_run([step], run)
    attempt = workspace.claim(step, run)
    fill(attempt)
    began = datetime(2026, 1, 1, tzinfo=timezone.utc)
    facts = AttemptFacts(StepState.COMPLETED, began, began + timedelta(seconds=seconds))
    workspace.commit(attempt, step, facts)


def test_the_newest_run_tells(tmp_path: Path) -> None:
    """The same name with other arguments counts, the newest of it; failures and other names do not."""
    workspace = LocalWorkspace(tmp_path / "ws")
    finish(workspace, "first", "one-old", 5)
    finish(workspace, "second", "one-new", 7)
    finish(workspace, "third", "other", 70, name="other")
    failing = replace(record("one-failed"))
    workspace.register_run([failing], "fourth")
    workspace.fail(workspace.claim(failing, "fourth"), failing, AttemptFacts(StepState.FAILED))
    found = earlier(workspace, ["one", "unheard"])
    assert (dict(found.names), dict(found.types)) == ({"one": 7}, {failing.type: [7]})


def test_a_damaged_record_is_passed_over(tmp_path: Path) -> None:
    """What cannot be read is not known, and nothing fails."""
    workspace = LocalWorkspace(tmp_path / "ws")
    finish(workspace, "first", "one-old", 5)
    finish(workspace, "second", "one-new", 7)
    (tmp_path / "ws/runs/second/.run.json").write_text("{")
    with pytest.warns(UserWarning, match="left out of the list"):
        found = earlier(workspace, ["one"])
    assert dict(found.names) == {"one": 5}
