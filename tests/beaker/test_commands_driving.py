"""Commands on runs of a workspace on Beaker while these go on: watched, cancelled and gone on with."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch.beakerd.config import Config, UserConfig
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_project import project_on
from dispatch.testing.project import Done, Project

DEADLINE = 120.0


@pytest.fixture
def server(beakers: Beakers) -> LocalBeaker:
    """A server with two users."""
    users = (UserConfig("me", ("ai2",), admin=True), UserConfig("you", ("ai2",)))
    return beakers.start(replace(Config(), users=users))


@pytest.fixture
def go(tmp_path: Path) -> Path:
    """The file that lets the step go on."""
    return tmp_path / "go"


@pytest.fixture
def project(server: LocalBeaker, tmp_path: Path, go: Path) -> Project:
    """A user's project with a step that waits for ``go``, after one that does not."""
    project = project_on(server, tmp_path / "mine")
    steps = f"steps: {{one: {{type: double, n: 1}}, slow: {{type: waits, go: {go}}}}}\n"
    return project.write({"slow.yml": steps})


def await_that(condition: Callable[[], bool]) -> None:
    """Wait until something is so; AssertionError if it never is."""
    limit = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.2)


def states(project: Project, run: str) -> dict[str, str]:
    """Where each step of a run stands, as `status` says."""
    found = project.dispatch("status", run, "--json")
    return {step["name"]: step["state"] for step in found.json()["steps"]} if found.code == 0 else {}


def runs(project: Project) -> dict[str, str]:
    """The runs and their states."""
    return {run["name"]: run["state"] for run in project.dispatch("runs", "--json").well().json()["runs"]}


def test_a_run_without_a_terminal(server: LocalBeaker, project: Project, tmp_path: Path, go: Path) -> None:
    """It goes on by itself, can be watched from another machine, and its end is seen there."""
    started = project.dispatch("run", "--detach", "-n", "first", "slow.yml").well()
    assert started.out == "first\n"
    yours = project_on(server, tmp_path / "yours", user="you")
    await_that(lambda: states(yours, "first") == {"one": "completed", "slow": "running"})
    unfinished = yours.dispatch("status", "--json").well().json()["runs"]
    assert [run["run"] for run in unfinished] == ["first"]
    assert runs(yours) == {"first": "running"}
    held = yours.dispatch("remove", "first", "--yes")
    assert held.code != 0
    assert "drives it" in held.err
    follower = yours.start("dispatch", "follow", "first")
    go.touch()
    followed = follower.end()
    assert followed.code == 0, followed.err
    assert "slow: completed" in followed.err
    assert runs(yours) == {"first": "completed"}
    assert yours.dispatch("result", "first", "slow").well().out.strip() == "went"
    assert yours.dispatch("logs", "-f", "first", "slow").well().out == "waiting\n"


def test_a_run_is_cancelled_by_a_teammate(
    server: LocalBeaker, project: Project, tmp_path: Path, go: Path
) -> None:
    """Its client hears of it and ends, and the run can be gone on with."""
    client = project.start("dispatch", "run", "-n", "first", "slow.yml")
    await_that(lambda: states(project, "first").get("slow") == "running")
    yours = project_on(server, tmp_path / "yours", user="you")
    cancelled = yours.dispatch("cancel", "first", "--grace", "1s").well()
    assert "cancelled" in cancelled.err
    done: Done = client.end()
    assert done.code == 130, done.err
    assert runs(yours) == {"first": "cancelled"}
    go.touch()
    again = project.dispatch("run", "-n", "first", "slow.yml", "--json").well().json()
    assert {step["name"]: step["verdict"] for step in again["steps"]} == {
        "one": "cached",
        "slow": "completed",
    }
    assert runs(yours) == {"first": "completed"}


def test_a_client_that_is_killed(project: Project, go: Path) -> None:
    """Its run is seen to be without one, and a plain re-run goes on with it: nothing is computed twice."""
    client = project.start("dispatch", "run", "-n", "first", "slow.yml")
    await_that(lambda: states(project, "first").get("slow") == "running")
    client.signal(signal.SIGKILL, group=False)
    client.end()
    assert runs(project) == {"first": "orphaned"}
    assert states(project, "first") == {"one": "completed", "slow": "unattended"}
    go.touch()
    again = project.dispatch("run", "slow.yml", "--json").well()
    assert "going on with run first" in again.err
    verdicts = {step["name"]: step["verdict"] for step in again.json()["steps"]}
    assert verdicts == {"one": "cached", "slow": "completed"}
    assert runs(project) == {"first": "completed"}


def test_a_run_without_a_client_is_cancelled(project: Project, go: Path) -> None:
    """By whoever asks for it: the ends are recorded, and nobody can go on with the step's job."""
    client = project.start("dispatch", "run", "-n", "first", "slow.yml")
    await_that(lambda: states(project, "first").get("slow") == "running")
    client.signal(signal.SIGKILL, group=False)
    client.end()
    cancelled = project.dispatch("cancel", "first").well()
    assert "cancelled" in cancelled.err
    assert runs(project) == {"first": "cancelled"}
    assert "Traceback" not in cancelled.err
    assert not go.exists()


def test_the_second_client_of_a_name_follows(project: Project, go: Path) -> None:
    """It sees what the first does, and ends as that does."""
    first = project.start("dispatch", "run", "-n", "first", "slow.yml")
    await_that(lambda: states(project, "first").get("slow") == "running")
    said = project.root / "said"
    second = project.start("sh", "-c", f"exec dispatch run -n first slow.yml 2> {said}")
    await_that(lambda: said.exists() and "following run first" in said.read_text())
    go.touch()
    ends = [first.end(), second.end()]
    assert [each.code for each in ends] == [0, 0], ends
    assert runs(project) == {"first": "completed"}
