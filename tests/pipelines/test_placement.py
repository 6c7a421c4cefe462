"""What runs of one machine leave each other, as users meet it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from dispatch._docker import Door, ImageRecord
from dispatch.testing.project import Project

Make = Callable[[Mapping[str, str]], Project]

LIMIT = 120.0
IMAGE = 'image: busybox\nimages: {busybox: {docker: "dispatch-test-busybox:1"}}\n'
WAITS = "echo once >> /flags/begun; while ! [ -e /flags/go ]; do sleep 0.1; done"


@pytest.fixture
def flags(tmp_path: Path) -> Iterator[Path]:
    """A directory through which steps and test speak; in the end no step waits any longer."""
    place = tmp_path / "flags"
    place.mkdir()
    yield place
    (place / "go").touch()


def large(door: Door, flags: Path, name: str, command: str) -> str:
    """A configuration of one step that needs so much memory that the machine holds but one of it."""
    memory = int(door.info()["MemTotal"]) * 2 // 3
    mount = f"step_mounts: [{{source: {flags}, target: /flags, read_only: false}}]"
    asks = f"step_resources: {{memory: {memory}}}"
    return f"steps: {{{name}: {{type: shell, command: '{command}', {asks}, {mount}}}}}\n"


def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition."""
    given_up = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < given_up, "it did not come to hold"
        time.sleep(0.05)


@pytest.mark.engine
def test_two_runs_share_the_machine(
    tmp_path: Path, flags: Path, door: Door, make: Make, busybox_image: ImageRecord
) -> None:
    """A step that needs what another client's container holds says so and waits until that has ended."""
    assert busybox_image
    project = make(
        {
            "dispatch.yml": IMAGE,
            "first.yml": large(door, flags, "holder", WAITS),
            "second.yml": large(door, flags, "later", "test -e /flags/go"),
        }
    )
    first = project.start("dispatch", "run", "first.yml")
    until((flags / "begun").exists)
    said = tmp_path / "said"
    second = project.start("sh", "-c", f"exec dispatch run second.yml -w other 2> {said}")
    until(lambda: said.exists() and "other clients hold" in said.read_text())
    assert first.running and second.running
    assert "later: started" not in said.read_text()
    (flags / "go").touch()
    first.end().well()
    second.end().well()


@pytest.mark.engine
def test_what_a_killed_client_left_is_no_others(
    tmp_path: Path, flags: Path, door: Door, make: Make, busybox_image: ImageRecord
) -> None:
    """The container that a step's killed client left does not keep the step itself waiting."""
    assert busybox_image
    project = make({"dispatch.yml": IMAGE, "x.yml": large(door, flags, "holder", WAITS)})
    first = project.start("dispatch", "run", "x.yml", "-n", "it")
    until((flags / "begun").exists)
    first.signal(signal.SIGKILL, group=True)
    first.end()
    said = tmp_path / "said"
    second = project.start("sh", "-c", f"exec dispatch run x.yml -n it 2> {said}")
    until(lambda: said.exists() and "holder: started" in said.read_text())
    (flags / "go").touch()
    second.end().well()
    assert "other clients hold" not in said.read_text()
    assert (flags / "begun").read_text() == "once\n"


def test_a_group_runs_as_many_as_its_limit(tmp_path: Path, make: Make) -> None:
    """With room for all, of a group of one each waits for the other, and steps of no group for none."""
    alone = f"mkdir {tmp_path}/alone && sleep 0.3 && rmdir {tmp_path}/alone"
    steps = "".join(
        f"  s{number}: {{type: shell, step_group: one, inputs: {{n: {number}}}, command: '{alone}'}}\n"
        for number in range(4)
    )
    free = f"  free: {{type: shell, command: 'while ! [ -e {tmp_path}/alone ]; do sleep 0.01; done'}}\n"
    settings = "executor: {type: local}\ngroups: {one: 1}\n"
    project = make({"dispatch.yml": settings, "x.yml": f"steps:\n{steps}{free}"})
    project.dispatch("run", "x.yml", "-j", "5").well()
