"""Timing of whole processes, and the table of what came out: medians over runs, ratios within one run."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RUNS = int(os.environ.get("DISPATCH_BENCH_RUNS", "5"))
DISPATCH = str(Path(sys.executable).with_name("dispatch"))
CHECKOUT = Path(__file__).resolve().parents[2]
INSIDE = Path(__file__).with_name("inside")
MIB = 2**20
# Without it, an interpreter that may not keep bytecode would compile this checkout anew for every command.
ENVIRON = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, the figure, and what it is held against."""

    what: str
    measured: str
    asked: str = ""


@dataclass(frozen=True)
class Spent:
    """What a command took: seconds of wall time, and the most memory in bytes of its largest process."""

    seconds: float
    peak: int


def spent(command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Spent:
    """Run a command and say what it took; what it prints is thrown away, unless it fails."""
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=cwd, env=dict(env or ENVIRON), stdout=subprocess.DEVNULL, stderr=said
        )
        _, status, usage = os.wait4(process.pid, 0)
        ended = time.perf_counter()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            said.seek(0)
            print(*said.read().decode(errors="replace").splitlines()[-20:], sep="\n", file=sys.stderr)
            raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return Spent(ended - began, usage.ru_maxrss * 1024)


def seconds(
    command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> float:
    """Wall time of a command; what it prints is thrown away, unless it fails."""
    return spent(command, cwd=cwd, env=env).seconds


def answer(python: Path | str, program: str, *arguments: object, cwd: Path | None = None) -> Any:
    """Run a program of ``inside/`` with an interpreter, and return the JSON that it prints.

    This checkout can be imported there, and what it needs of the standard library is all that travels.
    """
    command = [str(python), str(INSIDE / f"{program}.py"), *map(str, arguments)]
    env = {**ENVIRON, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(command, cwd=cwd, env=env, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}")
    return json.loads(done.stdout)


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
    """A time as text, with decimals where it is short."""
    thousandths = value * 1000
    return f"{thousandths:.{0 if thousandths >= 20 else 1 if thousandths >= 2 else 2}f} ms"


def times(ours: float, theirs: float) -> str:
    """A ratio as text."""
    return f"{ours / theirs:.2f} ×"


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | measured | asked |", "|---|---|---|"]
    lines += [f"| {row.what} | {row.measured} | {row.asked} |" for row in rows]
    return "\n".join(lines)
