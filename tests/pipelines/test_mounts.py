"""Mounts and the network of steps in containers, as users meet them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from dispatch._docker import ImageRecord
from dispatch.testing.project import Project

pytestmark = pytest.mark.engine

Make = Callable[[Mapping[str, str]], Project]

IMAGE = 'image: busybox\nimages: {busybox: {docker: "dispatch-test-busybox:1"}}\n'
CACHE = (
    IMAGE
    + """\
mounts: [{source: ~/.cache/huggingface, target: /cache/huggingface, read_only: false}]
env: {HF_HOME: /cache/huggingface}
"""
)
# What a library does: download what is not in its cache yet.
DOWNLOAD = """\
steps:
  model:
    type: shell
    step_network: none
    inputs: {run: 0}
    command: |
      : run "$DISPATCH_INPUT_RUN"
      model="$HF_HOME/model.bin" how="$DISPATCH_OUTPUT_DIR/how"
      if [ -e "$model" ]; then echo kept > "$how"; else echo weights > "$model"; echo loaded > "$how"; fi
      cat "$model" >> "$how"
"""


def shell(name: str, command: str, *options: str) -> str:
    """A configuration of one shell step."""
    lines = [f"steps: {{{name}: {{type: shell, command: '{command}'", *options]
    return ", ".join(lines) + "}}\n"


def of(project: Project, run: str, step: str, file: str) -> str:
    """A file of a step's result."""
    place = project.dispatch("result", run, step, "--path").well().out.strip()
    return (Path(place) / file).read_text()


def test_downloads_are_kept_between_runs(tmp_path: Path, make: Make, busybox_image: ImageRecord) -> None:
    """A second run finds in the mounted cache what the first one left, which belongs to the user."""
    assert busybox_image
    cache = tmp_path / "home" / ".cache" / "huggingface"
    project = make({"dispatch.yml": CACHE, "x.yml": DOWNLOAD})
    home = {"HOME": str(tmp_path / "home")}
    refused = project.dispatch("run", "x.yml", env=home)
    assert (refused.code, refused.out) == (2, "")
    assert refused.errors()[0].endswith(f"dispatch.yml: mounts: {cache} is not there")
    assert f"remedy: `mkdir -p {cache}`" in refused.err
    assert not project.workspace.exists()
    cache.mkdir(parents=True)
    project.dispatch("run", "x.yml", "-n", "first", env=home).well()
    kept = cache / "model.bin"
    assert (kept.read_text(), kept.stat().st_uid) == ("weights\n", os.geteuid())
    project.write({"x.yml": DOWNLOAD.replace("run: 0", "run: 1")}).commit()
    project.dispatch("run", "x.yml", "-n", "second", env=home).well()
    assert of(project, "first", "model", "how") == "loaded\nweights\n"
    assert of(project, "second", "model", "how") == "kept\nweights\n"


def test_what_a_mount_holds_is_no_part_of_a_step(make: Make, busybox_image: ImageRecord) -> None:
    """A step whose mount has other content now, or is mounted elsewhere from, is cached all the same."""
    assert busybox_image
    text = shell("a", "cp /data/x $DISPATCH_OUTPUT_DIR", "step_mounts: [{source: data, target: /data}]")
    project = make({"dispatch.yml": IMAGE, "x.yml": text, "data/x": "1\n", "more/x": "3\n"})
    project.dispatch("run", "x.yml", "-n", "first").well()
    project.write({"data/x": "2\n"}).commit()
    for changed in (text, text.replace("source: data", "source: ./more")):
        project.write({"x.yml": changed}).commit()
        (step,) = project.dispatch("run", "x.yml", "--json").well().json()["steps"]
        assert step["verdict"] == "cached"
    assert of(project, "first", "a", "x") == "1\n"


def test_a_mount_is_read_only_unless_it_says_otherwise(make: Make, busybox_image: ImageRecord) -> None:
    """A step cannot write what it was only shown; its own mount takes the place of the settings'."""
    assert busybox_image
    settings = IMAGE + "mounts: [{source: shown, target: /a}, {source: shown, target: /b}]\n"
    text = shell(
        "a",
        "echo new > /b/new; ! echo new > /a/new; cat /a/x /b/x > $DISPATCH_OUTPUT_DIR/seen",
        "step_mounts: [{source: lent, target: /b, read_only: false}]",
    )
    project = make({"dispatch.yml": settings, "x.yml": text, "shown/x": "shown\n", "lent/x": "lent\n"})
    project.dispatch("run", "x.yml", "-n", "first").well()
    assert of(project, "first", "a", "seen") == "shown\nlent\n"
    assert (project.root / "lent" / "new").read_text() == "new\n"
    assert not (project.root / "shown" / "new").exists()


def test_the_workspace_is_not_lent(make: Make, busybox_image: ImageRecord) -> None:
    """A mount through which a step could change results is refused before anything starts."""
    assert busybox_image
    text = shell("a", "true", "step_mounts: [{source: workspace/cache, target: /ws, read_only: false}]")
    project = make({"dispatch.yml": IMAGE, "x.yml": text})
    (project.workspace / "cache").mkdir(parents=True)
    done = project.dispatch("run", "x.yml")
    assert (done.code, len(done.errors())) == (2, 1)
    assert "lies in the workspace" in done.errors()[0]


@pytest.mark.parametrize(
    ("network", "interfaces", "routes"), [("none", "lo\n", 0), ("bridge", "eth0\nlo\n", 1)]
)
def test_the_network_of_a_step(
    make: Make, busybox_image: ImageRecord, network: str, interfaces: str, routes: int
) -> None:
    """`none` leaves a step alone with itself, `bridge` gives it a way out."""
    assert busybox_image
    look = (
        "cd $DISPATCH_OUTPUT_DIR; ls /sys/class/net > interfaces; "
        "grep -c 00000000.[0-9A-F]*.0003 /proc/net/route > routes || true"
    )
    project = make({"dispatch.yml": IMAGE, "x.yml": shell("a", look, f"step_network: {network}")})
    project.dispatch("run", "x.yml", "-n", "first").well()
    assert of(project, "first", "a", "interfaces") == interfaces
    assert of(project, "first", "a", "routes") == f"{routes}\n"
