"""Containers outlive their client: killed at any moment, the same command goes on with what still runs."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from dispatch._docker import Door, ImageRecord
from dispatch.testing.outliving import began, shell_step, uptime, value_of
from dispatch.testing.processes import until
from dispatch.testing.project import Project

pytestmark = pytest.mark.engine
MOMENTS = max(4, int(100 * float(os.environ.get("DISPATCH_STRESS", "1.0"))))
LONGEST = 4.0


def containers(door: Door, root: Path) -> dict[str, str]:
    """The states of the project's containers, by step."""
    found = {}
    for row in door.containers.labelled("dispatch.run"):
        if row.labels.get("dispatch.directory", "").startswith(f"{root}/"):
            state = door.containers.inspect(row.name)
            if state is not None:
                found[row.labels["dispatch.step"]] = state.status
    return found


@pytest.fixture
def project(tmp_path: Path, busybox_image: ImageRecord) -> Project:  # noqa: ARG001
    """A repository with steps of an image that is there."""
    (tmp_path / "project").mkdir()
    return Project(tmp_path / "project").write({"dispatch.yml": "executor: {type: docker}\n"}).commit()


def test_the_same_command_goes_on(project: Project, door: Door) -> None:
    """Of a killed run what runs is taken over, what ended meanwhile committed, and nothing is begun again."""
    steps = {
        "short": shell_step("short", "sleep 1"),
        "long": shell_step("long", "sleep 6"),
        "fails": shell_step("fails", "sleep 1; exit 3"),
        "after": shell_step("after", "true", "short", "long"),
    }
    project.write({"x.json": json.dumps({"steps": steps})})
    first = project.start("dispatch", "run", "x.json", "-j", "3")
    until(lambda: list(containers(door, project.root).values()).count("running") == 3, "three run")
    first.signal(signal.SIGKILL, group=False)
    first.end()
    until(lambda: containers(door, project.root).get("short") == "exited", "one ends alone")
    killed = uptime()
    again = project.dispatch("run", "x.json", "-j", "3", "--json")
    assert again.code == 1, again.err
    done = {step["name"]: step for step in again.json()["steps"]}
    assert {name: step["verdict"] for name, step in done.items()} == {
        "short": "completed",
        "long": "completed",
        "fails": "failed",
        "after": "completed",
    }
    assert began(done["short"]["result"]) < killed
    assert began(done["long"]["result"]) < killed
    assert began(done["after"]["result"]) > killed
    assert "exited with code 3" in done["fails"]["reason"]
    assert project.dispatch("logs", "latest", "long").well().out.splitlines().count("begun") == 1
    until(lambda: containers(door, project.root) == {}, "no container is left")
    project.dispatch("check").well()


def test_clients_killed_over_one_job(project: Project, door: Door) -> None:
    """However many clients are killed while one step runs, it runs once, and the last has its result."""
    project.write({"x.json": json.dumps({"steps": {"long": shell_step("long", "sleep 5")}})})
    for _ in range(4):
        client = project.start("dispatch", "run", "x.json")
        until(lambda: containers(door, project.root) == {"long": "running"}, "it runs")
        time.sleep(0.3)
        client.signal(signal.SIGKILL, group=False)
        client.end()
    killed = uptime()
    done = project.dispatch("run", "x.json", "--json").well().json()
    assert began(done["steps"][0]["result"]) < killed - 0.9
    until(lambda: containers(door, project.root) == {}, "no container is left")


def test_a_client_killed_at_any_moment(project: Project, door: Door) -> None:
    """After each kill a plain re-run is right; nothing that had begun is begun again, nothing is left."""
    chance = random.Random(4)
    for seed in range(MOMENTS):
        steps = {
            "a": shell_step(f"a{seed}", "sleep 0.3"),
            "b": shell_step(f"b{seed}", "sleep 1"),
            "c": shell_step(f"c{seed}", "sleep 0.3", "a"),
            "d": shell_step(f"d{seed}", "true", "b", "c"),
        }
        project.write({"x.json": json.dumps({"steps": steps})})
        client = project.start("dispatch", "run", "x.json", "-j", "2")
        time.sleep(chance.uniform(0.0, LONGEST))
        client.signal(signal.SIGKILL, group=False)
        client.end()
        # What the engine was told to start, it starts a little later.
        time.sleep(0.3)
        running = {name for name, state in containers(door, project.root).items() if state != "created"}
        # A container runs a moment before its command has read the clock.
        time.sleep(1.0)
        killed = uptime()
        done = project.dispatch("run", "x.json", "-j", "2", "--json").well().json()
        for step in done["steps"]:
            assert value_of(step["result"]) == f"{step['name']}{seed}"
            if step["name"] in running or step["verdict"] == "cached":
                assert began(step["result"]) < killed, f"seed {seed}: {step['name']} ran twice"
        until(lambda: containers(door, project.root) == {}, f"seed {seed}: no container is left")
    project.dispatch("check").well()
