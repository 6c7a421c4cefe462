"""A repository of 1 GB and 20 000 files: the snapshot of a clean tree, the export, the private copy of a job.

Beside them what `cp -a` takes for the same copy, and an overlay mounted over the export where the caller may
mount one: it would spare the copy.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from harness import RUNS, Row, milliseconds

from dispatch.engine.copying import copy_tree
from dispatch.source import Git, Repository

FILES, SMALL = 20_000, 4_000
BLOBS, LARGE = 40, 24 * 2**20


def rows() -> list[Row]:
    """Make the repository, then look at it as a first and as a second run do."""
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        root = _repository(scratch / "repository")

        def opened() -> Repository:
            return Repository.open(root, Git(os.environ), scratch / "cache")

        ref = opened().snapshot()
        clean = _median(lambda: opened().snapshot())
        (root / "new.txt").write_text("new\n")
        dirty = _median(lambda: opened().snapshot())
        (root / "new.txt").unlink()
        export = _timed(lambda: opened().export(ref))
        again = _median(lambda: opened().export(ref))
        exported = opened().export(ref)
        copies = [(_ours(exported, scratch / "a"), _cp(exported, scratch / "b")) for _ in range(min(RUNS, 3))]
        overlay = _overlay(exported, scratch)
    ours, theirs = (statistics.median(each) for each in zip(*copies, strict=True))
    return [
        Row("source of 1 GB, 20 000 files: snapshot, clean", milliseconds(clean), "≤ 0.5 s"),
        Row("snapshot, one file new", milliseconds(dirty), "≤ 0.5 s"),
        Row("export, first", milliseconds(export)),
        Row("export, again", milliseconds(again), "≤ 20 ms"),
        Row("private copy for a job", milliseconds(ours)),
        Row(
            "`cp -a --reflink=auto` of the same", f"{milliseconds(theirs)}, {ours / theirs:.2f} ×", "≤ 1.2 ×"
        ),
        Row("an overlay over the export instead", overlay),
    ]


def _repository(root: Path) -> Path:
    numbers = random.Random(1)
    for number in range(FILES):
        path = root / f"d{number // 200}" / f"f{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(numbers.randbytes(SMALL))
    for number in range(BLOBS):
        (root / f"blob{number}.bin").write_bytes(numbers.randbytes(LARGE))
    for command in (
        ["init", "-q"],
        ["-c", "core.compression=0", "add", "-A"],
        ["-c", "user.name=b", "-c", "user.email=b@b", "commit", "-qm", "b"],
    ):
        subprocess.run(["git", *command], cwd=root, check=True)
    return root


def _timed(call: Callable[[], object]) -> float:
    began = perf_counter()
    call()
    return perf_counter() - began


def _median(call: Callable[[], object]) -> float:
    return statistics.median(_timed(call) for _ in range(RUNS))


def _ours(exported: Path, target: Path) -> float:
    target.mkdir()
    took = _timed(lambda: copy_tree(str(exported), str(target), None))
    shutil.rmtree(target)
    return took


def _cp(exported: Path, target: Path) -> float:
    target.mkdir()
    command = ["cp", "-a", "--reflink=auto", f"{exported}/.", str(target)]
    took = _timed(lambda: subprocess.run(command, check=True))
    shutil.rmtree(target)
    return took


def _overlay(exported: Path, scratch: Path) -> str:
    places = {name: scratch / f"overlay-{name}" for name in ("upper", "work", "merged")}
    for place in places.values():
        place.mkdir()
    options = f"lowerdir={exported},upperdir={places['upper']},workdir={places['work']}"
    command = ["mount", "-t", "overlay", "overlay", "-o", options, str(places["merged"])]
    began = perf_counter()
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        return "not allowed here"
    took = perf_counter() - began
    subprocess.run(["umount", str(places["merged"])], check=True)
    return milliseconds(took)
