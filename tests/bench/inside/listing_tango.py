"""Registers runs with Tango and prints how long listing them takes."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tango import Step
from tango.workspace import RunSort, StepInfoSort
from tango.workspaces import LocalWorkspace

STEPS = 10


@Step.register("train")
class Train(Step):
    """Stands for a step."""

    def run(self, seed: int, layers: int, data: str) -> float:
        """Is not called."""


def main(place: Path, runs: int) -> None:
    """Register the runs, then ask."""
    workspace = LocalWorkspace(place)
    spent = []
    for run in range(runs):
        steps = [
            Train(step_name=f"train-{n}", seed=run * STEPS + n, layers=n, data="corpus") for n in range(STEPS)
        ]
        began = time.perf_counter()
        workspace.register_run(steps)
        spent.append(time.perf_counter() - began)
    questions: dict[str, Callable[[LocalWorkspace], object]] = {
        "registered_runs": lambda ws: ws.registered_runs(),
        "search_runs": lambda ws: ws.search_registered_runs(sort_by=RunSort.START_DATE, stop=10),
        "num_runs": lambda ws: ws.num_registered_runs(),
        "search_steps": lambda ws: ws.search_step_info(sort_by=StepInfoSort.START_TIME, stop=10),
        "num_steps": lambda ws: ws.num_steps(),
    }
    found = {"register": statistics.median(spent)}
    for name, ask in questions.items():
        began = time.perf_counter()
        ask(LocalWorkspace(place))
        found[name] = time.perf_counter() - began
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
