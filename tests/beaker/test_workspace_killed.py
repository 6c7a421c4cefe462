"""Clients of a workspace on Beaker that are killed at random moments: the next one has all results."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_doors import options_of
from dispatch.testing.beaker_workspaces import BeakerWorkspaces
from dispatch.testing.contracts_workspace import record
from dispatch.workspace.beaker.names import SESSION, STEP

KILLS = max(5, int(50 * float(os.environ.get("DISPATCH_STRESS", "1.0"))))
STEPS = [f"s{number}" for number in range(2 * KILLS)]
LIMIT = 120.0


class Clients:
    """Begins clients, one at a time."""

    def __init__(self, beaker: LocalBeaker, root: Path) -> None:
        self._told = {
            "workspace": "ai2/my-workspace",
            "cache": str(root / "cache"),
            "options": options_of(beaker),
            "steps": STEPS,
            "run": "run",
            "log": str(root / "computed.txt"),
        }
        self._nursery = subprocess.Popen(
            [sys.executable, "-m", "dispatch.testing.beaker_worker"],
            env={**os.environ, "GRPC_VERBOSITY": "NONE"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def begin(self) -> int:
        """Begin a client, and return its process id."""
        assert self._nursery.stdin is not None
        self._nursery.stdin.write(json.dumps(self._told) + "\n")
        self._nursery.stdin.flush()
        return self._line()

    def end(self) -> int:
        """Wait for its end, and return its exit code."""
        return self._line()

    def close(self) -> None:
        """Begin no more."""
        self._nursery.communicate()

    def _line(self) -> int:
        assert self._nursery.stdout is not None
        return int(self._nursery.stdout.readline())


def test_killed_at_random_moments(beakers: Beakers, tmp_path: Path) -> None:
    """Each step is computed once, and once more for each client that was killed in the middle of it."""
    clients = Clients(beaker := beakers.start(), tmp_path)
    chance = random.Random(11)
    computed = tmp_path / "computed.txt"
    computed.touch()
    killed = 0
    for _ in range(KILLS):
        before = len(computed.read_text().splitlines())
        pid = clients.begin()
        # To begin takes most of the time: so it is killed while it works.
        limit = time.monotonic() + LIMIT
        while len(computed.read_text().splitlines()) <= before and time.monotonic() < limit:
            time.sleep(0.001)
        time.sleep(chance.random() * 0.06)
        os.kill(pid, signal.SIGKILL)
        killed += clients.end() == -signal.SIGKILL
    assert killed > 2
    clients.begin()
    assert clients.end() == 0
    clients.close()
    lines = computed.read_text().splitlines()
    assert set(lines) == set(STEPS)
    assert len(lines) <= len(STEPS) + killed
    workspace = BeakerWorkspaces(beaker, tmp_path / "other").client("ai2/my-workspace")
    unique_ids = {f"Made-{name}" for name in STEPS}
    assert workspace.completed(unique_ids) == unique_ids
    for name in STEPS:
        assert workspace.step_cache[record(name)] == name
    datasets = workspace.site.door.datasets
    assert datasets.search(STEP, committed=False) == []
    assert datasets.search(SESSION) == []
    workspace.close()
