"""A run's summary as Markdown, for the file that GitHub Actions shows beside a job.

Owns the Markdown: what steps and errors say cannot break out of its cell or fence. Source of the format and
of the limit: GitHub's documentation, "Adding a job summary" (1 MiB for a step of a job).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dispatch.cli.progress.summary import Account
from dispatch.cli.progress.words import clean

LIMIT = 1024 * 1024
ROWS = 500
FAILURES = 20
LOG_LINES = 20
_LINE = 2000
_LOG_BYTES = 1 << 16
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>&|~#!@$:()]")


@dataclass(frozen=True)
class StepRow:
    """One step, as the table shows it. ``failed`` steps come with their ``reason`` and ``log``."""

    name: str
    state: str
    time: str
    image: str
    attempts: int = 0
    failed: bool = False
    reason: str = ""
    log: Path | None = None


def append(path: Path, account: Account, rows: Sequence[StepRow]) -> str | None:
    """Append a summary to the file; return what kept it from being written, None if nothing did."""
    try:
        used = path.stat().st_size if path.exists() else 0
        text = fitting(account, rows, LIMIT - used)
        if text is None:
            return f"{path}: no room is left for the summary (GitHub takes 1 MiB)"
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        return f"{path}: the summary cannot be written: {error.strerror or error}"
    return None


def fitting(account: Account, rows: Sequence[StepRow], room: int) -> str | None:
    """Return the fullest summary of at most ``room`` bytes, None where not even the shortest fits."""
    for most_rows, most_failures in ((ROWS, FAILURES), (100, 5), (20, 1), (0, 0)):
        text = markdown(account, rows, most_rows, most_failures)
        if len(text.encode()) <= room:
            return text
    return None


def markdown(account: Account, rows: Sequence[StepRow], most_rows: int, most_failures: int) -> str:
    """Return the summary, with so many rows and failures at most: failed steps come first."""
    lines = [f"### Run {escaped(account.run)}: {account.state}", ""]
    lines += [f"- {escaped(line.strip())}" for line in account.lines()[1:]]
    ordered = sorted(rows, key=lambda row: not row.failed)
    if most_rows and ordered:
        lines += ["", "| step | state | time | image | attempts |", "| --- | --- | ---: | --- | ---: |"]
        lines += [_row(row) for row in ordered[:most_rows]]
    if len(ordered) > most_rows:
        lines += ["", f"… and {len(ordered) - most_rows} more steps."]
    failed = [row for row in ordered if row.failed]
    for row in failed[:most_failures]:
        lines += ["", *_failure(row)]
    if len(failed) > most_failures:
        lines += ["", f"… and {len(failed) - most_failures} more failures."]
    return "\n".join(lines) + "\n\n"


def escaped(text: str) -> str:
    """Return text that Markdown and HTML take as it is, on one line, in a table's cell, too."""
    line = " ".join(clean(part) for part in text[:_LINE].splitlines())
    return _SPECIAL.sub(lambda match: f"&#{ord(match[0])};", line)


def fenced(text: str) -> list[str]:
    """Return text as a block of code: its fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}text", *text.split("\n"), fence]


def _row(row: StepRow) -> str:
    cells = (row.name, row.state, row.time, row.image, str(row.attempts or "-"))
    return f"| {' | '.join(escaped(cell) for cell in cells)} |"


def _failure(row: StepRow) -> list[str]:
    lines = [f"**{escaped(row.name)}** failed: {escaped(row.reason)}"]
    end = last_lines(row.log) if row.log is not None else []
    if end:
        head = f"<details><summary>the last lines of {escaped(row.name)}</summary>"
        lines += ["", head, "", *fenced("\n".join(end)), "", "</details>"]
    return lines


def last_lines(log: Path) -> list[str]:
    """Return the last lines of a log without what a terminal would obey; none where there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_BYTES))
            text = file.read(_LOG_BYTES).decode("utf-8", "replace")
    except OSError:
        return []
    return [clean(line)[:_LINE] for line in text.rstrip().split("\n")[-LOG_LINES:]] if text.strip() else []
