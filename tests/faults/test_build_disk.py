"""Disks that get full while an image is built: the client's and the engine's. Nothing half is named."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch.testing.dockerd import own_engine
from dispatch.testing.index import serving, wheel
from dispatch.testing.project import Project

pytestmark = [pytest.mark.engine, pytest.mark.archive]

PACKAGE = "dispatch-test-large"
BASE = "steps: {nothing: {type: shell, step_image: debian-python, command: 'true'}}"
IMAGE = {"pip": "requirements.in", "base": "debian-python", "bytecode": False}
CONFIG = {"images": {"e": IMAGE}, "steps": {"a": {"type": "shell", "step_image": "e", "command": "true"}}}
# Two builds in one mount namespace, of which only the second has room.
SMALL_CACHE = """
mount -t tmpfs -o size=2m none "$1" || exit 9
dispatch build x.json; echo "code $?"
docker image inspect "$2" >/dev/null 2>&1 && echo named
ls "$1/dispatch/staging"
mount -o remount,size=300m none "$1" && dispatch build x.json; echo "code $?"
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project with an image of four megabytes on a base that is there."""
    (tmp_path / "project").mkdir()
    (tmp_path / "cache").mkdir()
    first = Project(tmp_path / "project").write({"base.yml": BASE})
    first.dispatch("build", "--renew-base", "base.yml").well()
    with serving(tmp_path / "index") as index:
        text = f"DATA = '{'x' * (4 << 20)}'\n"
        index.serve(PACKAGE, f"{PACKAGE.replace('-', '_')}-1.0-py3-none-any.whl", wheel(PACKAGE, text))
        env = {"UV_CACHE_DIR": str(tmp_path / "uv"), "PIP_INDEX_URL": index.address, "UV_INDEX_URL": ""}
        made = Project(tmp_path / "project", env).write({"x.json": json.dumps(CONFIG)})
        made.write({"requirements.in": PACKAGE}).dispatch("lock", "x.json").well()
        yield made


def test_the_cache_gets_full(project: Project, tmp_path: Path) -> None:
    """It is said which disk and what to remove; the engine has no name for it; with room, all is right."""
    reference = project.dispatch("build", "--dry-run", "x.json").well().out.split()[1]
    cache = tmp_path / "cache"
    env = {"XDG_CACHE_HOME": str(cache)}
    words = ("unshare", "--mount", "sh", "-c", SMALL_CACHE, "sh", cache, reference)
    done = project.call(*words, env=env)
    try:
        assert done.out.splitlines() == ["code 3", f"e\t{reference}", "code 0"], done.err
        (error,) = done.errors()
        assert "no room is left on the disk" in error and str(cache) in error
    finally:
        project.call("docker", "image", "rm", reference)


def test_the_engine_gets_full(project: Project, tmp_path: Path) -> None:
    """The engine's words become ours; what it had taken in by then is gone; with room, all is right."""
    data = tmp_path / "engine" / "data"
    data.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "none", str(data)], check=True)
    try:
        with own_engine(tmp_path / "engine") as engine:
            env = {"DOCKER_HOST": engine.address}
            done = project.dispatch("build", "base.yml", env=env)
            assert done.code == 3 and "the engine has no room left on its disk" in done.errors()[0]
            assert project.call("docker", "images", "--all", "--quiet", env=env).well().out == ""
            subprocess.run(["mount", "-o", "remount,size=400m", "none", str(data)], check=True)
            reference = project.dispatch("build", "base.yml", env=env).well().out.split()[1]
            assert engine.door.inspect_image(reference) is not None
    finally:
        # The engine's own end takes it away, where it came to that.
        subprocess.run(["umount", "--lazy", str(data)], check=False, stderr=subprocess.DEVNULL)
