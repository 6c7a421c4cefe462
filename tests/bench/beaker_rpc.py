"""How long one call takes while many clients make them, beside the same calls to grpcio alone."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from beakerservers import client, serving, told
from harness import Row, milliseconds

PROCESSES, CLIENTS, RATE, SECONDS = 4, 8, 10, 10


def many(server: Mapping[str, Any]) -> list[float]:
    """Seconds of every call of all clients."""
    started = [client("beaker_callers", server, CLIENTS, RATE, SECONDS) for _ in range(PROCESSES)]
    return [each for process in started for each in told(process)]


def rows() -> list[Row]:
    """Median and 99th percentile over all calls, with 32 clients at 10 calls a second, and with one alone."""
    with (
        tempfile.TemporaryDirectory() as place,
        serving("beaker_server", Path(place) / "beaker", 1) as server,
        serving("beaker_bare", Path(place) / "bare", 0) as bare,
    ):
        single = [
            statistics.median(told(client("beaker_callers", each, 1, 100, 3))) for each in (server, bare)
        ]
        ours, least = many(server), many(bare)
    what = f"unary call, {PROCESSES * CLIENTS} clients at {RATE} a second each"
    median = [milliseconds(statistics.median(each)) for each in (ours, least)]
    slowest = [milliseconds(statistics.quantiles(each, n=100)[98]) for each in (ours, least)]
    return [
        Row("unary call, one client: median", "{}, grpcio alone {}".format(*map(milliseconds, single))),
        Row(f"{what}: median", "{}, grpcio alone {}".format(*median), "≤ 2 ms"),
        Row(f"{what}: 99th percentile", "{}, grpcio alone {}".format(*slowest), "≤ 10 ms"),
    ]
