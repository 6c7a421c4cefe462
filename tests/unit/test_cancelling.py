"""Cancelling from outside, while drivers live, die and follow each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from dispatch.app.cancelling import Cancelling, Left
from dispatch.app.watching import Pace
from dispatch.engine.base import Handle
from dispatch.errors import ConfigurationError, EngineError
from dispatch.info import StepState
from dispatch.testing.contracts_workspace import record
from dispatch.testing.engine import FakeEngine
from dispatch.testing.faults import FakeClock, FakeHost
from dispatch.workspace.attempts import Ports
from dispatch.workspace.driving import Driver, Request
from dispatch.workspace.journal import Entry, JournalStep, Kind
from dispatch.workspaces import LocalWorkspace


def as_process(root: Path, pid: int, *others: int) -> LocalWorkspace:
    """The workspace as a process sees it that lives beside some others."""
    return LocalWorkspace(root, ports=Ports(host=FakeHost.process(pid, *others)))


def begin(driver: Driver, place: str = "process") -> None:
    """Open the driver's journal: one step runs, one waits, one has ended."""
    steps = tuple(JournalStep(name, f"Made-{name}", "run", "", "", place) for name in ("a", "b", "c"))
    driver.write(Entry(Kind.OPENED, 1.0, driver=driver.number, steps=steps))
    driver.write(Entry(Kind.STARTING, 2.0, "a", attempt=1))
    driver.write(Entry(Kind.ENDED, 3.0, "c", verdict="completed"))


def open_run(place: LocalWorkspace) -> Driver:
    """A run of three steps."""
    return place.open_run([record(name) for name in ("a", "b", "c")], "first")


def nothing_left() -> Left:
    """No engine is asked in this test."""
    raise AssertionError("an engine was asked")


class Meanwhile:
    """A watcher's time; with each wait the next of ``moves`` happens."""

    def __init__(self, *moves: Callable[[], None]) -> None:
        self._moves: Iterator[Callable[[], None]] = iter(moves)
        self._clock = FakeClock()
        self.pace = Pace(self._clock, self._sleep, 0.1, 2.0)

    def _sleep(self, seconds: float) -> None:
        self._clock.time += seconds + 1
        next(self._moves, lambda: None)()


def cancelled(driver: Driver, *steps: str) -> None:
    """Do what a driver does that was asked to cancel these."""
    for step in steps:
        driver.write(Entry(Kind.ENDED, 4.0, step, "cancelled", verdict="cancelled"))


def test_the_driver_is_asked_and_waited_for(tmp_path: Path) -> None:
    """What it says is what is answered."""
    driver = open_run(as_process(tmp_path, 1))
    begin(driver)
    heard: list[Request] = []

    def hear() -> None:
        heard.extend(driver.requests())

    def end() -> None:
        cancelled(driver, "a", "b")
        driver.finish("cancelled")

    here = as_process(tmp_path, 2, 1)
    done = Cancelling(here, nothing_left, "me", Meanwhile(hear, end).pace).cancel("first", [], 1.5)
    assert heard == [Request(None, 1.5, "me")]
    assert (done.state, list(done.steps), done.over) == ("cancelled", ["a", "b"], {})


def test_steps_that_have_ended_are_not_asked_for(tmp_path: Path) -> None:
    """Neither those before, nor that the run ends; and a step that ends by itself meanwhile is no failure."""
    driver = open_run(as_process(tmp_path, 1))
    begin(driver)
    here = as_process(tmp_path, 2, 1)
    done = Cancelling(here, nothing_left, "me", Meanwhile().pace).cancel("first", ["c"], None)
    assert (done.state, done.steps, done.over) == ("", {}, {"c": "completed"})
    assert driver.requests() == []
    meanwhile = Meanwhile(lambda: driver.write(Entry(Kind.ENDED, 4.0, "a", verdict="completed")))
    done = Cancelling(here, nothing_left, "me", meanwhile.pace).cancel("first", ["a", "c"], None)
    assert (done.steps, done.over) == ({}, {"a": "completed", "c": "completed"})
    assert driver.requests() == [Request(("a",), None, "me")]
    with pytest.raises(ConfigurationError, match="no step 'd'"):
        Cancelling(here, nothing_left, "me").cancel("first", ["d"], None)


