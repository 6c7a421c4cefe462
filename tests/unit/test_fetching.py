"""An engine before which results are brought: jobs begin when they have them, and end if they never do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch.engine.base import Capabilities, Event, Handle, JobSpec, JobState, Reason
from dispatch.engine.fetching import AT_ONCE, FetchingEngine, seeing
from dispatch.environment import LocalId
from dispatch.errors import EngineError, WorkspaceError
from dispatch.location import BeakerDataset, HostPath
from dispatch.testing.engine import FakeEngine, Outcome
from dispatch.testing.processes import until

LIMIT = 60.0


class Bringing:
    """Results that come when the test says so. ``asked`` are those that were asked for, in order."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.fault: Exception | None = None
        self.peak = self._now = 0
        self._lock = threading.Lock()

    def __call__(self, unique_id: str) -> None:
        """Bring one."""
        with self._lock:
            self.asked.append(unique_id)
            self._now += 1
            self.peak = max(self.peak, self._now)
        assert self.gate.wait(LIMIT)
        with self._lock:
            self._now -= 1
        if self.fault is not None:
            raise self.fault


@pytest.fixture
def bringing() -> Iterator[Bringing]:
    """Results that have not come."""
    made = Bringing()
    yield made
    made.gate.set()


@pytest.fixture
def engine(bringing: Bringing) -> Iterator[FetchingEngine]:
    """An engine whose jobs do as they are named."""

    def script(job: JobSpec) -> Outcome:
        return Outcome(holds=job.step == "holds", log=b"hello\n")

    made = FetchingEngine(FakeEngine(script), bringing, clock=lambda: 5.0)
    yield made
    bringing.gate.set()
    made.close()


def spec(root: Path, key: str, *brings: str, step: str = "ends") -> JobSpec:
    """A job."""
    attempt = root / key
    attempt.mkdir(exist_ok=True)
    return JobSpec(key, "run", step, 1, LocalId("sha256:1"), ("true",), attempt, brings=brings)


def event(engine: FetchingEngine, fact: Callable[[Event], bool]) -> Event:
    """Wait for an event."""
    deadline = time.monotonic() + LIMIT
    while (left := deadline - time.monotonic()) > 0:
        found = engine.next_event(left)
        if found is not None and fact(found):
            return found
    raise AssertionError("it never came")


def ended(engine: FetchingEngine, key: str) -> Event:
    """Wait for a job's end."""
    return event(engine, lambda each: each.key == key and each.state is JobState.EXITED)


def inner(engine: FetchingEngine) -> FakeEngine:
    """The engine itself."""
    assert isinstance(engine.inner, FakeEngine)
    return engine.inner


def test_a_job_begins_when_it_has_its_inputs(
    engine: FetchingEngine, bringing: Bringing, tmp_path: Path
) -> None:
    """Nobody else waits for that: a job that needs nothing runs meanwhile."""
    (waits,) = engine.submit([spec(tmp_path, "a.1", "A", "B")])
    engine.submit([spec(tmp_path, "b.1")])
    assert ended(engine, "b.1").reason is Reason.STEP
    assert [job.key for job in inner(engine).submitted] == ["b.1"]
    assert list(engine.logs(waits)) == []
    assert engine.submit([spec(tmp_path, "a.1", "A", "B")]) == [waits]
    bringing.gate.set()
    assert ended(engine, "a.1").exit_code == 0
    assert bringing.asked == ["A", "B"]
    assert list(engine.logs(waits)) == [b"hello\n"]
    engine.release(waits)
    assert [handle.key for handle in inner(engine).released] == ["a.1"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (WorkspaceError("dataset 01A: is gone", "run it again"), "dataset 01A: is gone"),
        (OSError(28, "No space left on device"), "No space left"),
        (ValueError("odd"), "ValueError: odd"),
    ],
)
def test_inputs_that_do_not_come(
    engine: FetchingEngine, bringing: Bringing, tmp_path: Path, fault: Exception, words: str
) -> None:
    """The job has ended, with the reason; the engine never hears of it."""
    bringing.fault = fault
    bringing.gate.set()
    (handle,) = engine.submit([spec(tmp_path, "a.1", "A")])
    end = ended(engine, "a.1")
    assert end.reason is Reason.INFRA
    assert words in end.message
    assert (tmp_path / "a.1" / "out.log").exists()
    engine.cancel([handle], 1.0)
    engine.release(handle)
    engine.settle()
    assert inner(engine).submitted == []
    assert inner(engine).cancelled == inner(engine).released == []


