"""What the live display draws: one row a step that matters now, tasks with bars, and one line for all.

Owns the layout, for any width and height: never more rows than the screen has, names cut rather than lines
wrapped. The only module that knows rich; it is imported when something is drawn, for that takes a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TextIO

import click
from rich.console import Console, ConsoleDimensions, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from dispatch.cli.output import STYLES
from dispatch.cli.progress.story import LINGER, Stage, StepStory, Story, TaskStory
from dispatch.cli.progress.words import clean, rate
from dispatch.dispatcher.work import Verdict
from dispatch.units import format_duration, format_size

_STYLES = {
    Stage.PENDING: "dim",
    Stage.STARTING: "blue",
    Stage.RUNNING: "blue",
    Stage.RETRYING: "yellow",
    Stage.HELD: "yellow",
}
_HEADS = ("step", "state", "time", "try", "image", "cpu", "memory", "last line")
_RIGHT = ("time", "try", "cpu", "memory")
_BAR = 24
_TASKS = 8
# Of the steps that only wait, the next few are of interest.
_NEXT = 6
_SHORTEST_LAST = 24
# Bytes of a step's last line that are looked at: more than any screen is wide.
_LAST = 1000


class Screen:
    """Draws on a terminal. Used by one thread.

    What others write to ``sys.stderr`` meanwhile comes out above what is drawn.
    """

    def __init__(self, file: TextIO, *, colour: bool, environ: Mapping[str, str]) -> None:
        known = {name: environ[name] for name in ("TERM", "COLORTERM") if name in environ}
        # Neither COLUMNS nor LINES: the terminal itself knows when it is resized.
        self.console = Console(
            file=file, force_terminal=True, no_color=not colour, highlight=False, markup=False, _environ=known
        )
        self._colour = colour
        self._drawn: tuple[ConsoleDimensions, list[Text]] | None = None
        self._live = Live(
            console=self.console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            vertical_overflow="crop",
        )

    def open(self) -> None:
        """Hide the cursor."""
        self._live.start()

    def close(self) -> None:
        """Take away what was drawn, and show the cursor."""
        self._live.stop()

    def draw(self, lines: Sequence[str], rows: Sequence[Text]) -> None:
        """Print lines for good, and draw the rows below them in the place of those drawn before.

        What is on the screen already is not drawn again.
        """
        state = (self.console.size, list(rows))
        if not lines and state == self._drawn:
            return
        self._drawn = state
        # Buffered, so that all of it is one write: nothing flickers.
        with self.console:
            if lines:
                text = "\n".join(lines) + "\n"
                raw = _Raw(text if self._colour else click.unstyle(text))
                self.console.print(raw, soft_wrap=True, end="")
            self._live.update(Group(*rows), refresh=True)


@dataclass(frozen=True)
class _Raw:
    """Text that is printed as it is: taking 200 000 lines apart and together again takes many seconds."""

    text: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Segment(self.text)


def frame(story: Story, last: Callable[[StepStory], str], width: int, height: int) -> list[Text]:
    """Lay out everything for a screen; with the lock of the story held."""
    tasks = story.working()
    room = max(height - 1, 1)
    foot = [_overall(story, width)] if story.steps else []
    shown = tasks[: max(min(_TASKS, room - len(foot) - 2), 1)] if tasks else []
    below = [*_tasks(shown, len(tasks) - len(shown), story.clock(), width), *foot]
    # A header and one row are the least that says more than the line at the foot.
    free = room - len(below)
    above = _table(story, last, width, free) if story.steps and free >= 2 else []
    return [*above, *below][-room:]


def _table(story: Story, last: Callable[[StepStory], str], width: int, free: int) -> list[Text]:
    steps = list(islice(_important(story), free))
    if not steps:
        return []
    hidden = _hidden(story, steps)
    if len(steps) + 1 + bool(hidden) > free:
        steps = steps[: max(free - 2, 1)]
        hidden = _hidden(story, steps)
    columns = _columns(story, steps, width)
    lines = [_line(columns, dict(zip(_HEADS, _HEADS, strict=True)), "bold")]
    lines += [_line(columns, _cells(step, story.clock(), last), _style(step)) for step in steps]
    if hidden and len(lines) < free:
        lines.append(Text(f"and {hidden}", style="dim"))
    return [_cut(line, width) for line in lines]


def _important(story: Story) -> Iterator[StepStory]:
    """The steps worth a row, the most important first: at work, to be tried again, held up, just ended."""
    yield from story.at(Stage.RUNNING)
    yield from story.at(Stage.STARTING)
    yield from story.at(Stage.RETRYING)
    yield from story.at(Stage.HELD)
    now = story.clock()
    yield from (step for step in reversed(story.recent) if now - step.since < LINGER)
    yield from islice(story.pending.values(), _NEXT)


def _hidden(story: Story, shown: Iterable[StepStory]) -> str:
    """What has no row, in numbers."""
    seen = {id(step) for step in shown}
    working = sum(id(step) not in seen for step in story.active.values())
    waiting = len(story.pending) - sum(step.stage is Stage.PENDING for step in shown)
    counts = ((working, "more at work"), (waiting, "waiting"))
    return ", ".join(f"{count} {what}" for count, what in counts if count)


def _columns(story: Story, steps: Sequence[StepStory], width: int) -> dict[str, int]:
    """How wide which column is; what there is no room for, or nothing to say in, is left out."""
    names = max(len(step.name) for step in steps)
    images = max(len(step.step.image) for step in steps)
    columns = {"step": max(min(names, max(width // 4, 10)), 4), "state": 9, "time": 8}
    if any(step.attempt > 1 for step in story.active.values()):
        columns["try"] = 3
    if images:
        columns["image"] = max(min(images, width // 6), 5)
    if any(step.usage for step in steps):
        columns |= {"cpu": 4, "memory": 8}
    # What a step says last tells most; what is the same all the time goes first.
    for column in ("image", "cpu", "memory", "try"):
        if _rest(columns, width) >= _SHORTEST_LAST:
            break
        columns.pop(column, None)
    if _rest(columns, width) > 0:
        columns["last line"] = _rest(columns, width)
    return columns


def _rest(columns: Mapping[str, int], width: int) -> int:
    return width - sum(columns.values()) - 2 * len(columns)


def _cells(step: StepStory, now: float, last: Callable[[StepStory], str]) -> dict[str, str]:
    stage, usage = step.stage, step.usage
    state = step.outcome.verdict.value if step.outcome is not None else stage.value
    since = step.took if stage is Stage.ENDED else now - step.since
    said = clean(step.reason[:_LAST])
    if stage in (Stage.RUNNING, Stage.STARTING):
        said = clean(last(step)[-_LAST:])
    elif stage is Stage.RETRYING:
        said = f"in {_elapsed(step.due - now)}: {said}" if step.due > now else f"now: {said}"
    elif stage is Stage.PENDING:
        said = f"needs {', '.join(step.step.needs)}" if step.step.needs else ""
    return {
        "step": step.name,
        "state": state,
        "time": _elapsed(since) if since is not None and stage is not Stage.PENDING else "",
        "try": str(step.attempt or ""),
        "image": step.step.image,
        "cpu": f"{usage.cpus:.1f}" if usage else "",
        "memory": format_size(usage.memory) if usage else "",
        "last line": said,
    }


def _elapsed(seconds: float) -> str:
    """A duration without tenths: they would only flicker."""
    return f"{int(seconds)} s" if 1.0 <= seconds < 60 else format_duration(seconds)


def _style(step: StepStory) -> str:
    return STYLES[step.outcome.verdict.value] if step.outcome is not None else _STYLES[step.stage]


def _line(columns: Mapping[str, int], cells: Mapping[str, str], style: str) -> Text:
    """One row. The colour is the state's alone; a header, and what waits, have their style throughout."""
    line = Text(no_wrap=True)
    whole = style if style in ("bold", "dim") else ""
    for number, (column, width) in enumerate(columns.items()):
        cell = Text(cells[column], style=style if column == "state" else whole, no_wrap=True)
        cell.truncate(width, overflow="ellipsis")
        gap = " " * (width - cell.cell_len)
        parts = (gap, cell) if column in _RIGHT else (cell, gap)
        line = line.append("  " if number else "").append_text(Text.assemble(*parts))
    line.rstrip()
    return line


