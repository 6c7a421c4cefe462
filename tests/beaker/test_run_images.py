"""A run on Beaker whose steps have images of all kinds, and what only those images can say of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dispatch.testing.beaker_up import beaker_up
from dispatch.testing.project import Project

pytestmark = [pytest.mark.engine, pytest.mark.archive]

SETTINGS = """\
workspace: beaker://ai2/my-workspace
executor: {type: beaker, beaker_workspace: ai2/my-workspace}
"""
# What only a container has; the client's interpreter cannot say what these steps are.
FAR = """\
import os
import sys

from dispatch import step

if not os.path.isdir("/dispatch"):
    raise ImportError("what the step needs is not on this machine")


@step("where")
def where(n: int) -> list:
    return [n, sys.prefix]


@step("both")
def both(a: list, b: list) -> list:
    return a + b
"""


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment of a user of a local Beaker."""
    with beaker_up(tmp_path_factory.mktemp("beaker")) as env:
        yield env


@pytest.fixture
def project(user: Mapping[str, str], tmp_path: Path) -> Project:
    """A repository of theirs."""
    (tmp_path / "project").mkdir()
    return Project(tmp_path / "project", env=user)


def test_images_of_all_kinds(project: Project) -> None:
    """A generated one is published once, Beaker's own are named, and each says what its steps are."""
    config = {
        "images": {"own": {"beaker": "ai2/conda"}},
        "include_package": ["far"],
        "steps": {
            "a": {"type": "where", "n": 1, "step_image": "debian-python"},
            "b": {"type": "where", "n": 2, "step_image": "own"},
            "c": {"type": "both", "a": {"type": "ref", "ref": "a"}, "b": {"type": "ref", "ref": "b"}},
            "d": {
                "type": "shell",
                "inputs": {"c": {"type": "ref", "ref": "c"}},
                "command": 'cat "$DISPATCH_INPUT_C/data.json" > "$DISPATCH_OUTPUT_DIR/here.txt"',
                "step_resources": {"machine": "local"},
            },
        },
    }
    project.write({"far.py": FAR, "dispatch.yml": SETTINGS, "experiment.yml": json.dumps(config)}).commit()
    project.dispatch("build", "--renew-base", "experiment.yml").well()
    first = project.dispatch("run", "experiment.yml").well()
    assert "publishing to Beaker" in first.err
    assert json.loads(project.dispatch("result", "latest", "c").well().out) == [1, "/usr", 2, "/opt/conda"]
    assert {name: row[3] for name, row in first.table().items()}["d"] == "here"
    planned = project.dispatch("plan", "experiment.yml").well()
    assert {row[0] for row in planned.table().values()} == {"cached"}
    again = project.dispatch("run", "experiment.yml").well()
    assert "publishing" not in again.err
    doctor = project.dispatch("doctor", "experiment.yml").well()
    assert "beaker: http" in doctor.out
    assert "image debian-python: is there" in doctor.out
