"""Commands on a workspace that is on Beaker: runs, their steps and results, as two users see them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dispatch.beakerd.config import Config, UserConfig
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_project import WORKSPACE, project_on
from dispatch.testing.project import Done, Project

BAD = {"bad.yml": "steps: {bad: {type: fails, n: 1}}\n"}


@pytest.fixture
def server(beakers: Beakers) -> LocalBeaker:
    """A server with two users."""
    users = (UserConfig("me", ("ai2",), admin=True), UserConfig("you", ("ai2",)))
    return beakers.start(replace(Config(), users=users))


@pytest.fixture
def project(server: LocalBeaker, tmp_path: Path) -> Project:
    """A user's project."""
    return project_on(server, tmp_path / "mine")


def verdicts(done: Done) -> dict[str, str]:
    """What became of each step of a run, by name."""
    return {step["name"]: step["verdict"] for step in done.well().json()["steps"]}


def test_teammates_share_results(server: LocalBeaker, project: Project, tmp_path: Path) -> None:
    """What one computed is cached for the other, who sees run, result and log of it on another machine."""
    first = project.dispatch("run", "x.yml", "-n", "first", "--json")
    assert verdicts(first) == {"one": "completed", "two": "completed"}
    assert first.json()["results"] == WORKSPACE
    yours = project_on(server, tmp_path / "yours", user="you")
    assert verdicts(yours.dispatch("run", "x.yml", "-n", "second", "--json")) == {
        "one": "cached",
        "two": "cached",
    }
    runs = yours.dispatch("runs", "--json").well().json()["runs"]
    assert [(run["name"], run["state"], run["steps"]) for run in runs] == [
        ("second", "completed", 2),
        ("first", "completed", 2),
    ]
    assert yours.dispatch("result", "first", "two").well().out == "4\n"
    shown = Path(yours.dispatch("result", "latest", "two", "--path").well().out.strip())
    assert (shown / "data.json").read_text().strip() == "4"
    assert shown.is_relative_to(tmp_path / "yours-cache")
    assert yours.dispatch("logs", "first", "one").well().out == "doubling 1\n"
    assert yours.dispatch("logs", "first").well().out == "one | doubling 1\ntwo | doubling 2\n"


def test_what_is_known_of_a_run(project: Project) -> None:
    """`show`, `steps`, `why`, `plan`: where a result is, and why a step failed."""
    project.write(BAD)
    project.dispatch("run", "x.yml", "-n", "first").well()
    failed = project.dispatch("run", "bad.yml", "-n", "bad")
    assert failed.code == 1
    assert "no good" in failed.err
    assert "dispatch logs bad bad" in failed.err
    (bad,) = project.dispatch("show", "bad", "--json").well().json()["steps"]
    assert (bad["state"], bad["error"], bad["result"]) == ("failed", "ValueError: no good", None)
    table = project.dispatch("show", "first").well()
    assert table.err.startswith("first: completed")
    result = table.table()["one"][-1]
    assert result.endswith("/result")
    assert project.dispatch("steps", "--state", "failed").table().keys() == {"bad"}
    found = project.dispatch("steps", "--json").well().json()
    assert (found["total"], {step["name"] for step in found["steps"]}) == (3, {"one", "two", "bad"})
    assert "computed" in project.dispatch("why", "x.yml", "two").well().out
    assert "no good" in project.dispatch("why", "bad.yml", "bad").well().out
    assert project.dispatch("logs", "bad", "bad").well().out.startswith("about to fail\n")
    assert "cached" in project.dispatch("plan", "x.yml").well().out


def test_what_is_removed_is_computed_again(project: Project) -> None:
    """A step, in its turn a run, whose name is free then; nothing is found damaged meanwhile."""
    project.dispatch("run", "x.yml", "-n", "first").well()
    assert "used by first" in project.dispatch("remove", "first", "two", "--yes").well().err
    assert project.dispatch("result", "first", "two").code == 2
    project.dispatch("remove", "first", "--yes").well()
    assert project.dispatch("runs").well().table() == {}
    gone = project.dispatch("show", "first")
    assert gone.code == 2
    assert "no run 'first'" in gone.err
    assert verdicts(project.dispatch("run", "x.yml", "-n", "first", "--json")) == {
        "one": "cached",
        "two": "completed",
    }
    for command in (["check"], ["repair"], ["gc"], ["gc", "--apply"]):
        assert "nothing" in project.dispatch(*command).well().err


def test_taken_names(server: LocalBeaker, project: Project, tmp_path: Path) -> None:
    """A run that was completed is not gone on with; another's name is taken for all."""
    project.dispatch("run", "x.yml", "-n", "first").well()
    yours = project_on(server, tmp_path / "yours", user="you")
    for each in (project, yours):
        again = each.dispatch("run", "x.yml", "-n", "first")
        assert again.code == 2
        assert "'first'" in again.err
    assert list(project.dispatch("runs").well().table()) == ["first"]


@pytest.mark.parametrize(
    ("url", "env", "code", "words"),
    [
        ("beaker://ai2/nowhere", {}, 2, "ai2/nowhere"),
        ("beaker://", {}, 2, "beaker://"),
        (WORKSPACE, {"BEAKER_TOKEN": "wrong"}, 3, "token"),
        (WORKSPACE, {"BEAKER_CONFIG": "/nonexistent", "HOME": "/nonexistent"}, 2, "BEAKER_TOKEN"),
        (WORKSPACE, {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": ""}, 3, "certificate"),
    ],
)
def test_beaker_says_no(project: Project, url: str, env: dict[str, str], code: int, words: str) -> None:
    """Every command says what is wrong and what to do, within seconds, and shows no traceback."""
    done = project.dispatch("runs", "-w", url, env=env)
    assert done.code == code, done.err
    assert words in done.err
    assert "remedy:" in done.err
    assert "Traceback" not in done.err


def test_beaker_is_away(server: LocalBeaker, project: Project) -> None:
    """So it is with a server that does not answer."""
    server.stop()
    for command in (["run", "x.yml"], ["status"]):
        done = project.dispatch(*command)
        assert (done.code, len(done.errors())) == (3, 1), done.err
        assert "does not answer" in done.err
        assert "remedy:" in done.err


def test_doctor(project: Project) -> None:
    """It says whether the workspace is there."""
    done = project.dispatch("doctor")
    assert f"workspace: {WORKSPACE}, 0 runs" in done.out
    nowhere = project.dispatch("doctor", "-w", "beaker://ai2/nowhere")
    assert "problem  workspace: " in nowhere.out
    assert "Traceback" not in nowhere.err
