"""Prints how long Tango takes over the same unique ids."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from typing import Any

from tango import Step

SIZE = 100_000_000
SMALL = 1000


@Step.register("holds")
class Holds(Step):
    """Is given data."""

    def run(self, data: Any) -> None:
        """Do nothing with it."""


def _timed(value: object) -> float:
    began = time.perf_counter()
    _ = Holds(data=value).unique_id
    return time.perf_counter() - began


def main(runs: int) -> None:
    """Measure, the first time not counted."""
    data = os.urandom(SIZE)
    large = [_timed(data) for _ in range(runs + 1)][1:]
    small = [_timed(n) for n in range(SMALL)]
    print(json.dumps({"bytes": statistics.median(large), "small": statistics.median(small)}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
