"""A program that runs jobs with its state on a small disk of its own, in a mount namespace.

``small_disk.py DIRECTORY``; prints for each job its row, events, number of log lines and files as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from dispatch._docker import Door
from dispatch._docker.address import Address
from dispatch.beakerd.config import Config
from dispatch.beakerd.runner import Runner
from dispatch.testing.beaker import ENGINE
from dispatch.testing.beaker_runner import bare_backend
from dispatch.testing.beaker_runs import HeldImages, Jobs, task

# The last one shows that there is room again.
SHELLS = {
    "result": "head -c 20000000 /dev/zero > /results/big; echo said",
    "log": "seq 1 600000; echo x > /results/x",
    "small": "echo said; echo x > /results/x",
}


def main(directory: Path) -> None:
    """Run them one after another."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(directory)], check=True)
    door = Door(Address(ENGINE))
    backend = replace(bare_backend(directory / "state", Config()), door=door)
    jobs, runner = Jobs(backend), Runner(backend, HeldImages(door))
    found = {}
    for name, shell in SHELLS.items():
        job = jobs.ready(task(shell))
        runner.start(job)
        row = jobs.end(job, 120.0)
        found[name] = {
            "row": dict(row),
            "events": jobs.events(job),
            "lines": len(jobs.log(job)),
            "files": list(jobs.result(job)),
        }
        # The next one is to find room.
        backend.layout.job_log(job).unlink()
    runner.close()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
