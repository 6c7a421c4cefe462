"""What running jobs use of CPU and memory, read from what the engine or the kernel counts.

Owns the meaning of their numbers under both versions of control groups. CPU is a rate, so it takes two looks:
a meter keeps the last one of each job. Refuses to look by itself: nothing is measured that nobody asks for.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dispatch.engine.base import Usage

J = TypeVar("J")
R = TypeVar("R")
PROC = Path("/proc")
PATIENCE = 3.0
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# Of two looks in quick succession the difference says nothing.
_SHORTEST = 0.05


@dataclass(frozen=True)
class Sample:
    """One look: CPU seconds so far, bytes of memory now, the most of it so far (0: not known), and when."""

    cpu: float
    memory: int
    peak: int
    time: float


class Meter:
    """Makes usage of samples. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._before: dict[str, Sample] = {}
        self._cpus: dict[str, float] = {}
        self._peaks: dict[str, int] = {}

    def take(self, key: str, sample: Sample, began: float) -> Usage:
        """Take a look at a job into account. At the first look CPU is the mean since it ``began``."""
        with self._lock:
            before = self._before.get(key)
            since, used = (before.time, before.cpu) if before is not None else (began, 0.0)
            if before is None or sample.time - since >= _SHORTEST:
                self._cpus[key] = max(0.0, sample.cpu - used) / max(_SHORTEST, sample.time - since)
                self._before[key] = sample
            self._peaks[key] = max(self._peaks.get(key, 0), sample.peak, sample.memory)
            return Usage(self._cpus[key], sample.memory, self._peaks[key])

    def reach(self, key: str, memory: int) -> None:
        """Note that a job is known to have used so much."""
        with self._lock:
            self._peaks[key] = max(self._peaks.get(key, 0), memory)

    def peak(self, key: str) -> int | None:
        """The most memory that a job was seen to use; None where nobody looked."""
        with self._lock:
            return self._peaks.get(key)

    def forget(self, key: str) -> None:
        """Drop what is known of a job."""
        with self._lock:
            for known in (self._before, self._cpus, self._peaks):
                known.pop(key, None)


def at_once(look: Callable[[J], R], jobs: Sequence[J]) -> list[tuple[J, R]]:
    """Look at several jobs at once, and return what was seen before patience ran out.

    An engine counts once a second, for all jobs in the same moment, and lets who asks wait for it: one after
    another it would take as many seconds. No pool: the end of the program would wait for its threads.
    """
    found: list[tuple[J, R]] = []
    threads = [begin(lambda job: found.append((job, look(job))), job) for job in jobs]
    given_up = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, given_up - time.monotonic()))
    return found[:]


def begin(look: Callable[[J], object], job: J) -> threading.Thread:
    """Have somebody look at a job."""
    thread = threading.Thread(target=look, args=(job,), name="dispatch-look", daemon=True)
    thread.start()
    return thread


def of_container(stats: Mapping[str, Any], now: float) -> Sample | None:
    """Read the engine's ``stats``; None for a container that does not run."""
    memory: Mapping[str, Any] = stats.get("memory_stats") or {}
    if "usage" not in memory:
        return None
    details: Mapping[str, int] = memory.get("stats") or {}
    # Pages of files that the kernel would give back at once are not what a job needs. The first name is
    # that of version 1, which counts the groups below, too.
    given_back = details.get("total_inactive_file", details.get("inactive_file", 0))
    used = int(memory["usage"])
    spent: Mapping[str, int] = (stats.get("cpu_stats") or {}).get("cpu_usage") or {}
    return Sample(
        cpu=spent.get("total_usage", 0) / 1e9,
        memory=used - given_back if given_back < used else used,
        peak=int(memory.get("max_usage", 0)),
        time=now,
    )


def of_group(leader: int, now: float, proc: Path = PROC) -> Sample | None:
    """Add up the processes of a group, from what the kernel tells of each; None if there are none."""
    cpu, memory, found = 0.0, 0, False
    for place in proc.iterdir():
        if not place.name.isdigit():
            continue
        try:
            # The name of the program is in brackets and may hold brackets and blanks itself.
            fields = (place / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == leader:
            found = True
            # utime, stime, and those of its children that have ended; the pages that are in memory.
            cpu += sum(int(field) for field in fields[11:15]) / _TICK
            memory += int(fields[21]) * _PAGE
    return Sample(cpu, memory, 0, now) if found else None
