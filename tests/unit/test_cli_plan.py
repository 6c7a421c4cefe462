"""`dispatch plan` and `dispatch why`, called as a user calls them, on steps of the current environment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dispatch.testing.project import Project

SETTINGS = """\
executor: {type: local}
include_package: [mine]
"""
STEPS = """\
from dispatch import step


@step("numbers")
def numbers(n: int) -> list:
    return list(range(n))


@step("draw", deterministic=False)
def draw(numbers: list) -> int:
    return numbers[-1]


@step("scale")
def scale(number: int, by: float = 1.0) -> float:
    return number * by
"""
CONFIG = """\
steps:
  numbers: {type: numbers, n: 3}
  draw: {type: draw, numbers: {ref: numbers}}
  scale: {type: scale, number: {ref: draw}, by: 2.0}
"""

Make = Callable[[str], Project]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make a committed project with a configuration; its cache is its own."""

    def made(config: str) -> Project:
        cache = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "XDG_STATE_HOME": str(tmp_path / "state")}
        (tmp_path / "project").mkdir()
        project = Project(tmp_path / "project", cache)
        return project.write({"dispatch.yml": SETTINGS, "x.yml": config, "mine.py": STEPS}).commit()

    return made


def test_the_plan_of_a_graph(make: Make) -> None:
    """Every step with its standing and reason, before and after a run; nothing is computed for it."""
    project = make(CONFIG)
    before = project.dispatch("plan", "x.yml").well()
    assert before.table() == {
        "numbers": ["run", "here", "-", "no", "result", "yet"],
        "draw": ["inside", "here", "numbers", "computed", "by", "'scale'"],
        "scale": [
            *("run", "here", "draw", "no", "result", "yet;"),
            *("depends", "on", "'draw',", "which", "is", "not", "deterministic"),
        ],
    }
    assert before.err.splitlines() == [
        "bytes, process: inputs: in place, results: rename",
        "3 steps: 2 run, 1 inside",
    ]
    assert not project.workspace.exists()
    project.dispatch("run", "x.yml").well()
    after = project.dispatch("plan", "x.yml", "--json").well().json()
    assert after["schema"] == 1
    assert [(each["name"], each["standing"]) for each in after["steps"]] == [
        ("numbers", "cached"),
        ("draw", "inside"),
        ("scale", "cached"),
    ]
    assert after["steps"][1]["reason"] == "nothing needs it"
    assert (after["targets"], after["images"], after["bytes"]) == (["numbers", "draw", "scale"], [], {})


def test_the_plan_of_a_target(make: Make) -> None:
    """With -s only what it needs is planned, and what was asked for by name is a job."""
    project = make(CONFIG)
    found = project.dispatch("plan", "x.yml", "-s", "draw", "--json").well().json()
    assert [(each["name"], each["standing"]) for each in found["steps"]] == [
        ("numbers", "run"),
        ("draw", "run"),
    ]
    assert found["steps"][1]["needs"] == ["numbers"]


def test_running_changed_steps_again(make: Make) -> None:
    """After an edit a plan says so; with --rerun-changed it plans, and a run does, what has to be redone."""
    project = make("steps: {numbers: {type: numbers, n: 3}}\n")
    project.dispatch("run", "x.yml").well()
    project.write({"mine.py": STEPS.replace("range(n)", "range(n, n + n)")}).commit()
    assert project.dispatch("plan", "x.yml").well().table()["numbers"][:1] == ["cached"]
    why = project.dispatch("why", "x.yml", "numbers").well().out
    assert "numbers: cached: source changed since" in why
    assert "changed since: mine.py" in why
    (step,) = project.dispatch("plan", "x.yml", "--rerun-changed", "--json").well().json()["steps"]
    assert (step["standing"], step["reason"], step["replaces"]) == ("run", "source changed since", True)
    project.dispatch("run", "x.yml", "--rerun-changed").well()
    assert project.dispatch("result", "latest", "numbers").well().out.split() == ["[3,", "4,", "5]"]
    assert project.dispatch("plan", "x.yml").well().table()["numbers"] == ["cached", "here", "-"]


def test_why_a_step_is_not_cached(make: Make) -> None:
    """It names the input that differs from the nearest earlier result, also in a dependency."""
    project = make(CONFIG)
    assert "never computed in this workspace" in project.dispatch("why", "x.yml", "scale").well().out
    project.dispatch("run", "x.yml", "-n", "first").well()
    changed = ("-o", '{"steps": {"scale": {"by": 3.0}, "numbers": {"n": 4}}}')
    lines = project.dispatch("why", "x.yml", "scale", *changed).well().out.splitlines()
    assert [line.strip() for line in lines[-4:]] == [
        "by: 2.0 → 3.0",
        "number: result of step 'draw' differs",
        "draw: numbers: result of step 'numbers' differs",
        "numbers: n: 3 → 4",
    ]
    found = project.dispatch("why", "x.yml", "scale", *changed, "--json").well().json()
    assert (found["schema"], found["nearest"]["run"]) == (1, "first")
    assert found["changes"][0] == {"step": "scale", "input": "by", "change": "2.0 → 3.0", "depth": 0}
    assert found["needs"] == ["numbers"]


@pytest.mark.parametrize(
    ("command", "fact"),
    [
        (("why", "x.yml", "scael"), "there is no step 'scael', did you mean 'scale'?"),
        (("plan", "x.yml", "-s", "scael"), "there is no step 'scael', did you mean 'scale'?"),
    ],
)
def test_a_misspelt_step(make: Make, command: tuple[str, ...], fact: str) -> None:
    """One error with a guess, exit code 2."""
    done = make(CONFIG).dispatch(*command)
    assert (done.code, done.out, done.errors()) == (2, "", [f"error: {fact}"])
