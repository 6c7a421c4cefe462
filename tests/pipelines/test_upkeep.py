"""Looking after a workspace from outside: searching, removing, checking, repairing, collecting."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from dispatch.testing.project import Project

Make = Callable[[Mapping[str, str]], Project]

MODULE = """\
from dispatch import step


@step("double")
def double(n: int) -> int:
    return 2 * n


@step("fails")
def fails(n: int) -> int:
    raise ValueError("no good")
"""
CONFIG = """\
steps:
  one: {type: double, n: 1}
  two: {type: double, n: {type: ref, ref: one}}
"""


@pytest.fixture
def project(make: Make) -> Project:
    """A project with one completed run, called first."""
    made = make({"dispatch.yml": "include_package: [mine]\n", "mine.py": MODULE, "x.yml": CONFIG})
    made.dispatch("run", "x.yml", "-n", "first").well()
    return made


def result_of(project: Project, step: str) -> Path:
    """The directory of a step's result in the run called first."""
    return Path(project.dispatch("result", "first", step, "--path").well().out.strip())


def states(project: Project) -> dict[str, str]:
    """What `dispatch show first` says of each step."""
    return {
        step["name"]: step["state"] for step in project.dispatch("show", "first", "--json").json()["steps"]
    }


def test_steps_are_searched(project: Project) -> None:
    """By part of the id, by state, with a limit, and the total is told."""
    project.write({"bad.yml": "steps: {bad: {type: fails, n: 1}}"})
    assert project.dispatch("run", "bad.yml").code == 1
    found = project.dispatch("steps", "--json").json()
    assert {step["name"]: step["state"] for step in found["steps"]} == {
        "one": "completed",
        "two": "completed",
        "bad": "failed",
    }
    assert found["total"] == 3
    assert list(project.dispatch("steps", "--state", "failed").table()) == ["bad"]
    assert set(project.dispatch("steps", "double-").table()) == {"one", "two"}
    limited = project.dispatch("steps", "--limit", "1").well()
    assert len(limited.table()) == 1
    assert "1 of 3" in limited.err


def test_a_removed_result_is_computed_again(project: Project) -> None:
    """`remove RUN STEP` takes the result away; the next run computes that step and no other."""
    unasked = project.dispatch("remove", "first", "two")
    assert unasked.code == 2
    assert "--yes" in unasked.err
    project.dispatch("remove", "first", "two", "--yes").well()
    assert project.dispatch("result", "first", "two").code == 2
    again = project.dispatch("run", "x.yml").well().table()
    assert {name: row[0] for name, row in again.items()} == {"one": "cached", "two": "completed"}


def test_a_removed_run_leaves_its_results(project: Project) -> None:
    """`remove RUN` forgets the run; what it computed is still cached. What is not there is an error."""
    project.dispatch("remove", "first", "--yes").well()
    assert "first" not in project.dispatch("runs").table()
    assert {row[0] for row in project.dispatch("run", "x.yml").well().table().values()} == {"cached"}
    for arguments in (["first", "--yes"], ["--id", "double-nothing", "--yes"], []):
        done = project.dispatch("remove", *arguments)
        assert (done.code, len(done.errors())) == (2, 1), done.err


def damage_flip(result: Path) -> None:
    """One byte is another."""
    data = result / "data.json"
    content = bytearray(data.read_bytes())
    content[0] ^= 1
    data.write_bytes(content)


def damage_cut(result: Path) -> None:
    """The file lost its end."""
    os.truncate(result / "data.json", 0)


def damage_lose(result: Path) -> None:
    """The file is gone."""
    (result / "data.json").unlink()


def damage_marker(result: Path) -> None:
    """The manifest is no JSON."""
    (result.parent / "manifest.json").write_text("{")


@pytest.mark.parametrize("damage", [damage_flip, damage_cut, damage_lose, damage_marker])
def test_damage_is_found_and_mended(project: Project, damage: Callable[[Path], None]) -> None:
    """`check` names it and exits 1; a dry run changes nothing; `repair` sets it aside; a run heals it."""
    assert project.dispatch("check").code == 0
    damage(result_of(project, "one"))
    found = project.dispatch("check", "--json")
    assert found.code == 1
    assert {each["kind"] for each in found.json()["findings"]} == {"damaged result"}
    before = project.files()
    assert project.dispatch("repair", "--dry-run").well().table()
    assert project.files() == before
    project.dispatch("repair").well()
    assert project.dispatch("check").code == 0
    assert {name: row[0] for name, row in project.dispatch("run", "x.yml").well().table().items()} == {
        "one": "completed",
        "two": "cached",
    }
    assert project.dispatch("result", "latest", "one").well().out == "2\n"
    aside = project.workspace / "damaged"
    assert any(aside.iterdir()), "what was damaged is kept, for whoever wants to look"


def test_a_link_that_leads_nowhere_is_made_again(project: Project) -> None:
    """A run's links and `latest` are derived: `repair` makes them anew."""
    link = project.workspace / "runs" / "first" / "one"
    link.unlink()
    link.symlink_to("../../cache/nothing")
    (project.workspace / "latest").unlink()
    assert project.dispatch("check").code == 1
    project.dispatch("repair").well()
    assert (link / "result" / "data.json").is_file()
    assert (project.workspace / "latest").resolve().name == "first"


def test_nothing_that_a_run_names_is_collected(project: Project) -> None:
    """`gc` shows first and removes with --apply; a run's results stay until the run is removed."""
    time.sleep(1.1)
    assert project.dispatch("gc", "--older-than", "1s", "--json").json()["bytes"] >= 0
    project.dispatch("gc", "--older-than", "1s", "--apply").well()
    assert set(states(project).values()) == {"completed"}
    project.dispatch("remove", "first", "--yes").well()
    shown = project.dispatch("gc", "--older-than", "1s", "--json").json()
    assert shown["applied"] is False
    assert len([item for item in shown["items"] if item["kind"] == "result"]) == 2
    assert len(list((project.workspace / "cache").iterdir())) == 2
    project.dispatch("gc", "--older-than", "1h", "--apply").well()
    assert len(list((project.workspace / "cache").iterdir())) == 2
    project.dispatch("gc", "--older-than", "1s", "--apply").well()
    assert list((project.workspace / "cache").iterdir()) == []
    assert {row[0] for row in project.dispatch("run", "x.yml").well().table().values()} == {"completed"}


def test_a_workspace_may_be_moved(project: Project, tmp_path: Path) -> None:
    """Under another path everything is found: runs, results, links; and the steps are cached."""
    moved = tmp_path / "elsewhere" / "ws"
    moved.parent.mkdir()
    project.workspace.rename(moved)
    assert json.loads(project.dispatch("result", "latest", "two", "-w", moved).well().out) == 4
    assert project.dispatch("check", "-w", moved).code == 0
    table = project.dispatch("run", "x.yml", "-w", moved).well().table()
    assert {row[0] for row in table.values()} == {"cached"}


def test_other_places_are_refused(project: Project) -> None:
    """What has no files cannot be checked, and the error says so once."""
    for command in ("check", "repair", "gc"):
        done = project.dispatch(command, "-w", "memory://")
        assert (done.code, len(done.errors())) == (2, 1), done.err
