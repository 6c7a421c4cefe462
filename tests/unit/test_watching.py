"""Journals that are written by drivers and read by those who watch: replayed, followed, shown, tailed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import pytest

from dispatch.app.driving import Stoppable, carry_out
from dispatch.app.following import follow_run
from dispatch.app.journaling import JournalObserver, Observers, replay
from dispatch.app.logtail import PIECE, LogFollower, Tail
from dispatch.app.records import ORPHANED, RUNNING, list_runs
from dispatch.app.registering import Seat, held, register
from dispatch.app.status import UNATTENDED, last_line, status, unfinished
from dispatch.app.watching import Pace, Watch, follow, views, watched
from dispatch.dispatcher import Observer, StepOutcome, Verdict
from dispatch.engine.base import Event, JobState
from dispatch.errors import ConfigurationError
from dispatch.plan import RunPlan, Standing
from dispatch.testing.contracts_workspace import record
from dispatch.testing.faults import FakeClock, FakeHost
from dispatch.testing.observer import RecordingObserver
from dispatch.testing.plans import plan_steps
from dispatch.workspace.attempts import Ports
from dispatch.workspace.driving import Driver, Request
from dispatch.workspace.journal import Entry, JournalStep, Kind
from dispatch.workspaces import LocalWorkspace, MemoryWorkspace

STEPS = {"one": {"type": "draw"}, "two": {"type": "total", "n": 1}}
ANSWER = Verdict.COMPLETED


def silent(_: str) -> None:
    """Say nothing."""


def fast(patience: float = 0.0, does: Callable[[], None] = lambda: None) -> Pace:
    """A watcher's time that passes while it waits; ``does`` is what happens meanwhile."""
    clock = FakeClock()

    def sleep(seconds: float) -> None:
        clock.time += seconds + 1
        does()

    return Pace(clock, sleep, 0.1, patience)


def as_process(root: Path, pid: int, *others: int) -> LocalWorkspace:
    """The workspace as a process sees it that lives beside some others."""
    return LocalWorkspace(root, ports=Ports(host=FakeHost.process(pid, *others)))


def opened(driver: Driver, *names: str) -> None:
    """Begin the driver's section of the journal."""
    steps = tuple(JournalStep(name, f"Made-{name}", "run", "", "base", "container") for name in names)
    driver.write(Entry(Kind.OPENED, 1.0, driver=driver.number, steps=steps))


# From an observer to a journal and back.


def tell(observer: Observer) -> None:
    """All that an observer can be told."""
    observer.waiting("one", "no room")
    observer.waiting("one", "no room")
    observer.starting("one", 1)
    observer.running("one", Event("Made-one.1", JobState.RUNNING, 5.0, node="n1"))
    observer.retrying("one", "oom", 0.5)
    observer.starting("one", 2)
    observer.waiting("one", "no room")
    observer.ended(StepOutcome("one", Verdict.FAILED, "it broke"))
    observer.ended(StepOutcome("two", Verdict.SKIPPED, "needs 'one'"))


def test_what_is_replayed_is_what_was_told() -> None:
    """But for a reason to wait that is told again and again, which the journal has once."""
    workspace = MemoryWorkspace()
    driver = workspace.open_run([record()], "first")
    journal, beside = JournalObserver(driver, lambda: 1.0, silent), RecordingObserver()
    tell(Observers((journal, beside)))
    again = RecordingObserver()
    replay(workspace.journal("first").read(), again)
    assert beside.told.pop(1) == ("waiting", "one")
    assert again.told == beside.told
    assert again.outcomes == beside.outcomes
    assert again.delays == beside.delays == [0.5]


def test_an_observer_that_breaks_breaks_no_other() -> None:
    """The journal goes on when the terminal is gone, and the other way round."""

    class Broken(RecordingObserver):
        def starting(self, name: str, attempt: int) -> None:  # noqa: ARG002
            raise BrokenPipeError

    first, last = RecordingObserver(), RecordingObserver()
    tell(Observers((first, Broken(), last)))
    assert first.told == last.told
    assert len(first.told) == 9


