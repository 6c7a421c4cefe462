"""Runs whose server is killed and comes back, whose token is revoked, and whose jobs are preempted."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from dispatch._beaker import BeakerDoor
from dispatch.testing.beaker import BeakerProcess, Beakers
from dispatch.testing.beaker_doors import door_of
from dispatch.testing.beaker_faults import Faults
from dispatch.testing.beaker_graph import (
    Graph,
    OnBeaker,
    layers,
    left,
    project_on_beaker,
    server_config,
    verdicts,
)
from dispatch.testing.processes import until

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("busybox_image")]

STRESS = float(os.environ.get("DISPATCH_STRESS", "1.0"))
PREEMPTIONS = max(2, int(10 * STRESS))
WIDE = layers(10, 3)
SMALL = layers(3, 2)
ONCE = Counter({"begun": 1, "ended": 1})
# Counts to a hundred, and goes on from where an earlier attempt was when it was ended.
COUNT = """\
cd "$DISPATCH_WORK_DIR"
[ -f at ] || echo 0 > at
at=$(cat at)
echo "from $at" >> /shared/attempts
while [ "$at" -lt 100 ]; do
  at=$((at + 1)); echo "$at" > at.new && mv at.new at; echo "$at" >> /shared/steps; sleep 0.1
done
echo "$at" > "$DISPATCH_OUTPUT_DIR"/value
"""


class Rig:
    """A server, and a project whose steps are jobs there."""

    def __init__(self, beakers: Beakers, root: Path) -> None:
        self._beakers = beakers
        self._config = root / "server.yml"
        shared = root / "shared"
        shared.mkdir()
        self._config.write_text(server_config(shared))
        self.server: BeakerProcess = beakers.spawn(self._config)
        self.on: OnBeaker = project_on_beaker(self.server, root / "project", shared)

    def restart(self) -> None:
        """Kill the server, and start it again after a moment."""
        self.server.kill()
        time.sleep(2.0)
        self.server = self._beakers.spawn(self._config)

    def door(self) -> BeakerDoor:
        """A door of our own."""
        return door_of(self.server)

    def until_ended(self, count: int) -> None:
        """Wait until so many steps have come to their end."""
        until(lambda: sum(calls["ended"] for calls in self.on.calls().values()) >= count, f"{count} end")

    def right(self, graph: Graph, run: str) -> None:
        """Results are what they must be, each step ran once, and nothing is left."""
        self.on.check(graph, run)
        assert self.on.calls() == dict.fromkeys(graph.needs, ONCE)
        door = self.door()
        until(lambda: not left(door), f"left on Beaker: {left(door)}")
        door.close()


@pytest.fixture
def rig(beakers: Beakers, tmp_path: Path) -> Rig:
    """The server and the project."""
    return Rig(beakers, tmp_path)


def test_the_server_is_restarted(rig: Rig) -> None:
    """A run of thirty steps takes no harm from a server that is killed in the middle and comes back."""
    started = rig.on.project.start("dispatch", "run", rig.on.config(WIDE, "on"), "-n", "on", "--json")
    rig.until_ended(4)
    rig.restart()
    rig.until_ended(15)
    rig.restart()
    assert verdicts(started.end().well()) == {"completed": len(WIDE.needs)}
    rig.right(WIDE, "on")


def test_the_token_is_revoked(rig: Rig) -> None:
    """A run whose token opens nothing any more says so and ends; with a good one the same command goes on."""
    control = Faults(rig.server)
    config = rig.on.config(SMALL, "revoked", "sleep 1")
    started = rig.on.project.start("dispatch", "run", config, "-n", "revoked")
    until(lambda: "s0_0" in rig.on.calls(), "a step has begun")
    control.revoke("me")
    done = started.end()
    assert done.code == 3, done
    assert "BEAKER_TOKEN" in done.err
    assert "Traceback" not in done.err
    control.give_back("me")
    again = rig.on.project.dispatch("run", config, "-n", "revoked", "--json").well()
    assert set(verdicts(again)) <= {"completed", "cached"}
    rig.right(SMALL, "revoked")


def test_a_step_that_checkpoints_is_preempted(rig: Rig) -> None:
    """It goes on each time from where it was, however often, and nobody has to ask for that."""
    command = {"type": "shell", "command": COUNT, "step_network": "none"}
    rig.on.project.write({"x.json": json.dumps({"steps": {"count": command}})})
    started = rig.on.project.start("dispatch", "run", "x.json", "-n", "count", "--json")
    control, door, chance = Faults(rig.server), rig.door(), random.Random(3)
    preempted: set[str] = set()
    for number in range(PREEMPTIONS):
        job = _another(door, preempted)
        wanted = _lines(rig.on, "steps") + chance.randrange(1, 60 // PREEMPTIONS + 1)
        until(lambda wanted=wanted: _lines(rig.on, "steps") >= wanted, f"preemption {number}")  # type: ignore[misc]
        control.preempt(job)
        preempted.add(job)
    assert verdicts(started.end().well()) == {"completed": 1}
    steps = (rig.on.shared / "steps").read_text().split()
    begun = [int(line.split()[1]) for line in (rig.on.shared / "attempts").read_text().splitlines()]
    assert len(begun) == PREEMPTIONS + 1
    assert begun[1:] == sorted(begun[1:]), begun
    assert all(at > 0 for at in begun[1:]), begun
    # At most what was done between the last checkpoint and the end was done again.
    assert len(steps) <= 100 + PREEMPTIONS, (len(steps), begun)
    assert set(map(int, steps)) == set(range(1, 101))
    place = rig.on.project.dispatch("result", "count", "count").well().out.strip()
    assert (Path(place) / "value").read_text() == "100\n"
    until(lambda: not left(door), f"left on Beaker: {left(door)}")
    door.close()


def _another(door: BeakerDoor, known: set[str]) -> str:
    """The running job that was not preempted yet."""
    found: list[str] = []

    def there() -> bool:
        jobs = [job for job in door.experiments.unfinished_jobs() if job.id not in known]
        found[:] = [job.id for job in jobs if job.started is not None]
        return bool(found)

    until(there, "the step's next job runs")
    return found[0]


def _lines(on: OnBeaker, name: str) -> int:
    path = on.shared / name
    return len(path.read_text().split()) if path.exists() else 0
