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
from dispatch.testing.busybox import REFERENCE
from dispatch.testing.processes import until
from dispatch.testing.project import Project

pytestmark = pytest.mark.engine
MOMENTS = max(4, int(100 * float(os.environ.get("DISPATCH_STRESS", "1.0"))))
LONGEST = 4.0
# Whether a step was begun twice shows in its result: the clock's reading at its one beginning is in it.
COMMAND = (
    'cat /proc/uptime > "$DISPATCH_OUTPUT_DIR/began"; echo begun; {}; echo {} > "$DISPATCH_OUTPUT_DIR/value"'
)


def shell(value: str, does: str, *needs: str) -> dict[str, object]:
    """A step that does something and leaves a value."""
    return {
        "type": "shell",
        "step_image": {"docker": REFERENCE},
        "step_network": "none",
        "command": COMMAND.format(does, value),
        "inputs": {need: {"ref": need} for need in needs},
    }


def containers(door: Door, root: Path) -> dict[str, str]:
    """The states of the project's containers, by step."""
    found = {}
    for row in door.containers.labelled("dispatch.run"):
        if row.labels.get("dispatch.directory", "").startswith(f"{root}/"):
            state = door.containers.inspect(row.name)
            if state is not None:
                found[row.labels["dispatch.step"]] = state.status
    return found


def clock() -> float:
    """The kernel's clock, which containers read, too."""
    return float(Path("/proc/uptime").read_text().split()[0])


def began(result: str) -> float:
    """When the attempt began that gave a result."""
    return float((Path(result) / "began").read_text().split()[0])


@pytest.fixture
def project(tmp_path: Path, busybox_image: ImageRecord) -> Project:  # noqa: ARG001
    """A repository with steps of an image that is there."""
    (tmp_path / "project").mkdir()
    return Project(tmp_path / "project").write({"dispatch.yml": "executor: {type: docker}\n"}).commit()


def test_the_same_command_goes_on(project: Project, door: Door) -> None:
    """Of a killed run what runs is taken over, what ended meanwhile committed, and nothing is begun again."""
    steps = {
        "short": shell("short", "sleep 1"),
        "long": shell("long", "sleep 6"),
        "fails": shell("fails", "sleep 1; exit 3"),
        "after": shell("after", "true", "short", "long"),
    }
    project.write({"x.json": json.dumps({"steps": steps})})
    first = project.start("dispatch", "run", "x.json", "-j", "3")
    until(lambda: list(containers(door, project.root).values()).count("running") == 3, "three run")
    first.signal(signal.SIGKILL, group=False)
    first.end()
    until(lambda: containers(door, project.root).get("short") == "exited", "one ends alone")
    killed = clock()
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
    project.write({"x.json": json.dumps({"steps": {"long": shell("long", "sleep 5")}})})
    for _ in range(4):
        client = project.start("dispatch", "run", "x.json")
        until(lambda: containers(door, project.root) == {"long": "running"}, "it runs")
        time.sleep(0.3)
        client.signal(signal.SIGKILL, group=False)
        client.end()
    killed = clock()
    done = project.dispatch("run", "x.json", "--json").well().json()
    assert began(done["steps"][0]["result"]) < killed - 0.9
    until(lambda: containers(door, project.root) == {}, "no container is left")


def test_a_client_killed_at_any_moment(project: Project, door: Door) -> None:
    """After each kill a plain re-run is right; nothing that had begun is begun again, nothing is left."""
    chance = random.Random(4)
    for seed in range(MOMENTS):
        steps = {
            "a": shell(f"a{seed}", "sleep 0.3"),
            "b": shell(f"b{seed}", "sleep 1"),
            "c": shell(f"c{seed}", "sleep 0.3", "a"),
            "d": shell(f"d{seed}", "true", "b", "c"),
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
        killed = clock()
        done = project.dispatch("run", "x.json", "-j", "2", "--json").well().json()
        for step in done["steps"]:
            assert (Path(step["result"]) / "value").read_text() == f"{step['name']}{seed}\n"
            if step["name"] in running or step["verdict"] == "cached":
                assert began(step["result"]) < killed, f"seed {seed}: {step['name']} ran twice"
        until(lambda: containers(door, project.root) == {}, f"seed {seed}: no container is left")
    project.dispatch("check").well()
