"""How values become text: tables and JSON on stdout, progress on stderr."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import click

SCHEMA = 1


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON object with the version of its schema."""
    click.echo(json.dumps({"schema": SCHEMA, **document}, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, err: bool = False) -> None:
    """Print a table on stdout (or stderr); columns are never cut, so that a pipe gets what a terminal shows.

    Not by rich: importing it takes a third of a run in which everything is cached.
    """
    lines = [tuple(columns), *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    for number, line in enumerate(lines):
        cells = []
        for text, width in zip(line, widths, strict=True):
            style = {"bold": True} if number == 0 else {"fg": STYLES.get(text)}
            cells.append(click.style(text, **style) + " " * (width - len(text)))
        click.echo("  ".join(cells).rstrip(), err=err)


# How what is said of a step is coloured, wherever it is said.
STYLES = {
    "completed": "green",
    "cached": "cyan",
    "failed": "red",
    "skipped": "yellow",
    "cancelled": "yellow",
    "running": "blue",
    "orphaned": "yellow",
    "unattended": "yellow",
}


def note(text: str) -> None:
    """Print a line of progress on stderr."""
    click.echo(text, err=True)


def moment(time: datetime | None) -> str:
    """A time in the reader's zone, to the second; a dash where there is none."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S") if time else "-"


def iso(time: datetime | None) -> str | None:
    """A time for JSON."""
    return time.isoformat() if time else None
