"""A client of Beaker killed with -9 at random moments: the same command goes on, and nothing runs twice."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from dispatch.testing.beaker import Beakers
from dispatch.testing.beaker_doors import door_of
from dispatch.testing.beaker_graph import layers, left, project_on_beaker, server_config, verdicts
from dispatch.testing.processes import until

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("busybox_image")]

MOMENTS = max(3, int(50 * float(os.environ.get("DISPATCH_STRESS", "1.0"))))
GRAPH = layers(2, 2)
ONCE = Counter({"begun": 1, "ended": 1})


def test_a_client_killed_at_any_moment(beakers: Beakers, tmp_path: Path) -> None:
    """After each kill a plain re-run ends well, every result is right, and each step ran exactly once."""
    shared = tmp_path / "shared"
    shared.mkdir()
    (tmp_path / "server.yml").write_text(server_config(shared))
    server = beakers.spawn(tmp_path / "server.yml")
    on = project_on_beaker(server, tmp_path / "project", shared)
    door = door_of(server)
    chance = random.Random(6)
    longest = 1.0
    for number in range(MOMENTS):
        config = on.config(GRAPH, f"moment{number}")
        began = time.monotonic()
        moment = chance.uniform(0.2, 1.1) * longest
        started = on.project.start("dispatch", "run", config)
        while started.running and time.monotonic() < began + moment:
            time.sleep(0.01)
        started.signal(signal.SIGKILL, group=False)
        started.end()
        again = time.monotonic()
        done = on.project.dispatch("run", config, "--json").well()
        # The next moments are spread over as long as a whole run takes here.
        longest = max(longest, min(moment, again - began) + time.monotonic() - again)
        assert sum(verdicts(done).values()) == len(GRAPH.needs)
        assert set(verdicts(done)) <= {"completed", "cached"}
        on.check(GRAPH, done.json()["run"])
        assert on.calls() == dict.fromkeys(GRAPH.needs, ONCE), f"moment {number}, after {moment:.2f} s"
        on.forget()
    on.project.dispatch("beaker", "gc", "--remove").well()

    def lost() -> list[str]:
        # What was brought for a job that was never made might still be in use until an hour has passed.
        return [name for name in left(door) if not name.startswith("dispatch-job-")]

    until(lambda: not lost(), f"left on Beaker: {lost()}")
    door.close()
