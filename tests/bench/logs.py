"""How soon what a container prints can be read in the workspace, whether all of it can, and what that costs.

Against the engine adapter itself, in containers of busybox, so that nothing of a run is in the figures.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from harness import RUNS, Row, milliseconds

from dispatch._docker import Door, engine_address
from dispatch._docker.containers import epoch
from dispatch.engine.base import JobSpec, JobState, Network
from dispatch.engine.docker import DockerEngine
from dispatch.environment import LocalId
from dispatch.testing.busybox import REFERENCE, busybox_archive

BUSYBOX = Path("/bin/busybox")
RUN = "bench-logs"
LINES = 200_000
TICKS = 100
JOBS = 20


def _image(door: Door) -> LocalId:
    listed = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True)
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    door.load([busybox_archive(BUSYBOX.read_bytes(), listed.stdout.split(), architecture)])
    record = door.inspect_image(REFERENCE)
    assert record is not None
    return LocalId(record.id)


class _Bench:
    def __init__(self, door: Door, place: Path) -> None:
        self._door = door
        self._image = _image(door)
        self._place = place
        self._number = 0
        self.engine = DockerEngine(door, uid=os.getuid(), gid=os.getgid())

    def job(self, script: str) -> JobSpec:
        self._number += 1
        return JobSpec(
            key=f"bench.{self._number}",
            run=RUN,
            step="bench",
            attempt=1,
            image=self._image,
            command=("/bin/sh", "-c", script),
            attempt_dir=self._place / str(self._number),
            working_dir="/",
            network=Network.NONE,
        )

    def end(self, job: JobSpec) -> float:
        """Wait for the job's end, forget it, and return when its container ended."""
        while True:
            event = self.engine.next_event(120)
            assert event is not None
            if event.key == job.key and event.state is JobState.EXITED:
                for handle in self.engine.submit([job]):
                    self.engine.release(handle)
                return event.time

    def trivial(self) -> float:
        """Seconds a job of ``true``, one after another."""
        began = time.perf_counter()
        for _ in range(JOBS):
            job = self.job("true")
            self.engine.submit([job])
            self.end(job)
        return (time.perf_counter() - began) / JOBS

    def delays(self) -> list[float]:
        """How long each of many lines took from the engine's hands to the file; seconds."""
        job = self.job(f"for n in $(seq {TICKS}); do echo $n; sleep 0.05; done")
        (handle,) = self.engine.submit([job])
        path, seen = job.attempt_dir / "out.log", []
        while len(seen) < TICKS:
            time.sleep(0.001)
            count = path.read_bytes().count(b"\n") if path.exists() else 0
            seen += [time.time()] * (count - len(seen))
        printed = [epoch(frame.stamp) for frame in self._door.containers.logs(handle.engine_id, stamps=True)]
        self.end(job)
        return [there - then for there, then in zip(seen, printed, strict=True)]

    def flood(self) -> tuple[float, float, bool]:
        """Seconds until the container's end, and from there to the told end; whether all lines came."""
        job = self.job(f"seq {LINES} | sed 's/.*/line & of a log with some words in it/'")
        self.engine.submit([job])
        began = time.time()
        ended = self.end(job)
        told = time.time()
        text = (job.attempt_dir / "out.log").read_bytes()
        whole = text == b"".join(b"line %d of a log with some words in it\n" % n for n in range(1, LINES + 1))
        return ended - began, told - ended, whole


def rows() -> list[Row]:
    """One engine for all; medians where there are several."""
    door = Door(engine_address(os.environ))
    with tempfile.TemporaryDirectory() as place:
        bench = _Bench(door, Path(place))
        try:
            bench.trivial()
            trivial = statistics.median(bench.trivial() for _ in range(RUNS))
            delays = bench.delays()
            flood = [bench.flood() for _ in range(3)]
        finally:
            bench.engine.close()
    whole = all(each[2] for each in flood)
    return [
        Row("trivial container job (busybox, no network)", milliseconds(trivial)),
        Row("line printed → in out.log, median", milliseconds(statistics.median(delays))),
        Row("line printed → in out.log, worst", milliseconds(max(delays)), "≤ 500 ms"),
        Row(f"{LINES} lines: container's own time", milliseconds(statistics.median(e[0] for e in flood))),
        Row(f"{LINES} lines: end → told, log whole", milliseconds(statistics.median(e[1] for e in flood))),
        Row(f"{LINES} lines: none lost, in order", "yes" if whole else "NO", "yes"),
    ]
