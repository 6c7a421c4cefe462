"""Timing of whole processes, and the table of what came out: medians over runs, ratios within one run."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

RUNS = int(os.environ.get("DISPATCH_BENCH_RUNS", "5"))
DISPATCH = str(Path(sys.executable).with_name("dispatch"))


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, the figure, and what it is held against."""

    what: str
    measured: str
    asked: str = ""


def seconds(
    command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> float:
    """Wall time of a command; what it prints is thrown away, unless it fails."""
    began = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, env=dict(env) if env else None, capture_output=True)
    ended = time.perf_counter()
    if done.returncode != 0:
        sys.stderr.write(done.stderr.decode(errors="replace"))
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}")
    return ended - began


def median(measure: Callable[[], float], runs: int = RUNS) -> float:
    """Median over ``runs`` calls, after one that is not counted."""
    measure()
    return statistics.median(measure() for _ in range(runs))


def paired(first: Callable[[], float], second: Callable[[], float], runs: int = RUNS) -> tuple[float, float]:
    """Medians of two measures taken in turn, so that a drift of the machine meets both."""
    first(), second()
    pairs = [(first(), second()) for _ in range(runs)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def milliseconds(value: float) -> str:
    """A time as text."""
    return f"{value * 1000:.0f} ms"


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | measured | asked |", "|---|---|---|"]
    lines += [f"| {row.what} | {row.measured} | {row.asked} |" for row in rows]
    return "\n".join(lines)
