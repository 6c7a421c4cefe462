"""An engine that goes away in the middle of a run, and comes back: nothing is lost, nothing is done twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch.testing.busybox import busybox_archive
from dispatch.testing.dockerd import OwnEngine, own_engine, until_answers
from dispatch.testing.outliving import began, shell_step, uptime, value_of
from dispatch.testing.processes import until
from dispatch.testing.project import Project

pytestmark = pytest.mark.engine
MOMENTS = max(3, int(50 * float(os.environ.get("DISPATCH_STRESS", "1.0"))))


def states(engine: OwnEngine) -> dict[str, str]:
    """The states of the engine's containers, by step."""
    found = {}
    for row in engine.door.containers.labelled("dispatch.run"):
        state = engine.door.containers.inspect(row.name)
        if state is not None:
            found[row.labels["dispatch.step"]] = state.status
    return found


def load(engine: OwnEngine) -> None:
    """Give the engine an image."""
    busybox = Path("/bin/busybox")
    listed = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True)
    engine.door.load([busybox_archive(busybox.read_bytes(), listed.stdout.split())])


@pytest.fixture
def surviving(tmp_path: Path) -> Iterator[OwnEngine]:
    """An engine whose containers go on while it is away."""
    with own_engine(tmp_path / "e", "--live-restore") as engine:
        load(engine)
        yield engine


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[OwnEngine]:
    """An engine that takes its containers along when it is stopped."""
    with own_engine(tmp_path / "e") as engine:
        load(engine)
        yield engine


def project_on(directory: Path, engine: OwnEngine) -> Project:
    """A repository whose steps run on the engine."""
    directory.mkdir()
    files = {"dispatch.yml": "executor: {type: docker}\n"}
    return Project(directory, {"DOCKER_HOST": engine.address}).write(files).commit()


def test_lost_steps_are_tried_again(tmp_path: Path, mortal: OwnEngine) -> None:
    """What went down with the engine is begun again by the run that waited for it, and all completes."""
    project = project_on(tmp_path / "p", mortal)
    steps = {
        "a": shell_step("a", "sleep 5"),
        "b": shell_step("b", "sleep 5"),
        "c": shell_step("c", "true", "a", "b"),
    }
    project.write({"x.json": json.dumps({"steps": steps})})
    run = project.start("dispatch", "run", "x.json", "--json")
    until(lambda: states(mortal) == {"a": "running", "b": "running"}, "two run")
    mortal.stop()
    stopped = uptime()
    mortal.start()
    done = run.end().well()
    assert {step["verdict"] for step in done.json()["steps"]} == {"completed"}
    assert all(began(step["result"]) > stopped for step in done.json()["steps"])
    assert "the engine went down while it ran; once more in" in done.err
    until(lambda: states(mortal) == {}, "no container is left")


def test_survivors_go_on(tmp_path: Path, surviving: OwnEngine) -> None:
    """What outlived the engine is not begun again, and what ended while it was away counts."""
    project = project_on(tmp_path / "p", surviving)
    steps = {
        "a": shell_step("a", "sleep 3"),
        "b": shell_step("b", "sleep 12"),
        "c": shell_step("c", "true", "a", "b"),
    }
    project.write({"x.json": json.dumps({"steps": steps})})
    run = project.start("dispatch", "run", "x.json", "--json")
    until(lambda: states(surviving) == {"a": "running", "b": "running"}, "two run")
    # A container runs a moment before its command has read the clock.
    time.sleep(1.0)
    stopped = uptime()
    surviving.stop()
    time.sleep(4)
    surviving.start()
    done = {step["name"]: step for step in run.end().well().json()["steps"]}
    assert {step["verdict"] for step in done.values()} == {"completed"}
    assert began(done["a"]["result"]) < stopped
    assert began(done["b"]["result"]) < stopped
    until(lambda: states(surviving) == {}, "no container is left")


def test_client_and_engine_killed_at_any_moment(tmp_path: Path, surviving: OwnEngine) -> None:
    """After kills of either, or both, the same command is right, and what survived is not begun again."""
    project = project_on(tmp_path / "p", surviving)
    chance = random.Random(8)
    for seed in range(MOMENTS):
        steps = {
            "a": shell_step(f"a{seed}", "sleep 0.5"),
            "b": shell_step(f"b{seed}", "sleep 2"),
            "c": shell_step(f"c{seed}", "sleep 0.5", "a"),
            "d": shell_step(f"d{seed}", "true", "b", "c"),
        }
        project.write({"x.json": json.dumps({"steps": steps})})
        client = project.start("dispatch", "run", "x.json", "-j", "2")
        time.sleep(chance.uniform(0.0, 4.0))
        which = chance.choice(("client", "engine", "both"))
        if which != "client":
            surviving.kill()
        if which != "engine":
            client.signal(signal.SIGKILL, group=False)
        until_answers(surviving)
        going = {name for name, state in states(surviving).items() if state == "running"}
        time.sleep(1.0)
        now = uptime()
        client.end()
        done = project.dispatch("run", "x.json", "-j", "2", "--json").well().json()
        for step in done["steps"]:
            assert value_of(step["result"]) == f"{step['name']}{seed}", which
            assert step["name"] not in going or began(step["result"]) < now, f"seed {seed}: {step['name']}"
        until(lambda: states(surviving) == {}, f"seed {seed}: no container is left")
    project.dispatch("check").well()