def test_a_driver_that_does_not_listen(tmp_path: Path) -> None:
    """It is an error after a while, which says what else can be done."""
    begin(open_run(as_process(tmp_path, 1)))
    with pytest.raises(EngineError, match="has not ended yet"):
        Cancelling(as_process(tmp_path, 2, 1), nothing_left, "me", Meanwhile().pace).cancel("first", [], 1.0)


def test_a_driver_that_dies_when_it_is_asked(tmp_path: Path) -> None:
    """The run is ended in its place, with the steps that ran recorded as cancelled."""
    place = as_process(tmp_path, 1)
    driver = open_run(place)
    begin(driver)
    place.claim(record("a"), "first")
    here = as_process(tmp_path, 2, 1)
    host = here.ports.host
    assert isinstance(host, FakeHost)
    meanwhile = Meanwhile(lambda: host.alive.update({1: "another process of that number"}))
    done = Cancelling(here, nothing_left, "me", meanwhile.pace).cancel("first", [], None)
    assert (done.state, list(done.steps)) == ("cancelled", ["a", "b"])
    run = here.run_record("first")
    assert run.state == "cancelled"
    assert run.facts["verdicts"] == {"a": "cancelled", "b": "cancelled", "c": "completed"}
    info = here.step_info("Made-a")
    assert (info.state, info.attempt and info.attempt.reason) == (StepState.FAILED, "cancelled")
    assert here.step_info("Made-b").state is StepState.INCOMPLETE
    driving = here.driver_of("first")
    assert driving is not None
    assert not driving.alive


def test_a_driver_that_is_followed_by_another(tmp_path: Path) -> None:
    """The other one is asked, too."""
    begin(open_run(as_process(tmp_path, 1)))
    here = as_process(tmp_path, 2, 1, 3)
    host = here.ports.host
    assert isinstance(host, FakeHost)
    later: list[Driver] = []
    heard: list[Request] = []

    def take_over() -> None:
        del host.alive[1]
        later.append(as_process(tmp_path, 3, 2).drive("first"))
        begin(later[0])

    def end() -> None:
        heard.extend(later[0].requests())
        if heard:
            later[0].finish("cancelled")

    moves = [take_over, *[end] * 8]
    done = Cancelling(here, nothing_left, "me", Meanwhile(*moves).pace).cancel("first", [], None)
    assert heard == [Request(None, None, "me")]
    assert done.state == "cancelled"


def test_what_a_dead_client_left_is_stopped(tmp_path: Path) -> None:
    """The run's jobs of this workspace, and no others; they are waited for, and forgotten by the engine."""
    place = as_process(tmp_path, 1)
    begin(open_run(place), "container")
    attempt = place.claim(record("a"), "first")
    ours = Handle("Made-a.1", "x", attempt.directory)
    others = [Handle("Made-a.1", "y", tmp_path / "elsewhere"), Handle("Made-z.1", "z", attempt.directory)]
    engine = Leaving([ours, *others])
    here = as_process(tmp_path, 2)
    left = Left(engine, lambda handle: handle in engine.running, here)
    done = Cancelling(here, lambda: left, "me", Meanwhile(engine.end).pace).cancel("first", ["a"], 0.5)
    assert (engine.stopped, engine.released, engine.closed) == ([(ours, 0.5)], [ours], True)
    assert (done.state, list(done.steps)) == ("", ["a"])
    assert here.run_record("first").state == ""
    assert here.open_runs() == ["first"]


class Leaving(FakeEngine):
    """An engine with jobs of clients that are gone, which end some time after they are told to."""

    def __init__(self, handles: Sequence[Handle]) -> None:
        super().__init__()
        self.running = list(handles)
        self.stopped: list[tuple[Handle, float]] = []
        self.released: list[Handle] = []
        self.closed = False

    def find(self, run: str) -> list[Handle]:
        """Return them all."""
        assert run == "first"
        return list(self.running)

    def cancel(self, handles: Sequence[Handle], grace: float) -> None:
        """Remember."""
        self.stopped += [(handle, grace) for handle in handles]

    def end(self) -> None:
        """Let those end that were told to."""
        self.running = [each for each in self.running if each not in dict(self.stopped)]

    def release(self, handle: Handle) -> None:
        """Remember; nothing is forgotten that still runs."""
        assert handle not in self.running
        self.released.append(handle)

    def close(self) -> None:
        """Remember."""
        self.closed = True