def _tasks(tasks: Sequence[TaskStory], more: int, now: float, width: int) -> list[Text]:
    lines = []
    for task in tasks:
        took = _elapsed(now - task.began)
        if task.total:
            share = min(task.bytes / task.total, 1.0)
            size = f"{format_size(task.bytes)} of {format_size(task.total)}"
            # What has all been sent may take a while to be taken in: that is no rate.
            speed = f"  {rate(task, now)}" if share < 1 else ""
            line = _bar(share, width).append(f"  {share:4.0%}  {task.name}  {size}{speed}  {took}")
        else:
            size = f"  {format_size(task.bytes)}  {rate(task, now)}" if task.bytes else ""
            line = Text(f"{' ' * _bar_width(width)}        {task.name}{size}  {took}")
        lines.append(_cut(line, width))
    if more > 0 and lines:
        lines[-1] = _cut(lines[-1].append(f"  and {more} more"), width)
    return lines


def _overall(story: Story, width: int) -> Text:
    """One line for all: how many of how many, what became of them, how long it has been, and will be."""
    ended = sum(story.verdicts.values())
    total = len(story.steps) + story.cached
    done = ended + story.cached
    line = _bar(done / total, width).append(f"  {done}/{total}", style="bold")
    line.append(f"  {_elapsed(story.clock() - story.began)}")
    if story.left is not None and done < total:
        line.append(f", about {_elapsed(max(story.left, 1.0))} left")
    cached = story.cached + story.verdicts[Verdict.CACHED]
    counts = [(cached, "cached", "cyan")]
    counts += [
        (story.verdicts[verdict], verdict.value, STYLES[verdict.value])
        for verdict in (Verdict.FAILED, Verdict.SKIPPED, Verdict.CANCELLED)
    ]
    counts += [(story.retries, "retried", "yellow")]
    between = "  "
    for count, what, colour in counts:
        if count:
            line.append(between).append(f"{count} {what}", style=colour)
            between = ", "
    return _cut(line, width)


def _bar(share: float, width: int) -> Text:
    room = _bar_width(width)
    full = int(share * room)
    return Text.assemble(("━" * full, "green"), ("─" * (room - full), "dim"))


def _bar_width(width: int) -> int:
    return min(_BAR, width // 4)


def _cut(line: Text, width: int) -> Text:
    line.no_wrap = True
    line.truncate(width, overflow="ellipsis")
    return line