def test_a_job_that_is_cancelled_before_it_began(
    engine: FetchingEngine, bringing: Bringing, tmp_path: Path
) -> None:
    """It ends at once, whatever is on its way, is told to have ended once, and never begins."""
    (handle,) = engine.submit([spec(tmp_path, "a.1", "A")])
    until(lambda: bringing.asked == ["A"], "it is asked for")
    engine.cancel([handle], 1.0)
    engine.cancel([handle], 1.0)
    assert ended(engine, "a.1").reason is Reason.CANCELLED
    bringing.gate.set()
    assert engine.next_event(0.5) is None
    assert inner(engine).submitted == []


def test_a_job_that_is_cancelled_when_it_runs(
    engine: FetchingEngine, bringing: Bringing, tmp_path: Path
) -> None:
    """The engine is told, by its own handle."""
    bringing.gate.set()
    (handle,) = engine.submit([spec(tmp_path, "a.1", "A", step="holds")])
    event(engine, lambda each: each.state is JobState.RUNNING)
    engine.cancel([handle], 1.0)
    assert ended(engine, "a.1").reason is Reason.CANCELLED
    assert [each.key for each in inner(engine).cancelled] == ["a.1"]
    assert engine.usage([handle]) == inner(engine).usage([])


def test_few_are_brought_at_once(engine: FetchingEngine, bringing: Bringing, tmp_path: Path) -> None:
    """A hundred jobs do not open a hundred downloads, and all of them end."""
    keys = [f"s{number}.1" for number in range(20)]
    for key in keys:
        engine.submit([spec(tmp_path, key, key)])
    until(lambda: len(bringing.asked) == AT_ONCE, "as many as may are asked for")
    bringing.gate.set()
    left = set(keys)
    while left:
        left.discard(event(engine, lambda each: each.state is JobState.EXITED).key)
    assert bringing.peak <= AT_ONCE


def test_a_job_that_runs_already(engine: FetchingEngine, bringing: Bringing, tmp_path: Path) -> None:
    """What is adopted has its inputs."""
    engine.submit([replace(spec(tmp_path, "a.1", "A"), attach=True)])
    assert ended(engine, "a.1").reason is Reason.LOST
    assert bringing.asked == []
    stranger = Handle("other.1", "x")
    engine.cancel([stranger], 0.0)
    assert inner(engine).cancelled == [stranger]


def test_closing_waits_for_nothing(engine: FetchingEngine, bringing: Bringing, tmp_path: Path) -> None:
    """Who leaves while results are on their way is not held up, and nothing begins afterwards."""
    engine.submit([spec(tmp_path, "a.1", "A")])
    until(lambda: bringing.asked == ["A"], "it is asked for")
    engine.close()
    bringing.gate.set()
    assert engine.next_event(0.5) is None
    assert inner(engine).submitted == []


def test_what_the_engine_raises_is_raised(engine: FetchingEngine, tmp_path: Path) -> None:
    """An engine that went away is not waited for."""
    engine.submit([spec(tmp_path, "a.1", step="holds")])
    event(engine, lambda each: each.state is JobState.RUNNING)
    inner(engine).break_off(EngineError("it is gone"))
    for _ in range(2):
        with pytest.raises(EngineError, match="it is gone"):
            event(engine, lambda _: False)


def test_it_sees_what_is_brought() -> None:
    """The engine accepts datasets beside what it sees by itself."""
    bare = Capabilities("docker", (HostPath,), uid=0, gid=0, cpus=1, memory=1)
    assert seeing(bare).accepts == (HostPath, BeakerDataset)
    assert seeing(seeing(bare)) == seeing(bare)
