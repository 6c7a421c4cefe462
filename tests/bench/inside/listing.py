"""Makes a workspace of many runs, or says how long it takes to search one."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from filling import fill, hasty

from dispatch import Step
from dispatch.workspace.base import RunSort, StepInfoSort
from dispatch.workspace.local import LocalWorkspace
from dispatch.workspace.records import record_of

STEPS = 10


@Step.register("train")
class Train(Step):
    """Stands for a step."""

    def run(self, seed: int, layers: int, data: str) -> float:
        """Is not called."""


def make(place: Path, runs: int) -> dict[str, float]:
    """Register runs of ten new steps each, all completed, and end them."""
    workspace = hasty(place)
    spent = []
    for run in range(runs):
        steps = [
            Train(step_name=f"train-{n}", seed=run * STEPS + n, layers=n, data="corpus") for n in range(STEPS)
        ]
        began = time.perf_counter()
        name = workspace.register_run(steps, facts=_facts(steps)).name
        spent.append(time.perf_counter() - began)
        fill(workspace, map(record_of, steps), "0" * 32)
        workspace.finish_run(name, "completed", {"verdicts": {each.name: "completed" for each in steps}})
    return {"register": statistics.median(spent)}


def _facts(steps: list[Train]) -> dict[str, object]:
    return {
        "steps": [each.name for each in steps],
        "config": "experiment.yml",
        "commit": "0" * 40,
        "tree": "1" * 40,
        "dirty": False,
    }


def search(place: Path) -> dict[str, float]:
    """Time what a program may ask, each with a workspace object of its own."""
    questions: dict[str, Callable[[LocalWorkspace], object]] = {
        "registered_runs": lambda ws: ws.registered_runs(),
        "search_runs": lambda ws: ws.search_registered_runs(sort_by=RunSort.START_DATE, stop=10),
        "num_runs": lambda ws: ws.num_registered_runs(),
        "search_steps": lambda ws: ws.search_step_info(sort_by=StepInfoSort.START_TIME, stop=10),
        "match_steps": lambda ws: ws.search_step_info(match="Train-ab", stop=10),
        "num_steps": lambda ws: ws.num_steps(),
    }
    found = {}
    for name, ask in questions.items():
        figures = []
        for _ in range(4):
            workspace = LocalWorkspace(place)
            began = time.perf_counter()
            ask(workspace)
            figures.append(time.perf_counter() - began)
        found[name] = statistics.median(figures[1:])
    return found


if __name__ == "__main__":
    if sys.argv[1] == "make":
        print(json.dumps(make(Path(sys.argv[2]), int(sys.argv[3]))))
    else:
        print(json.dumps(search(Path(sys.argv[2]))))
