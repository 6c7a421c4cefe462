"""Lists over a workspace of a thousand runs of ten steps: whole commands, and what a program may ask."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import environments
from harness import DISPATCH, MIB, Row, answer, median, milliseconds, spent

RUNS = 1000
# Tango takes over a minute to register a thousand.
THEIR_RUNS = 100


def rows() -> list[Row]:
    """Make the workspace, then ask."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "workspace"
        made = answer(sys.executable, "listing", "make", place, RUNS)
        commands = [
            _command(place, "runs", "≤ 0.3 s"),
            _command(place, f"runs --limit {RUNS}", "≤ 0.3 s"),
            _command(place, "show latest"),
            _command(place, "steps"),
            _command(place, "steps Train-ab"),
            _command(place, "steps --all"),
        ]
        asked = answer(sys.executable, "listing", "search", place)
    return [
        *commands,
        Row(f"a program, {RUNS} runs × 10 steps", _figures({**made, **asked})),
        Row(f"Tango, {THEIR_RUNS} runs × 10 steps", _figures(_theirs())),
    ]


def _command(place: Path, words: str, asked: str = "") -> Row:
    command = [DISPATCH, *words.split(), "-w", str(place)]
    took = median(lambda: spent(command).seconds)
    memory = spent(command).peak / MIB
    what = f"`dispatch {words}`, {RUNS} runs × 10 steps"
    return Row(what, f"{milliseconds(took)}, {memory:.0f} MiB", asked)


def _theirs() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as scratch:
        found: dict[str, float] = answer(
            environments.tango() / "python",
            "listing_tango",
            Path(scratch) / "workspace",
            THEIR_RUNS,
            cwd=Path(scratch),
        )
        return found


def _figures(found: dict[str, float]) -> str:
    names = {
        "register": "register_run",
        "registered_runs": "registered_runs",
        "search_runs": "search_registered_runs(stop=10)",
        "num_runs": "num_registered_runs",
        "search_steps": "search_step_info(stop=10)",
        "match_steps": "the same by id",
        "num_steps": "num_steps",
    }
    return ", ".join(f"{title} {milliseconds(found[key])}" for key, title in names.items() if key in found)
