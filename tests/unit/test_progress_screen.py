"""The live table: what is on the screen in every situation, and how it gets there."""

from __future__ import annotations

import io
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text

from dispatch.cli.progress.screen import Screen, frame
from dispatch.cli.progress.words import clean
from dispatch.dispatcher import Verdict

GOLDEN = Path(__file__).parents[1] / "golden" / "progress"
DRAWER: dict[str, Any] = runpy.run_path(str(GOLDEN.parent / "render_progress.py"))
VARIANTS: dict[str, str] = DRAWER["variants"]()
pipeline, many = DRAWER["pipeline"], DRAWER["many"]

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class Terminal(io.StringIO):
    """A terminal that remembers each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def isatty(self) -> bool:
        """It is one."""
        return True

    def write(self, text: str, /) -> int:
        """Remember."""
        self.writes.append(text)
        return super().write(text)


def screen(file: Terminal, colour: bool = True) -> Screen:
    """A screen on a terminal that knows colours."""
    return Screen(file, colour=colour, environ={"TERM": "xterm-256color"})


@pytest.mark.parametrize("name", VARIANTS)
def test_drawn_as_reviewed(name: str) -> None:
    """What is drawn is in the golden file (`make golden` renews them)."""
    assert VARIANTS[name] == (GOLDEN / name).read_text("utf-8")


def test_golden_files_are_of_today() -> None:
    """There is no golden file without a case."""
    assert {path.name for path in GOLDEN.iterdir()} == set(VARIANTS)


@pytest.mark.parametrize("width", [*range(1, 50), 200])
@pytest.mark.parametrize("height", [1, 2, 3, 5, 24])
def test_never_larger_than_the_screen(width: int, height: int) -> None:
    """Whatever the size, no row is wider, and there are fewer rows than the screen has (but one)."""
    for play in (pipeline(), many()):
        rows = frame(play.story, lambda _: "x" * 300, width, height)
        assert len(rows) <= max(height - 1, 1)
        assert all(row.cell_len <= width for row in rows), [row.plain for row in rows]


def test_each_draw_is_one_write() -> None:
    """Lines and rows come together, so nothing flickers; at the end only the lines are left."""
    file = Terminal()
    drawn = screen(file)
    drawn.open()
    before = len(file.writes)
    drawn.draw(["a: \x1b[32mcompleted\x1b[0m"], [Text("row")])
    assert len(file.writes) == before + 1
    drawn.draw([], [Text("row two")])
    assert len(file.writes) == before + 2
    drawn.draw([], [Text("row two")])
    assert len(file.writes) == before + 2
    drawn.close()
    said = file.getvalue()
    assert said.index(HIDE) < said.index("completed") < said.index("row") < said.rindex(SHOW)
    assert "a: \x1b[32mcompleted\x1b[0m\n" in said


def test_without_colour() -> None:
    """Where colours are not welcome there are none, neither in lines nor in rows."""
    file = Terminal()
    drawn = screen(file, colour=False)
    drawn.open()
    drawn.draw(["a: \x1b[32mcompleted\x1b[0m"], frame(pipeline().story, lambda _: "", 80, 24))
    drawn.close()
    assert "a: completed\n" in file.getvalue()
    assert "\x1b[3" not in file.getvalue()


def test_what_others_write_goes_above(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning that somebody prints on stderr meanwhile does not break the rows, and is not lost."""
    file = Terminal()
    monkeypatch.setattr(sys, "stderr", file)
    drawn = screen(file)
    drawn.open()
    drawn.draw([], [Text("row")])
    sys.stderr.write("a warning\n")
    drawn.close()
    assert file.getvalue().count("a warning\n") == 1
    assert sys.stderr is file


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("plain", "plain"),
        ("one\ttwo", "one     two"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("10%\r20%\r", "20%"),
        ("\x1b[2J\x1b[H\x1bc", ""),
        ("bell\x07 null\x00", "bell\N{REPLACEMENT CHARACTER} null\N{REPLACEMENT CHARACTER}"),
        ("\x9b31m", "\N{REPLACEMENT CHARACTER}31m"),
        ("gpj.\N{RIGHT-TO-LEFT OVERRIDE}exe", "gpj.\N{REPLACEMENT CHARACTER}exe"),
        ("two\nlines", "two lines"),
        ("[bold]no markup[/bold]", "[bold]no markup[/bold]"),
    ],
)
def test_steps_cannot_move_the_cursor(said: str, shown: str) -> None:
    """Of what a step prints, nothing is left that a terminal would obey."""
    assert clean(said) == shown


def test_those_that_just_ended_stay_for_a_moment() -> None:
    """A row does not vanish at once, but it does after two seconds."""
    play = many()
    rows = [row.plain for row in frame(play.story, lambda _: "", 80, 60)]
    assert any("completed" in row for row in rows)
    play.wait(3)
    rows = [row.plain for row in frame(play.story, lambda _: "", 80, 60)]
    assert not any("completed" in row for row in rows)


def test_everything_that_ended_is_counted() -> None:
    """At the end the bar is full, and nothing is left to wait for."""
    play = pipeline()
    for name in ("train_small", "train_large", "stale", "summary"):
        play.end(name, Verdict.CANCELLED)
    play.wait(3)
    play.story.left = 5.0
    assert [row.plain for row in frame(play.story, lambda _: "", 120, 24)] == [
        "━" * 24 + "  11/11  1 m 14 s  3 cached, 1 failed, 2 skipped, 4 cancelled, 1 retried"
    ]