def test_a_journal_that_cannot_be_written_ends_alone(tmp_path: Path) -> None:
    """It is said once, and nothing is raised."""
    driver = LocalWorkspace(tmp_path / "ws").open_run([record()], "first")
    said: list[str] = []
    os.rename(tmp_path / "ws", tmp_path / "gone")  # noqa: PTH104
    tell(JournalObserver(driver, lambda: 1.0, said.append))
    assert len(said) == 1
    assert "No such file" in said[0]


def test_entries_that_nobody_knows_are_passed_over() -> None:
    """A verdict of a later version ends nothing here."""
    seen = RecordingObserver()
    replay([Entry(Kind.ENDED, 1.0, "one", verdict="vanished"), Entry(Kind.SAID, 1.0, reason="x")], seen)
    assert seen.told == []


# Driving.


@dataclass
class FakeRunner:
    """Brings steps to verdicts when it is told to; ``asked`` is what was to be cancelled."""

    observer: Observer
    interrupted: bool = False
    waits: bool = False
    asked: list[tuple[object, float | None]] = field(default_factory=list)
    heard: threading.Event = field(default_factory=threading.Event)

    def execute(self, plan: RunPlan, run: str) -> dict[str, StepOutcome]:
        """End each step."""
        assert run
        if self.waits:
            assert self.heard.wait(30)
        outcomes = {}
        for step in plan.standing(Standing.RUN):
            name = step.node.name
            self.observer.starting(name, 1)
            outcomes[name] = StepOutcome(name, ANSWER)
            self.observer.ended(outcomes[name])
            if self.interrupted:
                raise KeyboardInterrupt
        return outcomes

    def cancel(self, names: object, grace: float | None) -> None:
        """Remember."""
        self.asked.append((names, grace))
        self.heard.set()


def test_a_run_is_carried_out_where_others_can_see_it() -> None:
    """Opened before anybody hears its name, told step by step, closed with its record, and let go."""
    workspace = MemoryWorkspace()
    seat = register(workspace, plan_steps(STEPS), "first", {}, lambda _: 0)
    seen, begun = RecordingObserver(), []

    def hear(run: str) -> None:
        begun.append((run, [entry.kind for entry in workspace.journal(run).read()]))

    outcomes = carry_out(seat, FakeRunner, seen, hear, silent)
    assert begun == [("first", [Kind.OPENED])]
    assert {name: outcome.verdict for name, outcome in outcomes.items()} == dict.fromkeys(STEPS, ANSWER)
    assert [entry.kind for entry in workspace.journal("first").read()][-1] is Kind.CLOSED
    assert workspace.run_record("first").state == "completed"
    assert workspace.run_record("first").facts["verdicts"] == dict.fromkeys(STEPS, "completed")
    driving = workspace.driver_of("first")
    assert driving is not None
    assert not driving.alive


def test_a_run_that_is_interrupted_has_an_end() -> None:
    """Cancelled, with the verdicts there were; and nobody drives it any more."""
    workspace = MemoryWorkspace()
    seat = register(workspace, plan_steps(STEPS), "first", {}, lambda _: 0)
    with pytest.raises(KeyboardInterrupt):
        carry_out(seat, lambda each: FakeRunner(each, interrupted=True), RecordingObserver(), silent, silent)
    run = workspace.run_record("first")
    assert (run.state, run.facts["verdicts"]) == ("cancelled", {"one": "completed"})
    assert workspace.drive("first").number == 2


