"""Two engines behind one: whose job is whose, and one stream of events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch.engine.base import Capabilities, Event, Handle, JobSpec, JobState
from dispatch.engine.routed import RoutedEngine
from dispatch.environment import LocalId
from dispatch.errors import EngineError
from dispatch.location import HostPath
from dispatch.testing.engine import FakeEngine, Outcome

LIMIT = 60.0


class Pair:
    """An engine for containers, one for processes, and the two as one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.containers = FakeEngine(self._script)
        here = Capabilities("local", (HostPath,), uid=0, gid=0, cpus=1, memory=1)
        self.processes = FakeEngine(self._script, here)
        self.both = RoutedEngine(self.containers, self.processes)

    def _script(self, job: JobSpec) -> Outcome:
        return Outcome(log=job.step.encode(), holds=job.step == "holds")

    def job(self, key: str, image: str | None, step: str = "step") -> JobSpec:
        """A job with or without an image."""
        ref = None if image is None else LocalId(image)
        return JobSpec(key, "run", step, 1, ref, ("true",), self._directory / key)

    def ends(self, count: int) -> list[str]:
        """The keys of the next ends."""
        found: list[str] = []
        while len(found) < count:
            event = self.both.next_event(LIMIT)
            assert event is not None
            found += [event.key] if event.state is JobState.EXITED else []
        return found


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Two fakes behind one engine."""
    made = Pair(tmp_path)
    yield made
    made.both.close()


def test_each_job_goes_to_its_engine(pair: Pair) -> None:
    """With an image it is a container, without one a process; the ends of both are told."""
    jobs = [pair.job("a", "x"), pair.job("b", None), pair.job("c", "x")]
    handles = pair.both.submit(jobs)
    assert [handle.key for handle in handles] == ["a", "b", "c"]
    assert [job.key for job in pair.containers.submitted] == ["a", "c"]
    assert [job.key for job in pair.processes.submitted] == ["b"]
    assert sorted(pair.ends(3)) == ["a", "b", "c"]
    assert pair.both.next_event(0) is None
    assert sorted(handle.key for handle in pair.both.find("run")) == ["a", "b", "c"]
    pair.both.release(handles[1])
    assert pair.processes.released == [handles[1]] and pair.containers.released == []


def test_what_is_asked_of_a_job_is_asked_of_its_engine(pair: Pair) -> None:
    """Cancelling, logs and output go where the job is; the machine is the containers'."""
    container, process = pair.both.submit([pair.job("a", "x", "holds"), pair.job("b", None, "holds")])
    pair.both.cancel([container, process, Handle("c", "unknown")], 1.0)
    assert pair.processes.cancelled == [process]
    assert pair.containers.cancelled == [container, Handle("c", "unknown")]
    assert sorted(pair.ends(2)) == ["a", "b"]
    assert list(pair.both.logs(process)) == [b"holds"]
    assert pair.both.capabilities().name == "docker"
    with pytest.raises(EngineError, match="job b"):
        pair.both.output(process)


def test_submitting_twice(pair: Pair) -> None:
    """A key that was submitted is not waited for again."""
    job = pair.job("a", None)
    assert pair.both.submit([job]) == pair.both.submit([job])
    assert pair.ends(1) == ["a"]
    assert pair.both.next_event(0) is None


@pytest.mark.parametrize("broken", ["containers", "processes"])
def test_an_engine_that_goes_away(pair: Pair, broken: str) -> None:
    """What either raises is raised, and raised again."""
    pair.both.submit([pair.job("a", "x", "holds"), pair.job("b", None, "holds")])
    engine: FakeEngine = getattr(pair, broken)
    engine.break_off(EngineError("it went away"))

    def drain() -> Event | None:
        while (event := pair.both.next_event(LIMIT)) is not None:
            assert event.state is JobState.RUNNING
        return None

    for _ in range(2):
        with pytest.raises(EngineError, match="it went away"):
            drain()
    for handle in pair.both.find("run"):
        pair.both.cancel([handle], 0)
