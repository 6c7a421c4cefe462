"""Whole runs: what the loop costs a step, containers side by side, taking over what runs, and stopping it.

Containers are held against ``xargs -P 4 docker run`` of the same image, command and options.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness import DISPATCH, ENVIRON, RUNS, Row, answer, median, milliseconds, paired, seconds

from dispatch._docker import Door, engine_address
from dispatch.testing.busybox import REFERENCE, busybox_archive

SIDE_BY_SIDE = 50
LEFT = 20
LIMIT = 120.0
BUSYBOX = Path("/bin/busybox")


def _dispatching() -> list[Row]:
    found = []
    for shape in ("fan", "chain"):
        for count in (1_000, 10_000):
            took = median(lambda s=shape, c=count: answer(sys.executable, "dispatching", s, c)["seconds"], 3)
            found.append(
                Row(
                    f"the loop, {shape} of {count:,} simulated steps, a step",
                    milliseconds(took / count),
                    "≤ 2 ms" if count == 10_000 else "",
                )
            )
    return found


def _project(root: Path, count: int, command: str) -> Path:
    """A repository of ``count`` steps that no other has."""
    root.mkdir()
    shell = {"type": "shell", "step_image": {"docker": REFERENCE}, "step_network": "none"}
    steps = {f"s{n}": {**shell, "command": f"{command} # {root.name}-{n}"} for n in range(count)}
    (root / "x.json").write_text(json.dumps({"steps": steps}))
    (root / "dispatch.yml").write_text("executor: {type: docker}\n")
    for words in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=b", "-c", "user.email=b@b", "commit", "-qm", "b"],
    ):
        subprocess.run(["git", *words], cwd=root, check=True)
    return root


def _side_by_side(scratch: Path, number: list[int]) -> tuple[Callable[[], float], Callable[[], float]]:
    def ours() -> float:
        number[0] += 1
        root = _project(scratch / f"p{number[0]}", SIDE_BY_SIDE, "true")
        return seconds([DISPATCH, "run", "x.json", "-j", "4"], cwd=root)

    def theirs() -> float:
        places = []
        for name in ("job", "output", "work", "scratch", "src"):
            (scratch / "mounts" / name).mkdir(parents=True, exist_ok=True)
            places.append(f"--mount=type=bind,source={scratch}/mounts/{name},target=/dispatch/{name}")
        words = ["docker", "run", "--rm", "--init", "--user=0:0", "--network=none", *places]
        line = " ".join([*words, REFERENCE, "true"])
        return seconds(["sh", "-c", f"seq {SIDE_BY_SIDE} | xargs -P 4 -I N {line}"], cwd=scratch, env=ENVIRON)

    return ours, theirs


def _until(fact: Callable[[], bool]) -> float:
    given_up = time.perf_counter() + LIMIT
    while not fact():
        if time.perf_counter() > given_up:
            raise SystemExit("it did not come to that")
        time.sleep(0.01)
    return time.perf_counter()


def _states(door: Door, root: Path) -> list[str]:
    rows = door.containers.labelled("dispatch.run")
    mine = [row for row in rows if row.labels.get("dispatch.directory", "").startswith(f"{root}/")]
    found = [door.containers.inspect(row.name) for row in mine]
    return [state.status for state in found if state is not None]


def _start(root: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [DISPATCH, "run", "x.json", "-j", "-1"],
        cwd=root,
        env=ENVIRON,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _taken_over(scratch: Path, door: Door, run: int) -> tuple[float, float]:
    """Seconds from a second client's start until it has taken over all, and from Ctrl-C until none runs."""
    root = _project(scratch / f"r{run}", LEFT, "trap 'exit 143' TERM; sleep 600 & wait")
    client = _start(root)
    _until(lambda: _states(door, root).count("running") == LEFT)
    # Of what has run for a while it is said that it was taken over.
    time.sleep(2)
    client.kill()
    client.communicate()
    began = time.perf_counter()
    again = _start(root)
    assert again.stderr is not None
    heard = 0
    while heard < LEFT:
        line = again.stderr.readline()
        if not line:
            raise SystemExit("the second client ended")
        heard += b": taken over" in line
    attached = time.perf_counter() - began
    began = time.perf_counter()
    os.kill(again.pid, signal.SIGINT)
    stopped = _until(lambda: "running" not in _states(door, root)) - began
    again.communicate()
    if _states(door, root):
        raise SystemExit("containers are left")
    return attached, stopped


def rows() -> list[Row]:
    """All of it."""
    found = _dispatching()
    door = Door(engine_address(os.environ))
    listed = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True)
    door.load([busybox_archive(BUSYBOX.read_bytes(), listed.stdout.split())])
    with tempfile.TemporaryDirectory() as place:
        scratch, number = Path(place), [0]
        ours, theirs = paired(*_side_by_side(scratch, number))
        pairs = [_taken_over(scratch, door, run) for run in range(RUNS)]
    attached = statistics.median(pair[0] for pair in pairs)
    stopped = statistics.median(pair[1] for pair in pairs)
    return [
        *found,
        Row(f"{SIDE_BY_SIDE} trivial container steps, -j 4, whole command", f"{ours:.2f} s"),
        Row("`xargs -P 4 docker run` of the same", f"{theirs:.2f} s"),
        Row("ratio", f"{ours / theirs:.2f} ×", "≤ 1.15 ×"),
        Row(
            f"{LEFT} running containers taken over by a new client, from its start",
            f"{attached:.2f} s",
            "≤ 2 s",
        ),
        Row(f"Ctrl-C until none of {LEFT} containers runs", f"{stopped:.2f} s", "≤ 1 s and their own grace"),
    ]
