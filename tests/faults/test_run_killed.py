"""`dispatch run` itself, killed with -9 at random moments: the same command goes on, and nothing is wrong."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from dispatch.testing.project import Project

MOMENTS = max(10, int(300 * float(os.environ.get("DISPATCH_STRESS", "1.0"))))
LONGEST = 1.5
MODULE = """\
import os
import time

from dispatch import step


@step("grow")
def grow(seed: int, parts: list) -> list:
    with open(f"calls-{seed}", "a") as calls:
        calls.write(f"{os.environ['DISPATCH_STEP_NAME']}\\n")
    time.sleep(0.02)
    return [seed, *parts]
"""
STEPS = {
    "a": [],
    "b": [],
    "c": ["a", "b"],
    "d": ["c"],
    "e": ["c"],
    "f": ["d", "e"],
}


def config(seed: int) -> str:
    """The same graph with other identities for each seed."""
    steps = {
        name: {"type": "grow", "seed": seed, "parts": [{"ref": need} for need in needs]}
        for name, needs in STEPS.items()
    }
    return json.dumps({"steps": steps})


def value(seed: int, name: str) -> list[object]:
    """What a step must give."""
    return [seed, *(value(seed, need) for need in STEPS[name])]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project outside of any repository."""
    (tmp_path / "project").mkdir()
    files = {"dispatch.yml": "include_package: [mine]\n", "mine.py": MODULE}
    return Project(tmp_path / "project").write(files)


def left_over(root: Path) -> list[str]:
    """Processes that still work in the project."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.joinpath("cwd").readlink() == root and process.name != str(os.getpid()):
                found.append(process.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def test_a_run_killed_at_any_moment_goes_on(project: Project) -> None:
    """After each kill a plain re-run ends well, every result is right, and none was computed again."""
    chance = random.Random(20)
    for seed in range(MOMENTS):
        project.write({"x.json": config(seed)})
        started = project.start("dispatch", "run", "x.json", "-j", "2")
        time.sleep(chance.uniform(0.0, LONGEST))
        started.signal(signal.SIGKILL, group=False)
        started.end()
        committed = {path.name for path in (project.workspace / "cache").glob("grow-*")}
        done = project.dispatch("run", "x.json", "--json").well().json()
        assert done["state"] == "completed"
        again = {step["id"] for step in done["steps"] if step["verdict"] == "completed"}
        assert not again & committed, f"seed {seed}: computed again although there was a result"
        for step in done["steps"]:
            assert json.loads((Path(step["result"]) / "data.json").read_text()) == value(seed, step["name"])
        calls = (project.root / f"calls-{seed}").read_text().split()
        assert len(calls) <= len(STEPS) + 2, (
            f"seed {seed}: only what was at work may have begun twice: {calls}"
        )
    until = time.monotonic() + 20
    while left_over(project.root):
        assert time.monotonic() < until, left_over(project.root)
        time.sleep(0.1)
    project.dispatch("check").well()
    assert {path.name for path in project.root.iterdir()} - {f"calls-{n}" for n in range(MOMENTS)} <= {
        "dispatch.yml",
        "mine.py",
        "x.json",
        "workspace",
        "__pycache__",
    }
