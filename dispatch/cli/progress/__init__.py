"""Progress that people like to watch, and that programs can read: on stderr, in the way the user asked for.

:func:`open_progress` makes what commands report to (``teller``), which keeps what happened (``story``) and
has one display show it (``live``, ``plain``, ``jsonlines``). ``ending`` tells how a run ended.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from dispatch.cli.progress.story import Story, Watched, WatchedStep
from dispatch.cli.progress.teller import Display, Progress
from dispatch.settings import Surroundings, read_environment

__all__ = [
    "Progress",
    "Shown",
    "Watched",
    "WatchedStep",
    "open_progress",
    "progress_option",
    "progress_options",
]

MODES = ("auto", "live", "plain", "quiet", "json")


@dataclass(frozen=True)
class Shown:
    """What the user wants to see: the mode, and whether what steps print is shown as it comes."""

    mode: str = "auto"
    logs: bool = False


_mode = click.option(
    "--progress",
    "mode",
    type=click.Choice(MODES),
    default="auto",
    show_default=True,
    help="What stderr shows: a live table, lines, only failures, or JSON lines; auto: live on a terminal.",
)
_logs = click.option(
    "--logs", is_flag=True, help="Show what the steps print as it comes, each line with its step."
)


def progress_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the choice of a mode, which it takes as ``shown``."""

    @_mode
    @functools.wraps(command)
    def packed(*arguments: Any, mode: str, **rest: Any) -> Any:
        return command(*arguments, shown=Shown(mode), **rest)

    return packed


def progress_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command that runs steps the same, and ``--logs``."""

    @_mode
    @_logs
    @functools.wraps(command)
    def packed(*arguments: Any, mode: str, logs: bool, **rest: Any) -> Any:
        return command(*arguments, shown=Shown(mode, logs), **rest)

    return packed


def open_progress(shown: Shown) -> Progress:
    """Make what a command reports to. UsageError where a live table is asked for and there is no terminal."""
    surroundings = read_environment()
    mode = _settled(shown.mode, surroundings)

    def show(story: Story, lock: threading.RLock) -> Display:
        if mode == "live":
            from dispatch.cli.progress.live import LiveDisplay

            return LiveDisplay(story, lock, colour=surroundings.colour, environ=surroundings.environ)
        if mode == "json":
            from dispatch.cli.progress.jsonlines import JsonDisplay

            return JsonDisplay(story, lock)
        from dispatch.cli.progress.plain import PlainDisplay, QuietDisplay

        return QuietDisplay(story, lock) if mode == "quiet" else PlainDisplay(story, lock)

    return Progress(show, logs=shown.logs)


def _settled(mode: str, surroundings: Surroundings) -> str:
    """The mode, where ``auto`` is decided: live where a terminal can be drawn on, and somebody may look."""
    encoding = (sys.stderr.encoding or "").lower().replace("-", "")
    if mode == "live" and not sys.stderr.isatty():
        raise click.BadParameter("live needs a terminal on stderr", param_hint="--progress")
    if mode != "auto":
        return mode
    drawn = sys.stderr.isatty() and surroundings.terminal and encoding == "utf8"
    return "live" if drawn else "plain"
