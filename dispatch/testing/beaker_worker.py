"""Clients of a workspace on Beaker in processes of their own, to be killed; ``python -m`` this makes them.

Each runs steps one after the other as the dispatcher does, without jobs, and logs those that it computes.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from dispatch.testing.contracts_workspace import DONE, record
from dispatch.workspace.base import StepCompletedError, StepHeldError
from dispatch.workspace.beaker import BeakerWorkspace


def main(told: dict[str, Any]) -> None:
    """Work until all steps have a result."""
    workspace = BeakerWorkspace(told["workspace"], cache=Path(told["cache"]), **told["options"])
    left = [record(name) for name in told["steps"]]
    while left:
        step = left.pop(0)
        try:
            attempt = workspace.claim(step, told["run"])
        except StepCompletedError:
            continue
        except StepHeldError:
            left.append(step)
            time.sleep(0.02)
            continue
        with Path(told["log"]).open("a") as log:
            log.write(f"{step.name}\n")
        attempt.result.mkdir(parents=True, exist_ok=True)
        for number in range(3):
            (attempt.result / f"part-{number}.txt").write_text(f"{step.name} {number}\n" * 1000)
        (attempt.result / "data.json").write_text(f'"{step.name}"\n')
        workspace.commit(attempt, step, DONE)
    workspace.close()


def nursery() -> None:
    """For each line of JSON begin a client, tell its process id, and, when it has ended, how it did.

    It forks before there is any connection, and saves clients what takes them most of their time: to start.
    """
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                main(json.loads(line))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _tell(pid)
        _tell(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _tell(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    nursery()
