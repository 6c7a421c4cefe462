"""Commands on runs whose steps are jobs on Beaker, results and all: seen, cancelled, and what they leave."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dispatch._beaker import BeakerDoor
from dispatch.testing.beaker import BeakerProcess, Beakers
from dispatch.testing.beaker_doors import door_of
from dispatch.testing.beaker_graph import OnBeaker, project_on_beaker, server_config
from dispatch.testing.project import Project

pytestmark = pytest.mark.engine

DEADLINE = 120.0
LONG = """\
steps:
  quick: {type: shell, command: 'echo fast; echo 1 > "$DISPATCH_OUTPUT_DIR/value"', step_network: none}
  slow:
    type: shell
    step_network: none
    step_secrets: [TOKEN]
    command: |
      echo waiting
      for _ in $(seq 3000); do [ -e /shared/go ] && break; sleep 0.1; done
      echo 2 > "$DISPATCH_OUTPUT_DIR/value"
"""


@pytest.fixture
def server(beakers: Beakers, tmp_path: Path) -> BeakerProcess:
    """A server whose jobs may mount a directory of the test's."""
    (tmp_path / "shared").mkdir()
    config = tmp_path / "beaker.yml"
    config.write_text(server_config(tmp_path / "shared"))
    return beakers.spawn(config)


@pytest.fixture
def mine(server: BeakerProcess, tmp_path: Path) -> Iterator[OnBeaker]:
    """A user's project on it. In the end whatever still waits goes on, and ends."""
    made = project_on_beaker(server, tmp_path / "mine", tmp_path / "shared")
    project = Project(made.project.root, {**made.project.env, "TOKEN": "s3cret"})
    yield OnBeaker(project.write({"long.yml": LONG}).commit(), made.shared)
    (made.shared / "go").touch()


@pytest.fixture
def door(server: BeakerProcess) -> Iterator[BeakerDoor]:
    """What is there."""
    made = door_of(server)
    yield made
    made.close()


def await_that(condition: Callable[[], bool]) -> None:
    """Wait until something is so; AssertionError if it never is."""
    limit = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.2)


def states(project: Project) -> dict[str, str]:
    """Where each step of the first run stands, as `status` says."""
    found = project.dispatch("status", "first", "--json")
    return {step["name"]: step["state"] for step in found.json()["steps"]} if found.code == 0 else {}


def left(door: BeakerDoor) -> set[str]:
    """What kinds of things there are that are of no use once a run is over."""
    datasets = [each.name for each in door.datasets.search("dispatch-") if not each.committed]
    data = [each.name for each in door.datasets.search("dispatch-job-")]
    live = [each.name for each in door.experiments.search(finalized=False)]
    return {*datasets, *data, *door.secrets.names(), *live}


def test_a_run_from_its_begin_to_gc(mine: OnBeaker, door: BeakerDoor) -> None:
    """It is seen while it goes on, and leaves only what is there for people, until that goes, too."""
    project = mine.project
    client = project.start("dispatch", "run", "-n", "first", "long.yml", "--json")
    await_that(lambda: states(project) == {"quick": "completed", "slow": "running"})
    assert "fast" in project.dispatch("logs", "first", "quick").well().out.splitlines()
    shown = project.dispatch("show", "first").well().table()
    assert shown["quick"][0] == "completed"
    assert "/" in shown["quick"][-1]
    (mine.shared / "go").touch()
    done = client.end()
    assert done.code == 0, done.err
    assert left(door) == set()
    assert (
        Path(project.dispatch("result", "first", "slow").well().out.strip()) / "value"
    ).read_text() == "2\n"
    assert project.dispatch("check").well().err.startswith("nothing")
    items = (
        project.dispatch("beaker", "gc", "--older-than", "1s", "--remove", "--json").well().json()["items"]
    )
    assert {each["kind"] for each in items} == {"experiment", "bundle"}
    assert door.experiments.search() == []
    again = project.dispatch("run", "long.yml", "--json").well().json()
    assert {step["name"]: step["verdict"] for step in again["steps"]} == {"quick": "cached", "slow": "cached"}
    assert "nothing" in project.dispatch("beaker", "gc", "--older-than", "1s").well().err


@pytest.mark.parametrize("killed", [False, True], ids=["alive", "dead"])
def test_a_run_is_cancelled(mine: OnBeaker, door: BeakerDoor, killed: bool) -> None:
    """With its client or without it: jobs end, all that they had goes, and the run can be gone on with."""
    project = mine.project
    client = project.start("dispatch", "run", "-n", "first", "long.yml")
    await_that(lambda: states(project) == {"quick": "completed", "slow": "running"})
    if killed:
        client.signal(signal.SIGKILL, group=False)
        client.end()
    cancelled = project.dispatch("cancel", "first").well()
    assert "cancelled" in cancelled.err
    if not killed:
        assert client.end().code == 130
    assert left(door) == set()
    runs = project.dispatch("runs", "--json").well().json()["runs"]
    assert [(run["name"], run["state"]) for run in runs] == [("first", "cancelled")]
    (mine.shared / "go").touch()
    again = project.dispatch("run", "-n", "first", "long.yml", "--json").well().json()
    assert {step["name"]: step["verdict"] for step in again["steps"]} == {
        "quick": "cached",
        "slow": "completed",
    }
    assert left(door) == set()
