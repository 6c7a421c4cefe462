"""How much the engine asks: by the server's own count, with jobs that a test moves on by hand."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dispatch.beakerd.config import Config
from dispatch.engine.base import JobState
from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_engine import BeakerLab, wait_for
from dispatch.testing.beaker_faults import Faults
from dispatch.testing.beaker_jobs import Hand
from dispatch.testing.processes import until

TICK = 0.5


@pytest.fixture
def lab(beaker_of: Callable[[Config], LocalBeaker], tmp_path: Path) -> Iterator[BeakerLab]:
    """An engine on a server that runs nothing by itself."""
    lab = BeakerLab(beaker_of(Config(control=True)), tmp_path)
    yield lab
    for engine in lab.engines:
        engine.close()
    lab.door.close()


def jobs_of(hand: Hand) -> list[str]:
    """All jobs of the server, by their age."""
    with hand.backend.database.read() as tx:
        return [str(row["id"]) for row in tx.execute("SELECT id FROM jobs ORDER BY created, id")]


@pytest.mark.parametrize("count", [1, 51, 200])
def test_requests_a_tick(lab: BeakerLab, count: int) -> None:
    """However many run: a list, fifty a request, and two questions about one that waits, if one does."""
    hand, engine = Hand(lab.local), lab.again(tick=TICK)
    engine.submit([lab.job(f"some{number}.1", "true") for number in range(count)])
    until(lambda: len(jobs_of(hand)) == count, "all are submitted")
    for job in jobs_of(hand)[1:]:
        hand.begin(job)
    for _ in range(count - 1):
        assert wait_for(engine, lambda event: event.state is JobState.RUNNING)
    # Its reason is looked for from now on.
    wait_for(engine, lambda event: event.state is JobState.WAITING) if count == 1 else time.sleep(6)
    faults = Faults(lab.local)
    before, fault = time.monotonic(), faults.add("*", "latency", seconds=0)
    time.sleep(8 * TICK)
    hits, took = faults.hits(fault), time.monotonic() - before
    ticks = math.ceil(took / TICK) + 1
    assert 0 < hits <= ticks * (2 + math.ceil(count / 50))


def test_all_ends_at_once_are_told(lab: BeakerLab) -> None:
    """Two hundred jobs that end in the same moment are all told, each once, by what is asked a few times."""
    hand, engine = Hand(lab.local), lab.again(tick=TICK)
    keys = [f"some{number}.1" for number in range(200)]
    engine.submit([lab.job(key, "true") for key in keys])
    until(lambda: len(jobs_of(hand)) == len(keys), "all are submitted")
    for number, job in enumerate(jobs_of(hand)):
        hand.run(job, number % 2)
    ends = [wait_for(engine, lambda event: event.state is JobState.EXITED) for _ in keys]
    assert sorted(each.key for each in ends) == sorted(keys)
    assert sorted(each.exit_code or 0 for each in ends) == [0] * 100 + [1] * 100
    assert engine.next_event(3 * TICK) is None


def test_nothing_is_asked_for_nothing(lab: BeakerLab) -> None:
    """Without a job the server hears nothing of the engine, before the first one and after the last."""
    hand, faults = Hand(lab.local), Faults(lab.local)
    fault = faults.add("*", "latency", seconds=0)
    engine = lab.again(tick=TICK)
    assert engine.next_event(3 * TICK) is None and faults.hits(fault) == 0
    engine.submit([lab.job("some.1", "true")])
    until(lambda: len(jobs_of(hand)) == 1, "it is submitted")
    hand.run(jobs_of(hand)[0])
    wait_for(engine, lambda event: event.state is JobState.EXITED)
    time.sleep(TICK)
    asked = faults.hits(fault)
    time.sleep(4 * TICK)
    assert faults.hits(fault) == asked > 0
