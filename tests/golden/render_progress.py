"""Draws the live table in every situation that matters into text files, by default the golden ones.

``make golden`` runs it to renew the golden files beside this one. A new column or stage needs a case here.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console, Group

from dispatch.cli.progress.screen import frame
from dispatch.cli.progress.story import StepStory, Story, TaskStory, Watched, WatchedStep
from dispatch.dispatcher import StepOutcome, Verdict
from dispatch.engine.base import Event, JobState, Usage

GOLDEN = Path(__file__).parent / "progress"
GIB = 1024**3


class Play:
    """A story that is played on a clock of its own."""

    def __init__(self, steps: list[WatchedStep], cached: int = 0) -> None:
        self.now = 1000.0
        self.story = Story(lambda: self.now, lambda: self.now)
        if steps:
            self.story.watch(Watched(steps, cached, width=4))
        self.said: dict[str, str] = {}

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def run(self, name: str, attempt: int = 1) -> None:
        """Start a step, whose job runs at once."""
        self.story.starting(name, attempt)
        self.story.running(name, Event(f"{name}-id.{attempt}", JobState.RUNNING, self.now, "c0ffee", "here"))

    def end(self, name: str, verdict: Verdict = Verdict.COMPLETED, reason: str = "") -> None:
        """End a step."""
        self.story.ended(StepOutcome(name, verdict, reason))

    def use(self, name: str, cpus: float, memory: int) -> None:
        """Have a step use something."""
        self.story.used({self.story.steps[name].key: Usage(cpus, memory, memory)})

    def draw(self, width: int, height: int) -> str:
        """What is on the screen."""
        file = io.StringIO()
        console = Console(file=file, width=width, height=height, force_terminal=True, color_system=None)
        console.print(Group(*frame(self.story, self._last, width, height)))
        return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())

    def _last(self, step: StepStory) -> str:
        return self.said.get(step.name, "")


def watched(*names: str, image: str = "sklearn", needs: tuple[str, ...] = ()) -> list[WatchedStep]:
    """Steps that need the same."""
    return [WatchedStep(name, f"{name}-id", image, "train", needs) for name in names]


def pipeline() -> Play:
    """One of everything: a running, a retried, a held, a failed, a skipped and a waiting step."""
    play = Play(
        [
            *watched("digits", "words", "stale"),
            *watched("train_small", "train_large", image="torch-2.4-cuda-12.4", needs=("digits",)),
            *watched("summary", image="here", needs=("train_small", "train_large")),
            *watched("plots", "poster", needs=("words",)),
        ],
        cached=3,
    )
    play.run("digits")
    play.run("words")
    play.wait(8)
    play.end("digits")
    play.end("words", Verdict.FAILED, "ValueError: no words")
    play.end("plots", Verdict.SKIPPED, "needs 'words', which failed")
    play.end("poster", Verdict.SKIPPED, "needs 'words', which failed")
    play.run("train_small")
    play.run("train_large", attempt=2)
    play.story.held("stale", "another run works at it, host elsewhere")
    play.wait(61)
    play.use("train_large", 7.94, 12 * GIB)
    play.said["train_large"] = "epoch 3: 20%\repoch 3: 40%\x1b[0K loss \x1b[31m0.25\x1b[0m\tbest 0.24\r"
    play.story.retrying("train_small", "killed for memory: its limit is 1 GiB", 30.0)
    play.wait(2)
    play.story.left = 245.0
    return play


def many() -> Play:
    """A thousand steps, forty of them at work."""
    play = Play(watched(*(f"fold_{number:04}" for number in range(1000))))
    for number in range(40):
        play.run(f"fold_{number:04}")
        play.said[f"fold_{number:04}"] = f"line of {number}"
    play.wait(5)
    for number in range(10):
        play.end(f"fold_{number:04}")
    return play


def builds() -> Play:
    """Images on their way, before any step runs: sizes known, growing and unknown."""
    play = Play([])
    play.story.tasks += [
        TaskStory("sklearn: loading", play.now - 4, total=400 * 1024**2, bytes=100 * 1024**2),
        TaskStory("plots: installing", play.now - 2),
        TaskStory("python:3.11: pulling", play.now - 10, bytes=30 * 1024**2),
    ]
    return play


def wide() -> Play:
    """Signs that are two columns wide, and a name that is longer than its column."""
    play = Play(watched("a_step_whose_name_says_everything_there_is_to_say_about_it"))
    play.run("a_step_whose_name_says_everything_there_is_to_say_about_it")
    play.said["a_step_whose_name_says_everything_there_is_to_say_about_it"] = "学習率を下げます " * 20
    play.wait(0.25)
    return play


CASES: dict[str, tuple[Callable[[], Play], int, int]] = {
    "pipeline-120": (pipeline, 120, 30),
    "pipeline-80": (pipeline, 80, 24),
    "pipeline-40": (pipeline, 40, 24),
    "pipeline-3-rows": (pipeline, 80, 3),
    "pipeline-1-row": (pipeline, 80, 1),
    "many-80": (many, 80, 24),
    "many-120": (many, 120, 60),
    "builds": (builds, 100, 24),
    "wide": (wide, 80, 24),
}


def variants() -> dict[str, str]:
    """Return every case by its file name."""
    return {f"{name}.txt": play().draw(width, height) for name, (play, width, height) in CASES.items()}


def main(directory: Path) -> None:
    """Write the cases into ``directory``, and remove files there that are none any more."""
    directory.mkdir(parents=True, exist_ok=True)
    drawn = variants()
    for old in directory.glob("*.txt"):
        if old.name not in drawn:
            old.unlink()
    for name, text in drawn.items():
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN)
