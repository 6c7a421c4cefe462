"""Prints how long the unique id of a step takes that is given 100 MB, beside plain SHA-256 of them."""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import sys
import time

import numpy
from meter import forget_peak, peak

from dispatch import Step

SIZE = 100_000_000
SMALL = 1000


@Step.register("holds")
class Holds(Step):
    """Is given data."""

    def run(self, data: object) -> None:
        """Do nothing with it."""


def _timed(value: object) -> float:
    began = time.perf_counter()
    _ = Holds(data=value).unique_id
    return time.perf_counter() - began


def _hashed(data: bytes) -> float:
    began = time.perf_counter()
    hashlib.sha256(data).hexdigest()
    return time.perf_counter() - began


def main(runs: int) -> None:
    """Take the measures in turn; the first round is not counted."""
    data = os.urandom(SIZE)
    array = numpy.frombuffer(data, dtype="uint8")
    resident = forget_peak()
    rounds = [(_timed(data), _hashed(data)) for _ in range(runs + 1)]
    extra = peak() - resident
    resident = forget_peak()
    arrays = [_timed(array) for _ in range(runs + 1)]
    array_extra = peak() - resident
    small = [_timed(n) for n in range(SMALL)]
    found = {
        "bytes": statistics.median(ours for ours, _ in rounds[1:]),
        "sha256": statistics.median(plain for _, plain in rounds[1:]),
        "ratio": statistics.median(ours / plain for ours, plain in rounds[1:]),
        "bytes_memory": extra,
        "array": statistics.median(arrays[1:]),
        "array_memory": array_extra,
        "small": statistics.median(small),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]))
