"""Results on Beaker for steps of this machine, in containers and in processes: fetched, and sent back."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from dispatch._docker import ImageRecord
from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_doors import door_of
from dispatch.testing.beaker_project import WORKSPACE, project_on
from dispatch.testing.busybox import REFERENCE
from dispatch.testing.project import Project

pytestmark = pytest.mark.engine

CONTAINERS = """\
steps:
  first:
    type: shell
    step_network: none
    command: |
      cd "$DISPATCH_OUTPUT_DIR"; mkdir d; ln -s d link; : > empty
      for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do echo $i > d/$i; done
  second:
    type: shell
    step_network: none
    inputs: {first: {type: ref, ref: first}}
    command: |
      cd "$DISPATCH_INPUT_FIRST"
      { cat link/20; find . | wc -l; } > "$DISPATCH_OUTPUT_DIR/last"
"""
SETTINGS = (
    f"workspace: {WORKSPACE}\nexecutor: docker\nimage: busy\nimages: {{busy: {{docker: '{REFERENCE}'}}}}\n"
)


def on(beaker: LocalBeaker, root: Path, settings: str) -> Project:
    """A project of one machine, with an engine."""
    docker = os.environ.get("DOCKER_HOST", "")
    project = project_on(beaker, root, settings=settings, env={"DOCKER_HOST": docker})
    return project.write({"steps.yml": CONTAINERS}).commit()


def last(project: Project, run: str) -> str:
    """What the second step of a run left."""
    place = project.dispatch("result", run, "second").well().out.strip()
    return (Path(place) / "last").read_text()


@pytest.mark.parametrize("engine", ["docker", "local"])
def test_steps_here_take_results_of_steps_elsewhere(
    beaker: LocalBeaker, tmp_path: Path, engine: str, busybox_image: ImageRecord
) -> None:
    """Another machine of the team fetches what it takes, computes the rest, and leaves that on Beaker."""
    assert busybox_image
    settings = SETTINGS if engine == "docker" else f"workspace: {WORKSPACE}\nexecutor: local\n"
    first, second = (on(beaker, tmp_path / name, settings) for name in ("one", "two"))
    first.dispatch("run", "steps.yml", "-s", "first", "-n", "mine").well()
    looked = second.dispatch("shell", "steps.yml", "second", "--", 'cat "$DISPATCH_INPUT_FIRST"/d/20').well()
    assert looked.out.strip() == "20"
    done = second.dispatch("run", "steps.yml", "-n", "theirs", "--json").well().json()
    assert {step["name"]: step["verdict"] for step in done["steps"]} == {
        "first": "cached",
        "second": "completed",
    }
    assert last(second, "theirs") == last(first, "theirs") == "20\n24\n"
    again = first.dispatch("run", "steps.yml", "--json").well().json()
    assert {step["verdict"] for step in again["steps"]} == {"cached"}


def test_python_steps_here(beaker: LocalBeaker, tmp_path: Path) -> None:
    """A process of this machine loads what was made on another one."""
    first, second = (project_on(beaker, tmp_path / name) for name in ("one", "two"))
    first.dispatch("run", "x.yml", "-s", "one").well()
    second.dispatch("run", "x.yml", "-n", "r").well()
    assert second.dispatch("result", "r", "two").well().out.strip() == "4"


def test_a_result_that_is_damaged(beaker: LocalBeaker, tmp_path: Path, busybox_image: ImageRecord) -> None:
    """A step whose inputs come with other bytes than were committed never begins, and that is said."""
    assert busybox_image
    one, two = (on(beaker, tmp_path / name, SETTINGS) for name in ("one", "two"))
    one.dispatch("run", "steps.yml", "-s", "first").well()
    with contextlib.closing(door_of(beaker)) as door:
        datasets = door.datasets.search("dispatch-step-")
    for dataset in datasets:
        path = beaker.layout.files(dataset.id) / "result.tar"
        path.write_bytes(b"x" * path.stat().st_size)
    failed = two.dispatch("run", "steps.yml", "-n", "r")
    assert failed.code == 1, failed.err
    assert "its inputs cannot be brought" in failed.out + failed.err
    assert "second" in failed.out
