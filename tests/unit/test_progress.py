"""What the displays without a table say of the same events, and that of each step's log nothing is lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dispatch.cli.progress import Watched, WatchedStep
from dispatch.cli.progress.follow import LastLines, LogStream
from dispatch.cli.progress.jsonlines import JsonDisplay
from dispatch.cli.progress.live import LiveDisplay
from dispatch.cli.progress.plain import PlainDisplay, QuietDisplay
from dispatch.cli.progress.story import Stage, Story
from dispatch.cli.progress.teller import Display, Progress
from dispatch.dispatcher import StepOutcome, Verdict
from dispatch.engine.base import Event, Handle, JobState, Usage

BAD = "ValueError: \x1b[31mno"
WALL = 1_700_000_000.0

Show = Callable[[Story, threading.RLock], Display]


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """What time it is."""
        return self.now


def live(story: Story, lock: threading.RLock) -> Display:
    """A display for a terminal."""
    return LiveDisplay(story, lock, colour=False, environ={"TERM": "xterm"})


def play(show: Show, clock: Clock) -> Progress:
    """Some of everything, at the same times."""
    progress = Progress(show, clock=clock, wall=lambda: WALL + clock.now)
    with progress:
        progress("resolving")
        task = progress.task("base: loading", 4 * 1024**2)
        for _ in range(4):
            clock.now += 6
            task.advance(1024**2)
        task.done()
        progress.task("base: pulling").done(broken=True)
        steps = [WatchedStep("train", "train-id"), WatchedStep("other"), WatchedStep("behind")]
        observer = progress.watch(Watched(steps, cached=2, width=3))
        observer.starting("train", 1)
        observer.running(
            "train", Event("train-id.1", JobState.RUNNING, 1_700_000_000.0 + clock.now, "c1", "n1")
        )
        observer.waiting("other", "another run works at it")
        observer.waiting("other", "another run works at it")
        clock.now += 2
        observer.retrying("train", "killed for memory", 30.0)
        clock.now += 30
        observer.starting("train", 2)
        clock.now += 3
        observer.ended(StepOutcome("train", Verdict.FAILED, BAD))
        observer.ended(StepOutcome("behind", Verdict.SKIPPED, "needs 'train', which failed"))
        observer.ended(StepOutcome("other", Verdict.CACHED))
    progress.concluded({"run": "r", "state": "failed"}, ["run r: failed"])
    return progress


PLAIN = """\
resolving
base: loading, 4 MiB
base: loading: 2 MiB of 4 MiB, 171 KiB/s
base: loading: 4 MiB of 4 MiB, 171 KiB/s
base: loading: 4 MiB in 24.0 s, 171 KiB/s
train: started
other: waiting: another run works at it
train: killed for memory; once more in 30.0 s
train: started, attempt 2
train: failed in 3.0 s: ValueError: no
behind: skipped: needs 'train', which failed
other: cached
run r: failed
"""
QUIET = """\
train: failed in 3.0 s: ValueError: no
run r: failed
"""


@pytest.mark.parametrize(("show", "said"), [(PlainDisplay, PLAIN), (QuietDisplay, QUIET)])
def test_lines(show: Show, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each event is a line where it is shown at all; nothing goes to stdout."""
    play(show, Clock())
    assert capsys.readouterr() == ("", said)


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """One object a line, each with schema, time and event; what a step says is in it as it is."""
    play(JsonDisplay, Clock())
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {(each.pop("schema"), each.pop("time")[:10]) for each in told} == {(1, "2023-11-14")}
    train, ended = {"step": "train"}, {"event": "ended", "seconds": None, "attempts": 0}
    task: dict[str, Any] = {"event": "task", "name": "base: loading", "total": 4 * 1024**2}
    assert told == [
        {"event": "line", "text": "resolving"},
        {**task, "state": "begun", "bytes": 0, "seconds": 0.0},
        {**task, "state": "going", "bytes": 2 * 1024**2, "seconds": 12.0},
        {**task, "state": "going", "bytes": 4 * 1024**2, "seconds": 24.0},
        {**task, "state": "done", "bytes": 4 * 1024**2, "seconds": 24.0},
        {**task, "name": "base: pulling", "total": None, "state": "begun", "bytes": 0, "seconds": 0.0},
        {**task, "name": "base: pulling", "total": None, "state": "broken", "bytes": 0, "seconds": 0.0},
        {"event": "run", "steps": 3, "cached": 2, "parallelism": 3},
        {"event": "starting", **train, "attempt": 1},
        {
            "event": "running",
            **train,
            "attempt": 1,
            "key": "train-id.1",
            "engine_id": "c1",
            "node": "n1",
            "taken_over": False,
        },
        {"event": "waiting", "step": "other", "reason": "another run works at it"},
        {"event": "retrying", **train, "reason": "killed for memory", "delay": 30.0},
        {"event": "starting", **train, "attempt": 2},
        {**ended, **train, "verdict": "failed", "reason": BAD, "seconds": 3.0, "attempts": 2},
        {**ended, "step": "behind", "verdict": "skipped", "reason": "needs 'train', which failed"},
        {**ended, "step": "other", "verdict": "cached", "reason": ""},
        {"event": "summary", "run": "r", "state": "failed"},
    ]


