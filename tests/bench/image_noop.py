"""Twenty images of which nothing changed: one command of ours, beside repo2docker finding twenty of its own.

repo2docker builds on a base image from a registry; it is only asked to find images that bear the names it was
given, which is the least it can do. It takes one repository at a time, and so is started for each.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import environments
from harness import DISPATCH, ENVIRON, RUNS, Row, milliseconds, paired, seconds, spent, times

IMAGES = 20
_NAME = "dispatch-bench-r2d"


def _repository(root: Path) -> Path:
    """A configuration of twenty images, each with requirements and a lock of its own."""
    (root / "in").mkdir(parents=True)
    images = {}
    for number in range(IMAGES):
        requirements = f"in/{number:02}.in"
        (root / requirements).write_text("six\n")
        env = {"NUMBER": str(number)}
        images[f"bench-{number:02}"] = {"pip": requirements, "base": "debian-python", "env": env}
    steps = {name: {"type": "shell", "step_image": name, "command": "true"} for name in images}
    (root / "experiment.yml").write_text(json.dumps({"images": images, "steps": steps}))
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    seconds([DISPATCH, "lock", "experiment.yml"], cwd=root)
    return root


def _docker(*words: str) -> None:
    subprocess.run(["docker", *words], check=True, capture_output=True)


def rows() -> list[Row]:
    """Measure both in turn."""
    tool = environments.repo2docker()
    with tempfile.TemporaryDirectory() as place:
        root = _repository(Path(place) / "r")
        env = {**ENVIRON, "XDG_CACHE_HOME": f"{place}/cache"}
        build = [DISPATCH, "build", "experiment.yml"]
        printed = subprocess.run(build, cwd=root, env=env, check=True, capture_output=True, text=True).stdout
        references = [line.split("\t")[1] for line in printed.splitlines()]
        for number in range(IMAGES):
            _docker("tag", references[0], f"{_NAME}-{number}:latest")
        empty = Path(place) / "empty"
        empty.mkdir()
        find = [str(tool), "--no-run", "--user-id", "1000", "--user-name", "bench", "--image-name"]

        def theirs() -> float:
            began = time.perf_counter()
            for number in range(IMAGES):
                seconds([*find, f"{_NAME}-{number}", str(empty)], env=env)
            return time.perf_counter() - began

        def ours() -> float:
            return seconds(build, cwd=root, env=env)

        try:
            own, other = paired(ours, theirs, min(RUNS, 3))
            peak = spent(build, cwd=root, env=env).peak
            alone = statistics.median(ours() for _ in range(RUNS))
        finally:
            _docker("image", "rm", *references, *(f"{_NAME}-{number}" for number in range(IMAGES)))
    return [
        Row(f"{IMAGES} images, nothing changed", milliseconds(alone), "≤ 300 ms"),
        Row("the same, memory at most", f"{peak / 2**20:.0f} MiB"),
        Row(f"repo2docker {environments.REPO2DOCKER}, {IMAGES} times", f"{other:.1f} s"),
        Row("ours to repo2docker's", times(own, other), "≤ 0.1 ×"),
    ]
