"""How a run's end is told: in lines, in JSON, and in Markdown that no step can break out of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from dispatch.app.running import RunSummary
from dispatch.cli.progress.github import LIMIT, StepRow, append, escaped, fenced, fitting, markdown
from dispatch.cli.progress.story import Story, Watched, WatchedStep
from dispatch.cli.progress.summary import Account, account, ends
from dispatch.dispatcher import StepOutcome, Verdict
from dispatch.engine.base import Event, JobState, Usage
from dispatch.info import AttemptFacts, StepInfo, StepRecord, StepState
from dispatch.testing.plans import KnownResults, plan_steps
from dispatch.workspace.local import LocalWorkspace

BEGAN = datetime(2026, 1, 1, tzinfo=timezone.utc)
FULL = Account(
    run="calm-otter",
    state="failed",
    seconds=75.04,
    steps=9,
    verdicts={Verdict.COMPLETED: 3, Verdict.CACHED: 4, Verdict.FAILED: 1, Verdict.SKIPPED: 1},
    saved=3725.0,
    attempts={"train": 3},
    peak=("train", 3 * 1024**3),
    results="/ws/runs/calm-otter",
)


def info(record: StepRecord, seconds: float) -> StepInfo:
    """A completed step that took so long."""
    facts = AttemptFacts(StepState.COMPLETED, BEGAN, BEGAN + timedelta(seconds=seconds))
    return StepInfo(record, StepState.COMPLETED, facts)


def finished(tmp_path: Path) -> tuple[RunSummary, Story, LocalWorkspace]:
    """A run of which two names are one cached step, one more was found in the middle, and two ran."""
    steps: Mapping[str, Mapping[str, object]] = {
        "one": {"type": "t", "n": 1},
        "same": {"type": "t", "n": 1},
        "two": {"type": "t", "n": 2},
        "three": {"type": "t", "n": 3},
        "four": {"type": "t", "n": 4},
    }
    first = plan_steps(steps)
    plan = plan_steps(steps, known=KnownResults.of(first["one"]))
    records = {step.node.name: step.record for step in plan.steps}
    one, two = records["one"], records["two"]
    assert one is not None
    assert two is not None
    story = Story(lambda: 0.0, lambda: 0.0)
    story.watch(Watched([WatchedStep(name) for name in ("two", "three", "four")]))
    for attempt in (1, 2):
        story.starting("three", attempt)
        story.running("three", Event(f"three.{attempt}", JobState.RUNNING, 0.0))
        story.used({f"three.{attempt}": Usage(1.0, 10, 50 * attempt)})
    story.starting("four", 7)
    outcomes = {
        "one": StepOutcome("one", Verdict.CACHED),
        "same": StepOutcome("same", Verdict.CACHED),
        "two": StepOutcome("two", Verdict.CACHED, "", info(two, 5)),
        "three": StepOutcome("three", Verdict.COMPLETED),
        "four": StepOutcome("four", Verdict.COMPLETED),
    }
    summary = RunSummary("r", plan, outcomes, {one.unique_id: info(one, 100)})
    return summary, story, LocalWorkspace(tmp_path / "ws")


def test_counting_up(tmp_path: Path) -> None:
    """A step under two names saves its time once; attempts are those of this run, memory the most of all."""
    summary, story, workspace = finished(tmp_path)
    found = account(summary, story, workspace, 9.0)
    assert found == Account(
        run="r",
        state="completed",
        seconds=9.0,
        steps=5,
        verdicts={Verdict.CACHED: 3, Verdict.COMPLETED: 2},
        saved=105.0,
        attempts={"three": 2},
        peak=("three", 100),
        results=str(tmp_path / "ws/runs/r"),
    )
    assert [(end.name, end.state, end.seconds) for end in ends(summary, workspace)] == [
        ("one", "cached", 100.0),
        ("same", "cached", 100.0),
        ("two", "cached", 5.0),
        ("three", "completed", None),
        ("four", "completed", None),
    ]


def test_in_lines() -> None:
    """The first line is short and always there; what is not known is left out."""
    assert FULL.lines() == [
        "run calm-otter: failed, 4 of 9 steps cached",
        "  took 1 m 15 s: 3 ran, 1 failed, 1 skipped",
        "  saved by the cache: 1 h 02 m, as long as its steps took",
        "  attempts: train 3",
        "  peak memory: 3 GiB in train",
        "  results: /ws/runs/calm-otter",
    ]
    assert Account("r", "completed", 0.2, 2, {Verdict.CACHED: 2}).lines() == [
        "run r: completed, 2 of 2 steps cached",
        "  took 200 ms",
    ]
    many = replace(FULL, attempts={f"s{number}": 2 for number in range(8)})
    assert "  attempts: s0 2, s1 2, s2 2, s3 2, s4 2 and 3 more steps" in many.lines()


def test_in_json() -> None:
    """The same facts, in seconds and bytes; a verdict that nobody has is 0, what is not known null."""
    assert FULL.to_json() == {
        "seconds": 75.04,
        "counts": {"cached": 4, "completed": 3, "failed": 1, "skipped": 1, "cancelled": 0},
        "saved_seconds": 3725.0,
        "attempts": {"train": 3},
        "peak_memory": {"step": "train", "bytes": 3 * 1024**3},
        "results": "/ws/runs/calm-otter",
    }
    bare = Account("r", "completed", 0.2, 2, {}).to_json()
    assert (bare["saved_seconds"], bare["peak_memory"], bare["results"]) == (None, None, None)


HOSTILE = "a | b `c` <img src=x> [x](http://e) *b* _i_ $m$ @team\n| --- |\n# head\x1b[31m\x00"


def test_markdown(tmp_path: Path) -> None:
    """The whole of it: state, facts, a table with what failed first, and the end of its log."""
    log = tmp_path / "out.log"
    log.write_text("".join(f"line {number}\n" for number in range(30)) + "````\n</details>\n\x1b[31mred\n")
    rows = [
        StepRow("good", "completed", "3.0 s", "sklearn", 1),
        StepRow("bad", "failed", "1.0 s", "here", 2, True, HOSTILE, log),
    ]
    assert markdown(FULL, rows, 10, 10) == (
        "### Run calm-otter: failed\n"
        "\n"
        "- took 1 m 15 s&#58; 3 ran, 1 failed, 1 skipped\n"
        "- saved by the cache&#58; 1 h 02 m, as long as its steps took\n"
        "- attempts&#58; train 3\n"
        "- peak memory&#58; 3 GiB in train\n"
        "- results&#58; /ws/runs/calm-otter\n"
        "\n"
        "| step | state | time | image | attempts |\n"
        "| --- | --- | ---: | --- | ---: |\n"
        "| bad | failed | 1.0 s | here | 2 |\n"
        "| good | completed | 3.0 s | sklearn | 1 |\n"
        "\n"
        f"**bad** failed: {escaped(HOSTILE)}\n"
        "\n"
        "<details><summary>the last lines of bad</summary>\n"
        "\n"
        "`````text\n"
        + "".join(f"line {number}\n" for number in range(13, 30))
        + "````\n</details>\nred\n`````\n\n</details>\n\n"
    )


def test_nothing_special_is_left() -> None:
    """Of what Markdown and HTML would take for theirs nothing is left; what is read is the same."""
    text = escaped(HOSTILE)
    assert not set("\n\x1b\x00|`<>[]*_@\\~") & set(text)
    assert text.startswith("a &#124; b &#96;c&#96; &#60;img")


@pytest.mark.parametrize(
    ("text", "fence"), [("plain", "```"), ("a ``` b", "````"), ("`" * 9, "`" * 10), ("``", "```")]
)
def test_fences_are_long_enough(text: str, fence: str) -> None:
    """No run of backticks in the text is as long as its fence."""
    assert fenced(text) == [f"{fence}text", text, fence]


def row(number: int, tmp_path: Path) -> StepRow:
    """A failed step with a long log."""
    log = tmp_path / "long.log"
    if not log.exists():
        log.write_text("".join("x" * 5000 + "\n" for _ in range(50)))
    return StepRow(f"step_{number}", "failed", "1 s", "here", 1, True, "no " * 3000, log)


def test_it_fits(tmp_path: Path) -> None:
    """However many steps and however long their logs, GitHub takes it; what is left out is said."""
    rows = [row(number, tmp_path) for number in range(3000)]
    text = fitting(FULL, rows, LIMIT)
    assert text is not None
    assert 50_000 < len(text.encode()) <= LIMIT
    assert "more steps." in text
    assert "more failures." in text
    short = fitting(FULL, rows, 1000)
    assert short is not None
    assert "3000 more failures." in short
    assert fitting(FULL, rows, 100) is None


def test_it_is_appended(tmp_path: Path) -> None:
    """What other commands of the same job wrote stays; a file that is full already is left as it is."""
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    assert append(path, FULL, []) is None
    assert path.read_text().startswith("before\n### Run calm-otter: failed\n")
    path.write_text("x" * (LIMIT - 10))
    said = append(path, FULL, [])
    assert said is not None
    assert "no room is left" in said
    assert path.stat().st_size == LIMIT - 10


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """It is a note with the reason, and no error."""
    said = append(tmp_path / "absent" / "summary.md", FULL, [])
    assert said is not None
    assert said.endswith("summary.md: the summary cannot be written: No such file or directory")
