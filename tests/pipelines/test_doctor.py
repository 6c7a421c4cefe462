"""`dispatch doctor`: whether a run would work, before it is tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from dispatch._docker import ImageRecord
from dispatch.testing.project import Done, Project

Make = Callable[[Mapping[str, str]], Project]

NOWHERE = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}
HERE = "steps: {a: {type: shell, command: 'true'}}\n"
INSIDE = 'images: {busybox: {docker: "dispatch-test-busybox:1"}}\nimage: busybox\n' + HERE


def levels(done: Done) -> dict[str, str]:
    """The level of each finding, by what it is about."""
    return {each["what"]: each["level"] for each in done.json()["checks"]}


def step(**keys: Any) -> str:
    """A configuration of one step of this machine, with these keys."""
    return str({"steps": {"a": {"type": "shell", "command": "true", **keys}}})


def test_one_line_a_finding(make: Make) -> None:
    """Each line begins with its level; a remedy stands below what is not well."""
    done = make({"e.yml": HERE}).dispatch("doctor", "e.yml", env=NOWHERE).well()
    lines = done.out.splitlines()
    assert {line.split()[0] for line in lines if not line.startswith(" ")} <= {"ok", "warning"}
    at = next(number for number, line in enumerate(lines) if line.startswith("warning  engine: "))
    assert lines[at + 1].startswith("         start one with ")
    assert any(line.startswith("ok       config: e.yml: 1 steps, 0 images") for line in lines)


@pytest.mark.parametrize(
    ("text", "what", "code"),
    [
        (HERE, "", 0),
        ("steps: {a: {type: shell}}", "config", 2),
        ("steps: [", "config", 2),
        (step(step_resources={"cpu_count": 100_000}), "step a", 2),
        (step(step_resources={"cpu_count": 1}), "", 0),
        (step(step_secrets=["NO_SUCH_SECRET"]), "secret NO_SUCH_SECRET", 2),
        (step(step_secrets=["HOME"]), "", 0),
        (step(step_mounts=[{"source": "nowhere", "target": "/data"}]), "mount", 2),
        (step(step_mounts=[{"source": "data", "target": "/data"}]), "mount", 2),
        (INSIDE, "engine", 3),
        ("images: {p: {pip: p.in}}\nimage: p\n" + HERE, "image p", 3),
    ],
)
def test_what_a_configuration_needs(text: str, what: str, code: int, make: Make) -> None:
    """What would stop a run of it is a problem, with the exit code that the run would have."""
    project = make({"e.yml": text, "p.in": "", "data/x": ""})
    done = project.dispatch("doctor", "e.yml", "--json", env=NOWHERE)
    found = levels(done)
    assert done.code == code, found
    assert done.json()["healthy"] == (code == 0)
    problems = {name for name, level in found.items() if level == "problem"}
    assert (what in problems) if what else not problems
    if code == 0:
        project.dispatch("plan", "e.yml", env=NOWHERE).well()


@pytest.mark.engine
def test_images(make: Make, busybox_image: ImageRecord) -> None:
    """One that is there is well, one that a run would pull is a warning, a missing lock a problem."""
    assert busybox_image
    project = make({"e.yml": INSIDE, "p.in": ""})
    assert levels(project.dispatch("doctor", "e.yml", "--json").well())["image busybox"] == "ok"
    project.write({"e.yml": INSIDE.replace("busybox:1", "absent:1")})
    assert levels(project.dispatch("doctor", "e.yml", "--json").well())["image busybox"] == "warning"
    project.write({"e.yml": "images: {p: {pip: p.in}}\nimage: p\n" + HERE})
    done = project.dispatch("doctor", "e.yml")
    assert done.code == 2
    assert "problem  image p: " in done.out
    assert "dispatch lock e.yml" in done.out


def test_settings_that_are_wrong(make: Make) -> None:
    """They are a finding like any other, and the only one."""
    project = make({"dispatch.yml": "wrokspace: x\n"})
    done = project.dispatch("doctor", "--json")
    assert (done.code, levels(done)) == (2, {"settings": "problem"})


def test_the_source(make: Make) -> None:
    """Changes are well unless settings forbid them; remotes are named, and whether they have the commit."""
    project = make({"e.yml": HERE})
    assert "source: remote: none" in project.dispatch("doctor", "e.yml", env=NOWHERE).well().out
    project.call("git", "init", "--quiet", "--bare", "../remote").well()
    project.git("remote", "add", "origin", "../remote")
    assert "has not the commit" in project.dispatch("doctor", "e.yml", env=NOWHERE).well().out
    project.git("push", "--quiet", "origin", "HEAD")
    assert "has the commit" in project.dispatch("doctor", "e.yml", env=NOWHERE).well().out
    project.write({"new": "file"})
    assert "not committed" in project.dispatch("doctor", "e.yml", env=NOWHERE).well().out
    project.write({"dispatch.yml": "allow_dirty: false\n"})
    done = project.dispatch("doctor", "e.yml", env=NOWHERE)
    assert (done.code, "problem  source: " in done.out) == (2, True)
    assert project.dispatch("run", "e.yml").code == 2


def test_a_workspace_that_cannot_be(make: Make) -> None:
    """A workspace below a file is a problem."""
    project = make({"e.yml": HERE, "file": ""})
    done = project.dispatch("doctor", "e.yml", "-w", "file/workspace", "--json", env=NOWHERE)
    assert (done.code, levels(done)["workspace"]) == (3, "problem")
