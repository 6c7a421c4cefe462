"""Pipelines on an engine that does not see the user's files, over TCP and over ssh, as a user runs them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dispatch._docker import Address, Door, ImageRecord
from dispatch.testing.far import LURE, FarEngine, Relay, far_engine
from dispatch.testing.processes import until
from dispatch.testing.project import COMMAND, Done, Project

pytestmark = pytest.mark.engine

MIB = 2**20
SIZE = 200 * MIB
BUSYBOX = """
image: busybox
images: {busybox: {docker: "dispatch-test-busybox:1"}}
"""
SETTINGS = "{workspace: ./workspace, executor: {type: docker, parallelism: 3}, include_package: [sums]}"
STEPS = '''
from pathlib import Path
from dispatch import step

@step("sizes")
def sizes(words: Path, big: Path) -> dict:
    """What there is of both, and who may write there."""
    import os
    content = (big / "zeros").read_bytes()
    closed = not os.access(big, os.W_OK) or os.statvfs(big).f_flag & os.ST_RDONLY
    return {"words": (words / "words").read_text().split(), "big": len(content), "closed": bool(closed)}

@step("double")
def double(sizes: dict) -> int:
    return sizes["big"] * 2
'''
PIPELINE = (
    BUSYBOX
    + """
steps:
  words:
    type: shell
    step_network: none
    command: 'echo pear fig > "$DISPATCH_OUTPUT_DIR/words"'
  big:
    type: shell
    step_network: none
    command: 'dd if=/dev/zero of="$DISPATCH_OUTPUT_DIR/zeros" bs=1048576 count=200 2>/dev/null'
  sizes:
    type: sizes
    step_image: debian-python
    step_network: none
    words: {type: ref, ref: words}
    big: {type: ref, ref: big}
  double:
    type: double
    step_image: debian-python
    step_network: none
    sizes: {type: ref, ref: sizes}
  fails:
    type: shell
    step_network: none
    inputs: {words: {type: ref, ref: words}}
    command: 'cat "$DISPATCH_INPUT_WORDS/words"; exit 4'
  behind:
    type: shell
    step_network: none
    inputs: {fails: {type: ref, ref: fails}}
    command: 'true'
"""
)
RESUMES = (
    BUSYBOX
    + """
steps:
  resumes:
    type: shell
    step_network: none
    command: |
      echo x >> /dispatch/work/tries
      [ "$(wc -l < /dispatch/work/tries)" -ge 3 ] || exit 9
      cp /dispatch/work/tries "$DISPATCH_OUTPUT_DIR"
"""
)
SLOW = (
    BUSYBOX
    + """
steps:
  slow:
    type: shell
    step_network: none
    command: 'dd if=/dev/zero of="$DISPATCH_OUTPUT_DIR/zeros" bs=1048576 count=50 2>/dev/null'