def test_a_short_run_is_not_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    """What ends at once is told in the lines that stay, in order, without any cursor movement."""
    play(live, Clock())
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "resolving",
        "base: loading: 4 MiB in 24.0 s, 171 KiB/s",
        "train: killed for memory; once more in 30.0 s",
        "train: started, attempt 2",
        "train: failed in 3.0 s: ValueError: no",
        "behind: skipped: needs 'train', which failed",
        "other: cached",
        "run r: failed",
    ]


def test_the_story() -> None:
    """States, attempts and counts are those of the events."""
    clock = Clock()
    story = play(PlainDisplay, clock).story
    train = story.steps["train"]
    assert (train.stage, train.attempt, train.attempts, train.took) == (Stage.ENDED, 2, 2, 3.0)
    assert (story.retries, story.cached, story.active, story.pending) == (1, 2, {}, {})
    assert dict(story.verdicts) == {Verdict.FAILED: 1, Verdict.SKIPPED: 1, Verdict.CACHED: 1}


def test_a_job_that_was_taken_over_runs_since_long() -> None:
    """The engine's word counts for when a job began; a clock of its that is ahead does not."""
    clock = Clock()
    story = Story(clock, lambda: 1000.0)
    story.starting("old", 1)
    old = story.running("old", Event("old-id.1", JobState.RUNNING, 400.0))
    assert (old.since, old.taken_over) == (clock.now - 600, True)
    story.starting("ahead", 1)
    assert story.running("ahead", Event("ahead-id.1", JobState.RUNNING, 5000.0)).since == clock.now


