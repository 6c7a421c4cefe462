"""How values become text: tables and JSON on stdout, progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import click

SCHEMA = 1


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON object with the version of its schema."""
    click.echo(json.dumps({"schema": SCHEMA, **document}, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table on stdout; columns are never cut, so that a pipe gets what a terminal shows."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    width = max(Console(file=sys.stdout).width, 1000 if not sys.stdout.isatty() else 0)
    Console(file=sys.stdout, width=width, soft_wrap=True).print(table)


_STYLES = {
    "completed": "green",
    "cached": "cyan",
    "failed": "red",
    "skipped": "yellow",
    "cancelled": "yellow",
    "running": "blue",
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