def test_what_is_asked_of_a_run_reaches_what_runs_it(tmp_path: Path) -> None:
    """From another process's workspace, while the steps run; and the journal says who asked."""
    workspace = LocalWorkspace(tmp_path / "ws")
    seat = register(workspace, plan_steps(STEPS), "first", {}, lambda _: 0)
    made: list[FakeRunner] = []

    def make(observer: Observer) -> FakeRunner:
        made.append(FakeRunner(observer, waits=True))
        LocalWorkspace(tmp_path / "ws").ask("first", Request(("one",), 2.5, "somebody"))
        return made[0]

    carry_out(seat, make, RecordingObserver(), silent, silent)
    assert made[0].asked == [(("one",), 2.5)]
    said = [entry.reason for entry in workspace.journal("first").read() if entry.kind is Kind.SAID]
    assert said == ["cancelling one, as somebody asks"]


def test_a_fake_can_be_stopped() -> None:
    """The fake is what the protocol says, and remembers what it was asked."""
    runner = FakeRunner(RecordingObserver())
    stoppable: Stoppable = runner
    stoppable.cancel(None, None)
    assert runner.asked == [(None, None)]


# Registering.


def test_without_a_name_an_orphan_of_the_same_targets_goes_on(tmp_path: Path) -> None:
    """The newest one whose driver is dead; not one that is driven, ended, or of other targets."""
    plan, other = plan_steps(STEPS), plan_steps({"one": {"type": "draw", "n": 2}})
    dead = as_process(tmp_path, 1)
    register(dead, other, "other", {}, lambda _: 0)
    register(dead, plan, "older", {}, lambda _: 0)
    register(dead, plan, "left", {}, lambda _: 0)
    ended = register(dead, plan, "ended", {}, lambda _: 0)
    assert ended.driver is not None
    ended.driver.finish("cancelled")
    alive = as_process(tmp_path, 3, 2)
    register(alive, plan, "driven", {}, lambda _: 0)
    here = as_process(tmp_path, 2, 3)
    seat = register(here, plan, None, {}, lambda _: 0)
    assert (seat.name, seat.resumed, seat.driver is not None) == ("left", True, True)
    # Now that somebody drives that one, the next is the older one, and then there is none.
    assert register(here, plan, None, {}, lambda _: 0).name == "older"
    assert not register(here, plan, None, {}, lambda _: 0).resumed


def test_a_named_run_is_followed_while_it_is_driven(tmp_path: Path) -> None:
    """By clients of the same targets; others are refused, and so is a name without a run to follow."""
    plan, other = plan_steps(STEPS), plan_steps({"one": {"type": "draw", "n": 2}})
    register(as_process(tmp_path, 1), plan, "first", {}, lambda _: 0)
    here = as_process(tmp_path, 2, 1)
    assert held(here, plan, "first") == Seat("first", plan, None)
    assert register(here, plan, "first", {}, lambda _: 0).driver is None
    assert held(here, other, "first") is None
    with pytest.raises(ConfigurationError, match="first"):
        register(here, other, "first", {}, lambda _: 0)
    assert held(here, plan, None) is None
    assert held(here, plan, "nothing") is None
    assert held(as_process(tmp_path, 3), plan, "first") is None


def test_a_run_that_was_completed_while_we_planned_it_is_ours_to_follow(tmp_path: Path) -> None:
    """Not an error: we wanted that run; one that was completed before is another matter."""
    plan = plan_steps(STEPS)
    before = datetime.now(timezone.utc)
    first = register(as_process(tmp_path, 1), plan, "first", {}, lambda _: 0)
    carry_out(first, FakeRunner, RecordingObserver(), silent, silent)
    here = as_process(tmp_path, 2)
    seat = register(here, plan, "first", {}, lambda _: 0, before)
    assert seat == Seat("first", plan, None)
    followed = follow_run(here, seat, RecordingObserver(), silent)
    assert followed is not None
    assert set(followed.outcomes) == set(STEPS)
    for since in (None, datetime.now(timezone.utc)):
        with pytest.raises(ConfigurationError, match="first"):
            register(here, plan, "first", {}, lambda _: 0, since)


# Watching.


