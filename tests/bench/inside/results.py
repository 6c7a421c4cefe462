"""Prints how long a workspace takes to store and to load 200 MiB, beside plain copies with SHA-256.

All is done in turn, in one process, on one file system. What is read is in the page cache; before anything is
written, the system's earlier writes have gone to the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
from meter import forget_peak, peak

from dispatch import Step
from dispatch.workspace.local import LocalWorkspace

SIZE = 200 * 2**20
BLOCK = 2**20


@Step.register("gives")
class Gives(Step):
    """Stands for a step that gives the value."""

    def run(self, n: int) -> Any:
        """Is not called: the value is made once."""


def values() -> dict[str, Callable[[], Any]]:
    """What is stored."""
    return {
        "bytes": lambda: os.urandom(SIZE),
        "array": lambda: numpy.frombuffer(os.urandom(SIZE), dtype="float32").reshape(-1, 1024),
    }


def copy(source: Path, target: Path, *, durable: bool = False) -> float:
    """Read, hash and write block by block."""
    os.sync()
    began = time.perf_counter()
    sha = hashlib.sha256()
    into = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    with source.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            sha.update(block)
            os.write(into, block)
    if durable:
        os.fsync(into)
    os.close(into)
    sha.hexdigest()
    return time.perf_counter() - began


def whole(source: Path, kind: str) -> float:
    """Read the file into memory, in the way that the value's kind has for it, and hash what was read."""
    os.sync()
    began = time.perf_counter()
    with source.open("rb") as file:
        data = file.read() if kind == "bytes" else numpy.fromfile(file, dtype="float32")
    hashlib.sha256(data).hexdigest()
    return time.perf_counter() - began


def store(workspace: LocalWorkspace, step: Step, value: Any) -> dict[str, float]:
    """Store a value as a step's result, durably."""
    os.sync()
    resident = forget_peak()
    began = time.perf_counter()
    workspace.step_starting(step)
    workspace.step_finished(step, value)
    return {"seconds": time.perf_counter() - began, "memory": (peak() - resident) / SIZE}


def load(workspace: LocalWorkspace, step: Step, value: Any) -> dict[str, float]:
    """Load it, every byte verified."""
    os.sync()
    resident = forget_peak()
    began = time.perf_counter()
    found = workspace.step_cache[step]
    taken = {"seconds": time.perf_counter() - began, "memory": (peak() - resident) / SIZE}
    assert type(found) is type(value)
    assert len(found) == len(value)
    return taken


def main(kind: str, place: Path, runs: int) -> None:
    """Print medians, the first round not counted."""
    value = values()[kind]()
    source, target = place / "source", place / "target"
    source.write_bytes(value)
    workspace = LocalWorkspace(place / "workspace")
    rounds = []
    for n in range(runs + 1):
        step = Gives(step_name="gives", n=n)
        found = {"copy_durable": copy(source, target, durable=True)}
        found.update({f"store_{key}": figure for key, figure in store(workspace, step, value).items()})
        target.unlink()
        found["whole"] = whole(source, kind)
        found["copy"] = copy(source, target)
        found.update({f"load_{key}": figure for key, figure in load(workspace, step, value).items()})
        target.unlink()
        files = sorted(path.name for path in Path(str(workspace.locate(step.unique_id).path)).iterdir())
        del workspace.step_cache[step]
        found["store_ratio"] = found["store_seconds"] / found["copy_durable"]
        found["load_ratio"] = found["load_seconds"] / found["copy"]
        found["whole_ratio"] = found["load_seconds"] / found["whole"]
        rounds.append(found)
    medians = {key: statistics.median(each[key] for each in rounds[1:]) for key in rounds[0]}
    print(json.dumps({**medians, "files": files}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
