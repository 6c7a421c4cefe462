"""What a step in a container costs over `docker run` of the same image, options and a Python one-liner.

A slope over 20 steps: the time of 21 steps less the time of one, so that start-up and planning cancel out.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

from harness import DISPATCH, RUNS, Row, milliseconds, seconds

STEPS = 20
CODE = 'from dispatch import step\n\n\n@step("one")\ndef one(n: int) -> int:\n    return n\n'


def _repository(root: Path, first: int, count: int) -> Path:
    """A repository of ``count`` trivial steps that no other call has had."""
    root.mkdir()
    (root / "trivial.py").write_text(CODE)
    (root / "dispatch.yml").write_text(
        "include_package: [trivial]\nexecutor: {type: docker, parallelism: 1}\n"
    )
    steps = {f"s{n}": {"type": "one", "n": n} for n in range(first, first + count)}
    (root / "experiment.yml").write_text(json.dumps({"image": "debian-python", "steps": steps}))
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=b", "-c", "user.email=b@b", "commit", "-qm", "b"],
    ):
        subprocess.run(["git", *command], cwd=root, check=True)
    return root


def _ours(scratch: Path, first: int, count: int) -> float:
    repository = _repository(scratch / f"r{first}-{count}", first, count)
    try:
        return seconds([DISPATCH, "run", "experiment.yml"], cwd=repository)
    finally:
        shutil.rmtree(repository)


def _image() -> str:
    with tempfile.TemporaryDirectory() as scratch:
        repository = _repository(Path(scratch) / "r", 0, 1)
        built = subprocess.run(
            [DISPATCH, "build", "experiment.yml"],
            cwd=repository,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        seconds([DISPATCH, "run", "experiment.yml"], cwd=repository)
    return built.stdout.split("\t")[1].strip()


def _docker(image: str, scratch: Path, count: int) -> float:
    places = {}
    for name in ("runtime", "job", "output", "work", "scratch", "src"):
        (scratch / name).mkdir(exist_ok=True)
        places[name] = scratch / name
    mounts = [f"--mount=type=bind,source={path},target=/dispatch/{name}" for name, path in places.items()]
    options = ["--rm", "--init", "--user=0:0", "--network=bridge", "--label=dispatch.bench=1", *mounts]
    command = ["docker", "run", *options, image, "python3", "-c", "pass"]
    return sum(seconds(command) for _ in range(count))


def rows() -> list[Row]:
    """Interleave both, take medians of the slopes, and their ratio."""
    image = _image()
    ours, docker = [], []
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        for n in range(RUNS):
            base = 1000 * (n + 1)
            one = _ours(scratch, base, 1)
            ours.append((_ours(scratch, base + 100, STEPS + 1) - one) / STEPS)
            docker.append(_docker(image, scratch, STEPS) / STEPS)
    step, run = statistics.median(ours), statistics.median(docker)
    return [
        Row("trivial Python step, slope over 20", milliseconds(step)),
        Row("`docker run` of the same", milliseconds(run)),
        Row("ratio", f"{step / run:.2f} ×", "≤ 1.15 ×"),
    ]
