"""What is made of the engine's and the kernel's numbers of CPU and memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dispatch import payload
from dispatch.engine.base import Usage
from dispatch.engine.stats import Meter, Sample, of_container, of_group
from dispatch.testing.processes import Bench, until

MIB = 2**20
VERSION_1 = {
    "usage": 300 * MIB,
    "max_usage": 400 * MIB,
    "stats": {"total_inactive_file": 100 * MIB, "cache": 1},
}
VERSION_2 = {"usage": 300 * MIB, "stats": {"inactive_file": 50 * MIB, "anon": 1}}


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (VERSION_1, (200 * MIB, 400 * MIB)),
        (VERSION_2, (250 * MIB, 0)),
        ({"usage": 5, "stats": {"inactive_file": 9}}, (5, 0)),
        ({"usage": 5}, (5, 0)),
        ({}, None),
        (None, None),
    ],
)
def test_container(memory: dict[str, Any] | None, expected: tuple[int, int] | None) -> None:
    """Memory is what the job could not do without, under both versions; none for what does not run."""
    stats = {"memory_stats": memory, "cpu_stats": {"cpu_usage": {"total_usage": 2_500_000_000}}}
    sample = of_container(stats, 7.0)
    assert (sample and (sample.memory, sample.peak)) == expected
    assert sample is None or (sample.cpu, sample.time) == (2.5, 7.0)


def test_meter() -> None:
    """CPU is what was used between two looks, memory that of the last, the peak the highest of all."""
    meter = Meter()
    assert meter.peak("a") is None
    assert meter.take("a", Sample(1.0, 10, 0, 104.0), 100.0) == Usage(0.25, 10, 10)
    assert meter.take("a", Sample(3.0, 30, 0, 105.0), 100.0) == Usage(2.0, 30, 30)
    assert meter.take("a", Sample(3.1, 20, 0, 105.01), 100.0) == Usage(2.0, 20, 30)
    assert meter.take("a", Sample(3.5, 20, 50, 106.0), 100.0) == Usage(0.5, 20, 50)
    meter.reach("a", 40)
    meter.reach("b", 60)
    assert (meter.peak("a"), meter.peak("b")) == (50, 60)
    meter.forget("a")
    assert meter.peak("a") is None


def test_group() -> None:
    """All processes of a group count, and no others."""
    code = "import os, time\nos.setpgid(0, 0)\nx = b'x' * (64 << 20)\n"
    code += "os.fork()\nprint(flush=True)\ntime.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        sample = of_group(process.pid, 1.0)
        assert sample is not None
        assert sample.memory > 2 * 64 * MIB
        assert sample.cpu >= 0
    finally:
        os.killpg(process.pid, 9)
        process.wait()
    until(lambda: of_group(process.pid, 2.0) is None, "they never went away")


def test_usage_of_processes(tmp_path: Path) -> None:
    """A step's CPU and memory are told while it runs, and its peak at the end, whoever looked."""
    bench = Bench(tmp_path, payload.provide(tmp_path / "cache"))
    bench.write(
        "steps.py",
        """
        import os, time
        from dispatch import step

        @step("eats")
        def eats() -> int:
            held = b"x" * (100 << 20)
            while not os.path.exists(os.environ["DISPATCH_OUTPUT_DIR"] + "/../go"):
                pass
            return len(held)
        """,
    )
    try:
        job = bench.python("eats")
        (handle,) = bench.engine.submit([job])
        assert bench.engine.usage([handle]) == {}
        assert bench.engine.next_event(60) is not None

        def used() -> Usage:
            # Who has just begun, or cannot be told at the moment, is left out.
            return bench.engine.usage([handle]).get(handle.key, Usage(0.0, 0, 0))

        until(lambda: used().memory > 100 * MIB, "it never ate")
        until(lambda: used().cpus > 0.2, "it never worked")
        (job.attempt_dir / "output" / "go").touch()
        ended = bench.end(job)
        assert ended.event.peak_memory is not None and ended.event.peak_memory > 100 * MIB
        assert ended.outcome is not None and (ended.outcome.peak_memory or 0) > 100 * MIB
        assert bench.engine.usage([handle]) == {}
    finally:
        bench.engine.close()
