"""A server with two slots, no-op jobs one by one, and then many at once; prints one object."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from beaker import BeakerExperimentSpec, BeakerTaskSpec

from dispatch._docker import Door
from dispatch._docker.address import Address
from dispatch._docker.containers import Containers, ContainerSpec
from dispatch.testing.beaker import ENGINE, BeakerProcess, Beakers
from dispatch.testing.busybox import REFERENCE, busybox_archive

BUSYBOX = Path("/bin/busybox")
RUNS = 10
CONFIG = """
clusters:
  - name: ai2/two
    nodes: [{hostname: two, slots: 2}]
"""


def floor(containers: Containers) -> float:
    """The engine's part: the calls that no job can do without."""
    began = time.perf_counter()
    made = containers.create(ContainerSpec(REFERENCE, ("true",), network="bridge"))
    containers.start(made)
    containers.wait(made)
    containers.remove(made)
    return time.perf_counter() - began


def spec(tasks: int) -> Any:
    """An experiment of no-op tasks."""
    made = [
        BeakerTaskSpec.new(
            f"t{number}", cluster="ai2/two", docker_image=REFERENCE, result_path="/results", command=["true"]
        )
        for number in range(tasks)
    ]
    return BeakerExperimentSpec(tasks=made)


def jobs_of(server: BeakerProcess) -> Any:
    """Its database, to look at without asking the server."""
    import sqlite3

    return sqlite3.connect(f"file:{server.layout.database}?mode=ro", uri=True, isolation_level=None)


def one(client: Any, tables: Any) -> tuple[float, float]:
    """A job by itself: seconds to its end, and to its start."""
    began, wall = time.perf_counter(), time.time_ns()
    workload = client.experiment.create(spec=spec(1))
    query = "SELECT finalized, started FROM jobs WHERE experiment_id = ?"
    while (row := tables.execute(query, (workload.experiment.id,)).fetchone())[0] is None:
        time.sleep(0.002)
    return time.perf_counter() - began, (row[1] - wall) / 1e9


def idle(rows: list[tuple[int, int]]) -> float:
    """The longest that one of two slots was empty while jobs waited, from (scheduled, finalized)."""
    ends = sorted(end for _, end in rows)
    begins = sorted(begin for begin, _ in rows)[2:]
    return max((begin - end for begin, end in zip(begins, ends, strict=False)), default=0) / 1e9


def peak(pid: int) -> int:
    """The most memory that a process had, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def main(root: Path, queued: int) -> None:
    """Measure."""
    door = Door(Address(ENGINE))
    listed = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True)
    door.load([busybox_archive(BUSYBOX.read_bytes(), listed.stdout.split())])
    beakers = Beakers(root)
    beakers.prepare()
    config = root / "beaker.yml"
    config.write_text(CONFIG)
    server = beakers.spawn(config, "state")
    try:
        with server.client() as client:
            tables = jobs_of(server)
            floor(door.containers), one(client, tables)
            pairs = [(floor(door.containers), one(client, tables)) for _ in range(RUNS)]
            began = time.perf_counter()
            workload = client.experiment.create(spec=spec(queued)).experiment.id
            left = "SELECT count(*) FROM jobs WHERE experiment_id = ? AND finalized IS NULL"
            while tables.execute(left, (workload,)).fetchone()[0]:
                time.sleep(0.05)
            took = time.perf_counter() - began
            rows = tables.execute(
                "SELECT scheduled, finalized FROM jobs WHERE experiment_id = ?", (workload,)
            ).fetchall()
            told = {
                "floor": statistics.median(pair[0] for pair in pairs),
                "job": statistics.median(pair[1][0] for pair in pairs),
                "started": statistics.median(pair[1][1] for pair in pairs),
                "queue": took,
                "idle": idle(rows),
                "peak": peak(server.process.pid),
            }
            sys.stdout.write(json.dumps(told) + "\n")
    finally:
        beakers.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
