"""The door to a Docker Engine: images and helper containers, against a real one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch._docker import Door, ImageRecord
from dispatch._docker.containers import Bind
from dispatch._docker.helper import OneShot
from dispatch._docker.owners import HELPER_LABEL
from dispatch.errors import EngineError, ImageError
from dispatch.testing.busybox import REFERENCE
from dispatch.testing.reporting import RecordingReporter

pytestmark = pytest.mark.engine


def _sh(image: ImageRecord, script: str) -> OneShot:
    return OneShot(image.id, ("/bin/sh", "-c", script))


def test_ping_and_info(door: Door) -> None:
    """The engine names its API version and describes itself."""
    assert door.ping().api_version
    assert door.info()["OSType"] == "linux"


def test_inspect_image(door: Door, busybox_image: ImageRecord) -> None:
    """An image is found under its name and its ID, and an absent one is None."""
    assert door.inspect_image(REFERENCE) == busybox_image
    assert door.inspect_image(busybox_image.id) == busybox_image
    assert REFERENCE in busybox_image.tags
    assert len(busybox_image.diff_ids) == 1
    assert busybox_image.config["Cmd"] == ["/bin/sh"]
    assert door.inspect_image("dispatch-test-absent:1") is None


@pytest.mark.parametrize("reference", ["", "../info", "a/../../info", "a b", "a?b=c", "-x", "a\nb"])
def test_reference_that_is_none(door: Door, reference: str) -> None:
    """What is no image reference never reaches the engine."""
    with pytest.raises(ImageError, match="not an image reference"):
        door.inspect_image(reference)


def test_find_by_label(door: Door) -> None:
    """A label that no image carries finds none."""
    assert door.find_image("dispatch.digest", "none such") is None


def test_tag_and_remove(door: Door, busybox_image: ImageRecord) -> None:
    """A second name leads to the same image, and taking it away leaves the image."""
    door.tag(busybox_image.id, "dispatch-test-second", "1")
    try:
        second = door.inspect_image("dispatch-test-second:1")
        assert second is not None and second.id == busybox_image.id
    finally:
        door.remove_image("dispatch-test-second:1")
    assert door.inspect_image("dispatch-test-second:1") is None
    assert door.inspect_image(busybox_image.id) is not None
    door.remove_image("dispatch-test-second:1")


def test_tag_of_an_absent_image(door: Door) -> None:
    """Naming an image that is not there is an error that names both."""
    with pytest.raises(ImageError, match="dispatch-test-absent:1: it cannot be tagged x:1"):
        door.tag("dispatch-test-absent:1", "x", "1")


def test_load_of_garbage(door: Door) -> None:
    """What is no image archive is refused in our words."""
    with pytest.raises((ImageError, EngineError)):
        door.load([b"this is no archive"] * 100)


def test_pull_without_registry(door: Door) -> None:
    """A registry that does not answer is an ImageError that names the image."""
    with pytest.raises(ImageError, match="localhost:1/none:1"):
        door.pull("localhost:1/none:1", RecordingReporter())


def test_run_once(door: Door, busybox_image: ImageRecord) -> None:
    """Exit code, output and errors come back apart."""
    finished = door.run_once(_sh(busybox_image, "echo out; echo err >&2; exit 3"))
    assert (finished.exit_code, finished.stdout, finished.stderr) == (3, b"out\n", b"err\n")


def test_run_once_sees_what_it_is_given(door: Door, busybox_image: ImageRecord, tmp_path: Path) -> None:
    """Mounts, user, environment and directory are as asked for, and there is no network."""
    (tmp_path / "in").write_text("content")
    tmp_path.chmod(0o755)
    shot = OneShot(
        busybox_image.id,
        ("/bin/sh", "-c", "cat in; echo; id -u; echo $GREETING; ls /sys/class/net; ! touch in"),
        binds=(Bind(str(tmp_path), "/data"),),
        env={"GREETING": "good day"},
        user="1234:1234",
        working_dir="/data",
    )
    finished = door.run_once(shot)
    assert finished.stdout.split(b"\n")[:4] == [b"content", b"1234", b"good day", b"lo"]
    assert finished.exit_code == 0


def test_run_once_leaves_nothing(door: Door, busybox_image: ImageRecord, tmp_path: Path) -> None:
    """The container is gone afterwards, also when it had to be given up."""
    # Other helpers may run on this engine: the mount tells ours.
    shot = replace(_sh(busybox_image, "true"), binds=(Bind(str(tmp_path), "/ours"),))
    door.run_once(shot)
    with pytest.raises(EngineError, match="too long"):
        door.run_once(replace(shot, command=("/bin/sleep", "3600"), timeout=0.5))
    with pytest.raises(ImageError, match="cannot run /no/such"):
        door.run_once(replace(shot, command=("/no/such",)))
    states = [door.containers.inspect(row.name) for row in door.containers.labelled(HELPER_LABEL)]
    assert not [state for state in states if state is not None and str(tmp_path) in state.mounts.values()]


HANGING = """
import sys
from dispatch._docker import Door, engine_address
from dispatch._docker.helper import OneShot
Door(engine_address(dict(item.split("=", 1) for item in sys.argv[2:]))).run_once(
    OneShot(sys.argv[1], ("/bin/sleep", "3600"))
)
"""


def test_a_killed_process_leaves_its_helper_to_the_next(door: Door, busybox_image: ImageRecord) -> None:
    """Who next makes a helper removes those whose process is gone, and no other."""
    variables = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("DOCKER_")]
    command = [sys.executable, "-c", HANGING, busybox_image.id, *variables]

    def helper_of(process: subprocess.Popen[bytes]) -> list[str]:
        rows = door.containers.labelled(HELPER_LABEL)
        return [row.name for row in rows if f"/{process.pid}/" in row.labels[HELPER_LABEL]]

    lost, kept = subprocess.Popen(command), subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 60
        while not (helper_of(lost) and helper_of(kept)):
            assert time.monotonic() < deadline, "no helper was made"
            time.sleep(0.05)
        lost.kill()
        lost.wait()
        door.run_once(_sh(busybox_image, "true"))
        assert helper_of(lost) == [] and len(helper_of(kept)) == 1
    finally:
        for process in (lost, kept):
            process.kill()
            process.wait()
    door.run_once(_sh(busybox_image, "true"))
    assert helper_of(kept) == []


def test_run_once_without_image(door: Door) -> None:
    """An absent image is an ImageError."""
    with pytest.raises(ImageError, match="dispatch-test-absent:1"):
        door.run_once(OneShot("dispatch-test-absent:1", ("true",)))


def test_large_output(door: Door, busybox_image: ImageRecord) -> None:
    """A long line and much output come back whole."""
    finished = door.run_once(_sh(busybox_image, "yes 0123456789 | head -c 1000000 | tr -d '\\n'"))
    assert len(finished.stdout) == len((b"0123456789\n" * 100000)[:1000000].replace(b"\n", b""))


def test_names_of_containers_are_checked(door: Door) -> None:
    """A container's name from a record on disk cannot lead to another call of the engine."""
    with pytest.raises(EngineError, match="not the name of a container"):
        door.containers.inspect("x/../../images")
