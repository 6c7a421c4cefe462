"""Containers of runs whose clients detach, are killed, or are told to end: none is left, none is lost."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from dispatch._docker import Door, ImageRecord
from dispatch.engine.base import RUN_LABEL
from dispatch.testing.processes import until
from dispatch.testing.project import Project

pytestmark = pytest.mark.engine

Make = Callable[[Mapping[str, str]], Project]

WAIT = 'echo begun; while [ ! -e "$DISPATCH_WORK_DIR/gate" ]; do sleep 0.1; done; echo over'
CONFIG = {
    "image": "busybox",
    "images": {"busybox": {"docker": "dispatch-test-busybox:1"}},
    "steps": {
        "slow": {"type": "shell", "command": WAIT, "step_network": "none"},
        "other": {"type": "shell", "command": f"{WAIT} # other", "step_network": "none"},
        "last": {
            "type": "shell",
            "command": "echo last",
            "step_network": "none",
            "inputs": {"slow": {"type": "ref", "ref": "slow"}, "other": {"type": "ref", "ref": "other"}},
        },
    },
}


@pytest.fixture
def project(make: Make, busybox_image: ImageRecord) -> Project:
    """A project whose steps run in containers of busybox, until their gates open."""
    assert busybox_image
    return make({"dispatch.yml": "workspace: ./workspace\n", "x.json": json.dumps(CONFIG)})


@pytest.fixture
def run(tmp_path: Path) -> str:
    """A name that no other test's containers bear."""
    return f"outliving-{os.getpid()}-{re.sub('[^a-z]', '', tmp_path.name)[-20:]}"


def status(project: Project, run: str) -> dict[str, Any]:
    """What ``status`` says of a run."""
    return project.dispatch("status", run, "--json").well().json()


def ids(project: Project, run: str) -> dict[str, str]:
    """The unique ids of a run's steps."""
    return {step["name"]: step["unique_id"] for step in status(project, run)["steps"]}


def open_gate(project: Project, run: str, *steps: str) -> None:
    """Let steps end."""
    known = ids(project, run)
    for step in steps:
        (project.workspace / "work" / known[step] / "gate").touch()


def states(project: Project, run: str) -> dict[str, str]:
    """The state of each step of a run."""
    return {step["name"]: step["state"] for step in status(project, run)["steps"]}


def detach(project: Project, run: str) -> None:
    """Start a detached run and wait until its containers run."""
    assert project.dispatch("run", "x.json", "--detach", "-n", run, "-j", "2").well().out == f"{run}\n"
    until(lambda: states(project, run)["slow"] == "running", "slow runs")
    until(lambda: states(project, run)["other"] == "running", "other runs")


def kill_client(project: Project, run: str) -> None:
    """Kill the process that drives a run, with -9."""
    os.kill(status(project, run)["client"]["pid"], signal.SIGKILL)
    until(lambda: status(project, run)["state"] == "orphaned", "it is known to be gone")


def left(door: Door, run: str) -> list[str]:
    """What the engine has of a run."""
    return [row.name for row in door.containers.labelled(RUN_LABEL, run)]


def recorded(project: Project, run: str) -> tuple[str, dict[str, str]]:
    """How a run and its steps ended."""
    shown = project.dispatch("show", run, "--json").well().json()
    return shown["state"], {step["name"]: step["state"] for step in shown["steps"]}


def test_cancel_leaves_no_container(project: Project, run: str, door: Door) -> None:
    """First of a step, which leaves the other alone, then of the run; what ran is recorded."""
    detach(project, run)
    assert project.dispatch("cancel", run, "slow").well().out == "slow\tcancelled\n"
    assert states(project, run) == {"slow": "cancelled", "other": "running", "last": "skipped"}
    until(lambda: len(left(door, run)) == 1, "the other's container alone is left")
    assert project.dispatch("cancel", run).well().out == "other\tcancelled\n"
    until(lambda: left(door, run) == [], "no container is left")
    state, steps = recorded(project, run)
    assert (state, steps) == ("cancelled", {"slow": "cancelled", "other": "cancelled", "last": "skipped"})


def test_cancel_without_a_client_leaves_no_container(project: Project, run: str, door: Door) -> None:
    """The containers that a killed client left are stopped, step by step or all; their logs are kept."""
    detach(project, run)
    kill_client(project, run)
    assert len(left(door, run)) == 2
    assert states(project, run) == {"slow": "unattended", "other": "unattended", "last": "waiting"}
    assert project.dispatch("cancel", run, "other").well().out == "other\tcancelled\n"
    assert len(left(door, run)) == 1
    project.dispatch("cancel", run).well()
    assert left(door, run) == []
    state, steps = recorded(project, run)
    assert (state, steps) == ("cancelled", dict.fromkeys(CONFIG["steps"], "cancelled"))
    logs = project.dispatch("logs", run).well().out
    assert re.findall(r"^(\w+) *\| begun$", logs, re.MULTILINE) == ["slow", "other"]
    project.dispatch("check").well()


def test_cancel_spares_another_workspaces_run(project: Project, run: str, door: Door, tmp_path: Path) -> None:
    """A run of the same name and the same steps, of another workspace, is not ours to stop."""
    detach(project, run)
    there = tmp_path / "elsewhere"
    project.dispatch("run", "x.json", "--detach", "-n", run, "-j", "2", "-w", there).well()
    try:
        until(lambda: len(left(door, run)) == 4, "both run")
        kill_client(project, run)
        project.dispatch("cancel", run).well()
        assert len(left(door, run)) == 2
    finally:
        project.dispatch("cancel", run, "-w", there).well()
    until(lambda: left(door, run) == [], "no container is left")


def test_the_same_command_takes_the_containers_over(project: Project, run: str, door: Door) -> None:
    """After kill -9 of the client they go on; the next client waits for their ends, and starts none again."""
    detach(project, run)
    before = sorted(left(door, run))
    kill_client(project, run)
    again = project.start("dispatch", "run", "x.json", "-n", run, "--json", "-j", "2")
    until(lambda: status(project, run)["state"] == "running", "it goes on")
    until(lambda: states(project, run)["slow"] == "running", "slow is taken over")
    assert sorted(left(door, run)) == before
    following = project.start("dispatch", "logs", run, "-f")
    open_gate(project, run, "slow", "other")
    done = again.end().well()
    assert {step["verdict"] for step in done.json()["steps"]} == {"completed"}
    lines = following.end().well().out
    assert sorted(re.findall(r"^(\w+) *\| (begun|over|last)$", lines, re.MULTILINE)) == sorted(
        [("slow", "begun"), ("slow", "over"), ("other", "begun"), ("other", "over"), ("last", "last")]
    )
    until(lambda: left(door, run) == [], "no container is left")
