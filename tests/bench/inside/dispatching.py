"""What the loop itself costs a step: graphs of simulated steps whose jobs end at once."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from dispatch.dispatcher import Dispatcher, Pace, Verdict, Work
from dispatch.info import StepRecord
from dispatch.resources import StepResources
from dispatch.testing.engine import FakeEngine
from dispatch.testing.jobs import FakeJobs
from dispatch.testing.observer import RecordingObserver
from dispatch.testing.scheduler import FakeScheduler
from dispatch.testing.workspace import FakeClaims


def works(shape: str, count: int) -> list[Work]:
    """A fan of steps that wait for nothing, or a chain."""
    found = []
    for number in range(count):
        record = StepRecord(f"s{number}", f"s{number}", "Fake", "fake", None, True, True, (), {})
        needs = (f"s{number - 1}",) if shape == "chain" and number else ()
        found.append(Work(record, StepResources(), needs))
    return found


def seconds(shape: str, count: int) -> float:
    """Wall time of a run."""
    with tempfile.TemporaryDirectory() as directory:
        dispatcher = Dispatcher(
            engine=FakeEngine(),
            scheduler=FakeScheduler(8),
            workspace=FakeClaims(Path(directory)),
            jobs=FakeJobs(),
            observer=RecordingObserver(),
            pace=Pace(),
        )
        graph = works(shape, count)
        began = time.perf_counter()
        outcomes = dispatcher.run(graph, "run")
        took = time.perf_counter() - began
    assert len(outcomes) == count
    assert {outcome.verdict for outcome in outcomes.values()} == {Verdict.COMPLETED}
    return took


print(json.dumps({"seconds": seconds(sys.argv[1], int(sys.argv[2]))}))