def test_following_to_the_end() -> None:
    """What was told before and what is told meanwhile, in order; then the state."""
    workspace = MemoryWorkspace()
    driver = workspace.open_run([record()], "first")
    opened(driver, "one")
    journal = JournalObserver(driver, lambda: 1.0, silent)
    journal.starting("one", 1)
    moves = iter(
        [
            lambda: journal.ended(StepOutcome("one", ANSWER)),
            lambda: driver.finish("completed"),
            driver.release,
        ]
    )
    seen = RecordingObserver()
    watch = follow(workspace, "first", seen, fast(does=lambda: next(moves)()))
    assert watch.state == "completed"
    assert seen.told == [("starting", "one"), ("ended", "one")]


def test_an_earlier_end_is_not_the_end(tmp_path: Path) -> None:
    """A run that is gone on with is followed to its later end, though its journal holds an earlier one."""
    place = as_process(tmp_path, 1)
    first = place.open_run([record()], "first")
    opened(first, "one")
    first.finish("failed")
    first.release()
    second = place.drive("first")
    watch = Watch(as_process(tmp_path, 2, 1), "first", fast())
    assert watch.look() == []
    assert watch.state == ""
    opened(second, "one")
    assert [entry.kind for entry in watch.look()] == [Kind.OPENED]
    second.finish("completed")
    watch.look()
    assert watch.state == "completed"


def test_a_run_without_its_driver_is_given_up_after_a_while(tmp_path: Path) -> None:
    """Not at once: another client may take it over, and then it goes on."""
    opened(as_process(tmp_path, 1).open_run([record()], "first"), "one")
    here = as_process(tmp_path, 2, 3)
    assert follow(here, "first", RecordingObserver(), fast(patience=3.0)).state == ORPHANED
    watch = Watch(here, "first", fast(patience=3.0))
    watch.look()
    watch.pause()
    taken = as_process(tmp_path, 3, 2).drive("first")
    for _ in range(5):
        watch.pause()
        watch.look()
    assert watch.state == ""
    taken.finish("completed")
    watch.look()
    assert watch.state == "completed"


def test_only_what_was_driven_can_be_watched() -> None:
    """A program's own run is refused, with another way to see it; an unknown one as everywhere."""
    workspace = MemoryWorkspace()
    workspace.register_run([record()], "mine")
    with pytest.raises(ConfigurationError, match="no journal"):
        watched(workspace, "mine")
    with pytest.raises(ConfigurationError, match="no run"):
        watched(workspace, "other")


def test_a_second_client_ends_as_the_first(tmp_path: Path) -> None:
    """Its outcomes and standings; None when the first died, and an interrupt when it was cancelled."""
    plan = plan_steps(STEPS)
    first = register(as_process(tmp_path, 1), plan, "first", {}, lambda _: 0)
    here = as_process(tmp_path, 2, 1)
    assert first.driver is not None
    JournalObserver(first.driver, lambda: 1.0, silent).opened(plan, "here", 1)
    seen = RecordingObserver()
    said: list[str] = []
    assert follow_run(as_process(tmp_path, 3), Seat("first", plan, None), seen, said.append) is None
    assert "gone" in said[-1]
    second = carry_out(first, FakeRunner, RecordingObserver(), silent, silent)
    followed = follow_run(here, Seat("first", plan, None), seen, said.append)
    assert followed is not None
    assert {name: each.verdict for name, each in followed.outcomes.items()} == {
        name: each.verdict for name, each in second.items()
    }
    assert seen.outcomes
    cancelled = register(as_process(tmp_path, 1), plan, "second", {}, lambda _: 0)
    with pytest.raises(KeyboardInterrupt):
        carry_out(cancelled, lambda each: FakeRunner(each, interrupted=True), seen, silent, silent)
    with pytest.raises(KeyboardInterrupt):
        follow_run(here, Seat("second", plan, None), seen, said.append)


# Status.


