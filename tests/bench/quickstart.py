"""The demo's pipeline with nothing left to do, and the no-op build of its images."""

from __future__ import annotations

import sys
from pathlib import Path

from harness import DISPATCH, Row, median, milliseconds, seconds

CHECKOUT = Path(__file__).resolve().parents[2]


def rows() -> list[Row]:
    """Run the demo once, then measure it with everything cached."""
    copy = CHECKOUT / ".demo" / "quickstart"
    demo = [sys.executable, str(CHECKOUT / "tests" / "pipelines" / "demo.py")]
    seconds(demo)
    run = median(lambda: seconds([DISPATCH, "run", "experiment.yml"], cwd=copy))
    build = median(lambda: seconds([DISPATCH, "build", "experiment.yml"], cwd=copy))
    again = median(lambda: seconds(demo))
    return [
        Row("quickstart, all cached: `dispatch run`", milliseconds(run), "≤ 500 ms"),
        Row("quickstart, nothing changed: `dispatch build`", milliseconds(build), "≤ 200 ms"),
        Row("second `make demo`, its script", milliseconds(again), "≤ 3 s"),
    ]
