"""An environment of conda and pip whose pip part changes: what is made again, and how long that takes.

The channel and its Python are made on the spot, since no public channel need be in reach; the wheels come
from a package index on the loopback.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import wheelhouse
from harness import DISPATCH, ENVIRON, RUNS, Row, seconds

from dispatch.testing.condapackages import true_channel

_ENVIRONMENT = """\
channels: [../channel]
dependencies:
  - python 3.11.*
  - greet
  - pip: [{pins}]
"""


def rows() -> list[Row]:
    """Build it, then change its pip part again and again."""
    wheels = wheelhouse.fetched(wheelhouse.PINS, ("pip==25.2",))
    with tempfile.TemporaryDirectory() as place, wheelhouse.served(wheels, Path(place) / "index") as index:
        root = Path(place)
        true_channel(root / "channel")
        project = root / "project"
        project.mkdir()
        subprocess.run(["git", "init", "-q"], cwd=project, check=True)
        image = {"conda": "environment.yml", "base": "debian-python"}
        steps = {"one": {"type": "shell", "command": "true"}}
        document = {"image": "bench-parts", "images": {"bench-parts": image}, "steps": steps}
        (project / "experiment.yml").write_text(json.dumps(document))
        env = {
            **{name: value for name, value in ENVIRON.items() if not name.startswith(("PIP_", "UV_"))},
            "XDG_CACHE_HOME": str(root / "cache"),
            "PIP_INDEX_URL": index,
            "PIP_CONFIG_FILE": os.devnull,
        }
        pins = list(wheelhouse.PINS)
        found = [_built(project, env, pins[: number + 4]) for number in range(RUNS + 1)]
        _remove("dispatch:bench-parts*")
    first, *others = found
    again = sum("bench-parts+conda: building" in each.said for each in others)
    return [
        Row("conda and pip, built for the first time", f"{first.seconds:.1f} s"),
        Row("the same, its pip part changed", f"{statistics.median(each.seconds for each in others):.1f} s"),
        Row("of that, conda layers made again", str(again), "0"),
    ]


def _remove(pattern: str) -> None:
    """Remove images by their name, those in between included."""
    listed = [
        "docker",
        "image",
        "ls",
        "--format",
        "{{.Repository}}:{{.Tag}}",
        "--filter",
        f"reference={pattern}",
    ]
    names = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split()
    subprocess.run(["docker", "image", "rm", "--force", *names], check=True, capture_output=True)


@dataclass(frozen=True)
class _Built:
    """A build: its seconds, the reference of its image, and what it said."""

    seconds: float
    reference: str
    said: str


def _built(project: Path, env: Mapping[str, str], pins: list[str]) -> _Built:
    """Lock the environment with these packages of pip, and build it."""
    (project / "environment.yml").write_text(_ENVIRONMENT.format(pins=", ".join(pins)))
    seconds([DISPATCH, "lock", "experiment.yml"], cwd=project, env=env)
    began = time.perf_counter()
    done = subprocess.run(
        [DISPATCH, "build", "experiment.yml"],
        cwd=project,
        env=dict(env),
        check=True,
        capture_output=True,
        text=True,
    )
    return _Built(time.perf_counter() - began, done.stdout.split("\t")[1].strip(), done.stderr)