def test_where_steps_stand(tmp_path: Path) -> None:
    """Each state that a journal tells, with how long it lasts and the last line of the log."""
    place = as_process(tmp_path, 1)
    driver = place.open_run([record(name) for name in "abcde"], "first")
    opened(driver, *"abcde")
    driver.write(Entry(Kind.STARTING, 10.0, "a", attempt=1))
    driver.write(Entry(Kind.RUNNING, 11.0, "a", since=10.5, node="n1"))
    driver.write(Entry(Kind.STARTING, 10.0, "b", attempt=2))
    driver.write(Entry(Kind.ENDED, 13.0, "b", "it broke", verdict="failed"))
    driver.write(Entry(Kind.WAITING, 14.0, "c", "no room"))
    driver.write(Entry(Kind.STARTING, 10.0, "d", attempt=1))
    driver.write(Entry(Kind.RETRYING, 14.0, "d", "oom", delay=9.0))
    attempt = place.claim(record("a"), "first")
    (attempt.directory / "out.log").write_bytes(b"first\nepoch 3\r\x1b[2Kepoch 4\n\n")
    found = status(as_process(tmp_path, 2, 1), "first", 20.5)
    assert found.state == RUNNING
    rows = {
        step.name: (step.state, step.attempt, step.seconds, step.reason, step.last) for step in found.steps
    }
    assert rows == {
        "a": ("running", 1, 10.0, "", "[2Kepoch 4"),
        "b": ("failed", 2, 3.0, "it broke", ""),
        "c": ("waiting", 0, None, "no room", ""),
        "d": ("retrying", 1, None, "oom", ""),
        "e": ("waiting", 0, None, "", ""),
    }
    assert found.counts == {"running": 1, "failed": 1, "waiting": 2, "retrying": 1}
    alone = as_process(tmp_path, 3)
    (left,) = unfinished(alone, 20.5)
    assert (left.state, left.steps[0].state) == (ORPHANED, UNATTENDED)
    assert [row.state for row in list_runs(alone, 5)] == [ORPHANED]


def test_a_step_of_a_later_driver_begins_anew() -> None:
    """What the plan of the later driver says counts, but attempts are remembered."""
    steps = (JournalStep("a", "A", "run"), JournalStep("b", "B", "run"))
    later = (JournalStep("a", "A", "cached", "computed before"), JournalStep("b", "B", "run"))
    found = views(
        [
            Entry(Kind.OPENED, 1.0, driver=1, steps=steps),
            Entry(Kind.STARTING, 2.0, "a", attempt=1),
            Entry(Kind.STARTING, 2.0, "b", attempt=1),
            Entry(Kind.ENDED, 3.0, "a", verdict="completed"),
            Entry(Kind.ENDED, 3.0, "nobody", verdict="completed"),
            Entry(Kind.OPENED, 4.0, driver=2, steps=later),
        ]
    )
    assert {name: (view.state, view.attempts) for name, view in found.items()} == {
        "a": ("cached", [1]),
        "b": ("waiting", [1]),
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [(b"", ""), (b"\n\n", ""), (b"a\nb", "b"), (b"x" * 9999, "x" * 200), (b"\xff\x00ok\n", "\ufffdok")],
)
def test_the_last_line_of_a_log(tmp_path: Path, text: bytes, line: str) -> None:
    """The last that says something, printable and short."""
    (tmp_path / "log").write_bytes(text)
    assert last_line(tmp_path / "log") == line
    assert last_line(None) == last_line(tmp_path / "none") == ""


# Logs.


def read_all(tail: Tail) -> bytes:
    """What a tail gives until it gives nothing."""
    found = b""
    while block := tail.read():
        assert block.endswith(b"\n")
        found += block
    return found


def test_a_log_that_grows(tmp_path: Path) -> None:
    """Whole lines as they come; one that stays without an end comes with one when the log is complete."""
    log = tmp_path / "log"
    tail = Tail(lambda: log if log.exists() else None)
    assert tail.read() == b""
    log.write_bytes(b"a\nb")
    assert read_all(tail) == b"a\n"
    with log.open("ab") as file:
        file.write(b"c\nd")
    assert read_all(tail) == b"bc\n"
    assert not tail.is_done
    tail.is_complete = True
    assert read_all(tail) == b"d\n"
    assert tail.is_done