"""
)


@pytest.fixture(scope="module")
def far(load_busybox: Callable[[Door], ImageRecord]) -> Iterator[FarEngine]:
    """The engine, with an image without Python."""
    with far_engine(os.environ) as far:
        door = Door(Address(far.url, chosen=True))
        load_busybox(door)
        door.close()
        yield far


@pytest.fixture
def relay(far: FarEngine) -> Iterator[Relay]:
    """The way to it by TCP."""
    relay = Relay(far.socket)
    yield relay
    relay.close()


@pytest.fixture
def project(far: FarEngine, relay: Relay, tmp_path: Path) -> Project:
    """A project and a cache that the engine does not see."""
    root = far.hidden / tmp_path.name
    (root / "project").mkdir(parents=True)
    env = {"DOCKER_HOST": f"tcp://127.0.0.1:{relay.port}", "XDG_CACHE_HOME": str(root / "cache")}
    return Project(root / "project", env).write({"dispatch.yml": SETTINGS, "sums.py": STEPS})


def _verdicts(done: Done) -> dict[str, str]:
    return {step["name"]: step["verdict"] for step in done.json()["steps"]}


def _containers(far: FarEngine) -> list[str]:
    door = Door(Address(far.url, chosen=True))
    labels = ("dispatch.run", "dispatch.helper")
    return [row.name for label in labels for row in door.containers.labelled(label)]


@pytest.mark.archive
def test_pipeline(project: Project, far: FarEngine, base: str) -> None:
    """Commands and Python steps take each other's results, large ones too; what fails, fails alone."""
    save = subprocess.Popen(["docker", "save", base], stdout=subprocess.PIPE)
    subprocess.run(["docker", "--host", far.url, "load"], stdin=save.stdout, check=True, capture_output=True)
    assert save.wait() == 0
    project.write({"experiment.yml": PIPELINE}).commit()
    # Every way is known before anything runs, but for what the image has yet to say.
    plan = project.dispatch("run", "--dry-run", "-s", "big", "experiment.yml").well()
    assert "inputs: copied in, results: copied back (the engine does not see" in plan.err
    done = project.dispatch("run", "experiment.yml", "-n", "first", "--json")
    assert done.code == 1, done.err
    assert _verdicts(done) == {
        **dict.fromkeys(("words", "big", "sizes", "double"), "completed"),
        "fails": "failed",
        "behind": "skipped",
    }, done.err
    assert project.dispatch("result", "first", "double").well().out.strip() == str(2 * SIZE)
    sizes = project.dispatch("result", "first", "sizes").well().json()
    assert sizes == {"words": ["pear", "fig"], "big": SIZE, "closed": True}
    assert project.dispatch("logs", "first", "fails").well().out.endswith("\npear fig\n")
    project.dispatch("check").well()
    until(lambda: _containers(far) == [], "no container is left")
    again = project.dispatch("run", "experiment.yml", "--json")
    assert set(_verdicts(again).values()) == {"cached", "failed", "skipped"}


def test_work_survives_runs(project: Project) -> None:
    """An attempt that failed left its work where the next run brings it along."""
    project.write({"experiment.yml": RESUMES}).commit()
    assert [project.dispatch("run", "experiment.yml").code for _ in range(3)] == [1, 1, 0]
    assert (project.workspace / "latest" / "resumes" / "result" / "tries").read_text() == "x\nx\nx\n"


def test_client_killed_while_a_result_comes_back(project: Project) -> None:
    """After a kill in the middle of a copy, the same command gives the whole result."""
    project.write({"experiment.yml": SLOW}).commit()
    started = project.start(COMMAND, "run", "experiment.yml", "-n", "once")
    attempts = project.workspace / "attempts"
    until(lambda: list(attempts.glob("*/.back-*/new/result/zeros")) != [], "the copy begins")
    started.signal(signal.SIGKILL, group=True)
    assert started.end().code == -9
    assert not list(project.workspace.glob("cache/*/manifest.json"))
    project.dispatch("run", "experiment.yml", "-n", "once").well()
    result = project.workspace / "latest" / "slow" / "result" / "zeros"
    assert result.stat().st_size == 50 * MIB
    project.dispatch("check").well()


def test_ssh(project: Project, far: FarEngine) -> None:
    """Over ssh the same comes out. The client here is one that runs what it is told on this machine."""
    program = project.root.parent / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nfor last; do :; done\nexec sh -c "$last"\n')
    program.chmod(0o755)
    project.write({"experiment.yml": RESUMES}).commit()
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    env = {"DOCKER_HOST": f"ssh://me@build{far.socket}", "PATH": path}
    done = [project.call(COMMAND, "run", "experiment.yml", env=env) for _ in range(3)]
    assert [each.code for each in done] == [1, 1, 0], done[-1].err
    program.write_text("#!/bin/sh\necho 'Host key verification failed.' >&2; exit 255\n")
    refused = project.call(COMMAND, "run", "--rerun-changed", "experiment.yml", env=env)
    assert (refused.code, refused.out) == (3, "")
    assert "ssh to build ended with 255: Host key verification failed." in refused.err


def test_shared_drive(project: Project, far: FarEngine) -> None:
    """A workspace below a shared directory is mounted; one that the engine does not share is refused."""
    shared = far.hidden / LURE
    settings = f"{{workspace: {shared}/ws, executor: docker, shared_dirs: [{shared}]}}"
    project.write({"experiment.yml": RESUMES, "dispatch.yml": settings}).commit()
    plan = project.dispatch("run", "--dry-run", "experiment.yml").well()
    assert "inputs: mount, results: rename" in plan.err
    refused = project.dispatch("run", "experiment.yml")
    assert refused.code == 1
    assert "shared_dirs" in refused.err + refused.out
