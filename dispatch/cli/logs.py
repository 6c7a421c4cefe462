"""`dispatch logs`: what steps printed, and with -f what they print."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dispatch.app.records import log, log_of, named, steps_of
from dispatch.cli.options import open_app, workspace_option
from dispatch.cli.output import note
from dispatch.errors import ConfigurationError

if TYPE_CHECKING:
    from dispatch.workspace.base import Workspace

# Told apart on dark and on light, and none of them the red of an error.
COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green", "bright_magenta")


@click.command("logs")
@click.argument("run")
@click.argument("steps", metavar="[STEP]...", nargs=-1)
@click.option("-f", "--follow", is_flag=True, help="Go on as the logs grow, until the run or the steps end.")
@click.option("--attempt", type=click.IntRange(min=1), help="Of this attempt only, counted from 1.")
@workspace_option
def command(
    run: str, steps: tuple[str, ...], follow: bool, attempt: int | None, workspace: str | None
) -> None:
    """Print the logs of RUN (`latest` is a run, too), or of these steps of it.

    Of one STEP, the bytes as they are; of several, each line with its step in front.
    """
    here = open_app(workspace).workspace
    name = named(here, run)
    known = steps_of(here, name)
    # A step that is not there is said before anything is printed.
    logs = {step: log_of(here, name, step, attempt) for step in steps or known}
    if follow:
        _follow(here, name, steps, attempt)
    elif len(steps) == 1:
        found = logs[steps[0]] if attempt is not None else log(here, name, steps[0])
        if found is None:
            raise ConfigurationError(
                f"step {steps[0]!r}: attempt {attempt} has no log", f"see `dispatch show {name}`"
            )
        _print_one(found)
    else:
        _print_all(logs, known, chosen=bool(steps))


def _print_one(path: Path) -> None:
    import shutil

    with path.open("rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.flush()


def _print_all(logs: dict[str, Path | None], known: Sequence[str], *, chosen: bool) -> None:
    from dispatch.app.logtail import Tail

    prefixes = Prefixes(known, logs)
    for step, path in logs.items():
        if path is None:
            if chosen:
                note(f"step {step}: has no such log")
            continue
        tail = Tail(functools.partial(_same, path), is_complete=True)
        while block := tail.read():
            prefixes.write(step, block)


def _same(path: Path) -> Path:
    return path


def _follow(here: Workspace, run: str, steps: tuple[str, ...], attempt: int | None) -> None:
    from dispatch.app.logtail import LogFollower
    from dispatch.app.records import ORPHANED
    from dispatch.app.watching import Watch, watched
    from dispatch.cli.follow import NOT_WATCHING
    from dispatch.cli.status import CLIENT_GONE

    watch = Watch(here, watched(here, run))
    follower = LogFollower(here, watch, steps or None, attempt)
    known = steps_of(here, run)
    prefixes = Prefixes(known, steps or known) if len(steps) != 1 else Prefixes((), ())
    try:
        for step, block in follower.lines():
            prefixes.write(step, block)
    except KeyboardInterrupt:
        note(NOT_WATCHING.format(run))
        click.get_current_context().exit(130)
    if watch.state == ORPHANED:
        note(f"run {run}: {CLIENT_GONE.format(run)}")


class Prefixes:
    """Puts a step's name before each of its lines: aligned, and always in the same colour for a step.

    Without any ``shown`` steps lines stay as they are.
    """

    def __init__(self, known: Sequence[str], shown: Iterable[str]) -> None:
        width = max((len(step) for step in shown), default=0)
        context = click.get_current_context()
        colour = sys.stdout.isatty() if context.color is None else context.color
        self._prefixes: dict[str, bytes] = {}
        for number, step in enumerate(known):
            words = f"{step.ljust(width)} | "
            styled = click.style(words, fg=COLOURS[number % len(COLOURS)]) if colour else words
            self._prefixes[step] = styled.encode() if width else b""

    def write(self, step: str, block: bytes) -> None:
        """Print lines of a step."""
        prefix = self._prefixes.get(step, b"")
        if prefix:
            ended = block.endswith(b"\n")
            lines = block[:-1] if ended else block
            block = prefix + lines.replace(b"\n", b"\n" + prefix) + b"\n"
        sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()