@pytest.mark.parametrize(
    ("show", "said"),
    [(PlainDisplay, "a: started, attempt 2\na: taken over, it has run for 2 m 00 s\n"), (QuietDisplay, "")],
)
def test_taking_over_is_said(show: Show, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a job that a client before us began it is said for how long it has run."""
    clock = Clock()
    with Progress(show, clock=clock, wall=lambda: WALL + clock.now) as progress:
        observer = progress.watch(Watched([WatchedStep("a")]))
        observer.starting("a", 2)
        observer.running("a", Event("a-id.2", JobState.RUNNING, WALL + clock.now - 120.0))
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("show", "said"),
    [
        (PlainDisplay, "a: started\na: runs, see http://beaker/job/1\n"),
        (live, "a: runs, see http://beaker/job/1\n"),
        (QuietDisplay, ""),
    ],
)
def test_where_to_look_is_said(show: Show, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a job that has a page of its own, its address is."""
    clock = Clock()
    with Progress(show, clock=clock, wall=lambda: WALL + clock.now) as progress:
        observer = progress.watch(Watched([WatchedStep("a")]))
        observer.starting("a", 1)
        event = Event("a-id.1", JobState.RUNNING, WALL + clock.now, message="http://beaker/job/1")
        observer.running("a", event)
    assert said in capsys.readouterr().err


def test_usage_and_peaks() -> None:
    """What a job uses is shown while it runs; the most it used is kept over attempts."""
    story = Story(Clock(), lambda: 0.0)
    story.starting("a", 1)
    story.running("a", Event("a-id.1", JobState.RUNNING, 0.0))
    story.used({"a-id.1": Usage(1.5, 100, 300), "elsewhere.1": Usage(1.0, 1, 1)})
    step = story.of("a")
    assert (step.usage, step.peak_memory) == (Usage(1.5, 100, 300), 300)
    story.retrying("a", "oom", 1.0)
    again = story.starting("a", 2)
    assert (again.usage, again.peak_memory) == (None, 300)


def lines_of(stream: LogStream) -> list[str]:
    """All lines that can be read now."""
    found: list[str] = []
    more = True
    while more:
        lines, more = stream.read()
        found += lines
    return found


def test_a_log_is_read_while_it_grows(tmp_path: Path) -> None:
    """Lines come when they are complete, each once; the last one at the end, with or without its end."""
    log = tmp_path / "out.log"
    stream = LogStream("a.1", log)
    assert lines_of(stream) == []
    with log.open("ab", buffering=0) as file:
        file.write(b"one\ntw")
        assert lines_of(stream) == ["one"]
        file.write(b"o\n\ndrei \xc3")
        assert lines_of(stream) == ["two", ""]
        file.write(b"\xbc\nrest\xff")
    assert lines_of(stream) == ["drei ü"]
    assert list(stream.finish()) == [["rest\N{REPLACEMENT CHARACTER}"]]
    assert list(stream.finish()) == []


def test_many_lines_lose_none(tmp_path: Path) -> None:
    """200 000 lines come in order, in pieces; one that never ends comes in parts."""
    log = tmp_path / "out.log"
    log.write_text("".join(f"line {number}\n" for number in range(200_000)) + "x" * 5_000_000)
    stream = LogStream("a.1", log)
    pieces = list(stream.finish())
    lines = [line for piece in pieces for line in piece]
    assert lines[:200_000] == [f"line {number}" for number in range(200_000)]
    assert "".join(lines[200_000:]) == "x" * 5_000_000
    assert max(map(len, lines)) < 2_000_000


def test_last_lines(tmp_path: Path) -> None:
    """The last line that says something; a log is read only where it has grown."""
    log, last = tmp_path / "out.log", LastLines()
    assert (last.of(None), last.of(log)) == ("", "")
    log.write_bytes(b"one\n" * 5000 + b"two\n\n")
    assert last.of(log) == "two"
    log.write_bytes(b"x" * 10_000)
    assert last.of(log) == "x" * 4096
    last.keep(set())
    assert last.of(log) == "x" * 4096


def test_logs_come_before_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With logs, all that a step printed stands before its end, attempt by attempt."""
    progress = Progress(PlainDisplay, logs=True, clock=Clock())
    with progress:
        log = tmp_path.joinpath
        observer = progress.watch(Watched([WatchedStep("a", "a-id")], log=lambda key: log(key)))
        observer.starting("a", 1)
        log("a-id.1").write_text("one\ntw\x1b[2Jo")
        observer.retrying("a", "exit code 1", 0.0)
        observer.starting("a", 2)
        log("a-id.2").write_text("three\n")
        observer.ended(StepOutcome("a", Verdict.COMPLETED))
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "a: started",
        "a | one",
        "a | two",
        "a: exit code 1; once more in 0 ms",
        "a: started, attempt 2",
        "a | three",
        "a: completed in 0 ms",
    ]


def test_logs_come_while_a_step_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines of a step that runs are shown before it ends."""
    shown = threading.Event()

    class Seen(PlainDisplay):
        def logged(self, name: str, lines: list[str]) -> None:
            """Show, and tell."""
            super().logged(name, lines)
            shown.set()

    with Progress(Seen, logs=True) as progress:
        observer = progress.watch(Watched([WatchedStep("a", "a-id")], log=lambda key: tmp_path / key))
        observer.starting("a", 1)
        (tmp_path / "a-id.1").write_text("one\n")
        assert shown.wait(30)
    assert "a | one" in capsys.readouterr().err


def test_usage_is_asked_beside(capsys: pytest.CaptureFixture[str]) -> None:
    """Engine and workspace are asked by another thread; what they raise harms nothing but the figures."""
    asked = threading.Event()
    threads: set[int] = set()

    def usage(handles: object) -> dict[str, Usage]:
        threads.add(threading.get_ident())
        assert handles == [Handle("a-id.1", "c1")]
        asked.set()
        raise OSError("the engine has gone")

    with Progress(live) as progress:
        observer = progress.watch(Watched([WatchedStep("a", "a-id")], usage=usage))
        observer.starting("a", 1)
        observer.running("a", Event("a-id.1", JobState.RUNNING, 0.0, "c1"))
        assert asked.wait(30)
        observer.ended(StepOutcome("a", Verdict.COMPLETED))
    assert threading.get_ident() not in threads
    assert "a: completed" in capsys.readouterr().err