def test_a_log_that_is_replaced_by_the_whole(tmp_path: Path) -> None:
    """An engine may write it anew at its end: nothing comes twice."""
    log = tmp_path / "log"
    log.write_bytes(b"a\nb\n")
    tail = Tail(lambda: log)
    assert read_all(tail) == b"a\nb\n"
    (tmp_path / "new").write_bytes(b"a\nb\nc\n")
    (tmp_path / "new").replace(log)
    assert read_all(tail) == b"c\n"


def test_a_line_longer_than_a_piece(tmp_path: Path) -> None:
    """It comes whole."""
    log, text = tmp_path / "log", b"x" * (3 * PIECE + 7) + b"\nshort\n"
    log.write_bytes(text)
    assert read_all(Tail(lambda: log)) == text


def test_logs_of_all_attempts_by_all_drivers(tmp_path: Path) -> None:
    """Those of an earlier driver, of retries, and of a job that a later driver took over: each line once."""
    place = as_process(tmp_path, 1)
    driver = place.open_run([record("a"), record("b")], "first")
    opened(driver, "a", "b")
    logs = []
    for name in ("a", "b"):
        logs.append(place.claim(record(name), "first").directory / "out.log")
        driver.write(Entry(Kind.STARTING, 2.0, name, attempt=1))
    logs[0].write_bytes(b"a1\n")
    logs[1].write_bytes(b"b1\nhal")
    here = as_process(tmp_path, 2, 3)

    def taken_over() -> None:
        second = as_process(tmp_path, 3, 2)
        drivers.append(second.drive("first"))
        opened(drivers[0], "a", "b")
        # The job of a goes on under its number; b is tried again.
        drivers[0].write(Entry(Kind.STARTING, 3.0, "a", attempt=1))
        again = second.claim(record("b"), "first")
        (again.directory / "out.log").write_bytes(b"b2\n")
        drivers[0].write(Entry(Kind.STARTING, 3.0, "b", attempt=2))

    def ended() -> None:
        with logs[0].open("ab") as file:
            file.write(b"a2\nlast")
        drivers[0].write(Entry(Kind.ENDED, 4.0, "a", verdict="completed"))
        drivers[0].write(Entry(Kind.ENDED, 4.0, "b", verdict="completed"))
        drivers[0].finish("completed")

    drivers: list[Driver] = []
    moves: Iterator[Callable[[], None]] = iter([taken_over, ended, *[lambda: None] * 50])
    follower = LogFollower(here, Watch(here, "first", fast(100.0, does=lambda: next(moves)())), None)
    found: dict[str, bytes] = {"a": b"", "b": b""}
    for step, block in follower.lines():
        found[step] += block
    assert found == {"a": b"a1\na2\nlast\n", "b": b"b1\nhal\nb2\n"}


def test_logs_of_some_steps_end_with_them(tmp_path: Path) -> None:
    """The run need not have ended; with a number only that attempt's log is shown."""
    place = as_process(tmp_path, 1)
    driver = place.open_run([record("a"), record("b")], "first")
    opened(driver, "a", "b")
    for number in (1, 2):
        attempt = place.claim(record("a"), "first")
        (attempt.directory / "out.log").write_text(f"a{number}\n")
        driver.write(Entry(Kind.STARTING, 2.0, "a", attempt=number))
        place._attempts.end(attempt, {})
    driver.write(Entry(Kind.ENDED, 3.0, "a", verdict="failed"))
    here = as_process(tmp_path, 2, 1)
    both = LogFollower(here, Watch(here, "first", fast()), ("a",))
    assert b"".join(block for _, block in both.lines()) in (b"a1\na2\n", b"a2\na1\n")
    second = LogFollower(here, Watch(here, "first", fast()), ("a",), attempt=2)
    assert list(second.lines()) == [("a", b"a2\n")]
