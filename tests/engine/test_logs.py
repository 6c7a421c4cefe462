"""Logs of running containers: how soon they are in the workspace, and that nothing is lost or there twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch._docker import Door, ImageRecord
from dispatch.engine.base import Handle, JobSpec, Network, Reason
from dispatch.engine.collector import Collector
from dispatch.engine.docker import DockerEngine
from dispatch.engine.joblog import JobLog
from dispatch.environment import LocalId
from dispatch.testing.contracts_engine import LIMIT, end_of, running

pytestmark = pytest.mark.engine
RUN = "test-logs"
LINES = 200_000
FLOOD = "seq 200000 | sed 's/.*/line & of many/'"
FLOODED = b"".join(b"line %d of many\n" % number for number in range(1, LINES + 1))
Make = Callable[..., JobSpec]


@pytest.fixture
def engine(door: Door) -> Iterator[DockerEngine]:
    """An engine whose containers are gone after the test."""
    engine = DockerEngine(door, uid=os.geteuid(), gid=os.getegid())
    yield engine
    engine.close()
    for handle in engine.find(RUN):
        door.containers.remove(handle.engine_id)


@pytest.fixture
def make(tmp_path: Path, busybox_image: ImageRecord) -> Make:
    """Makes jobs that run a shell script in busybox, with a place ``/dispatch/scratch`` of ours."""

    def job(script: str, key: str = "step.1") -> JobSpec:
        return JobSpec(
            key=key,
            run=RUN,
            step="step",
            attempt=1,
            image=LocalId(busybox_image.id),
            command=("/bin/sh", "-c", script),
            attempt_dir=tmp_path / key,
            working_dir="/",
            network=Network.NONE,
        )

    return job


def until(fact: Callable[[], object], what: str = "it never came") -> None:
    """Wait for something that has to become true."""
    given_up = time.monotonic() + LIMIT
    while not fact():
        assert time.monotonic() < given_up, what
        time.sleep(0.005)


def log_of(job: JobSpec) -> bytes:
    """What is in the log's file."""
    path = job.attempt_dir / "out.log"
    return path.read_bytes() if path.exists() else b""


def waiting() -> str:
    """A script that goes on when :func:`let_go` is called."""
    return "while [ ! -e /dispatch/scratch/go ]; do sleep 0.05; done"


def let_go(job: JobSpec) -> None:
    """Let a job go on that waits."""
    (job.attempt_dir / "scratch" / "go").touch()


def test_lines_come_while_the_job_runs(engine: DockerEngine, make: Make) -> None:
    """What is printed can be read from the file at once, from whichever stream it is."""
    job = make("echo begun; echo to stderr >&2; sleep 3600")
    handles = engine.submit([job])
    running(engine, job.key)
    until(lambda: sorted(log_of(job).splitlines()) == [b"begun", b"to stderr"])
    engine.cancel(handles, 0)
    assert end_of(engine, job.key).reason is Reason.CANCELLED


def test_many_lines(engine: DockerEngine, make: Make) -> None:
    """Two hundred thousand lines, printed as fast as can be, are all there in order when the end is told."""
    job = make(f"echo begun; sleep 0.5; {FLOOD}")
    engine.submit([job])
    assert end_of(engine, job.key).exit_code == 0
    assert log_of(job) == b"begun\n" + FLOODED


def test_loud_ones_do_not_starve_others(engine: DockerEngine, make: Make) -> None:
    """While one job floods its log, another one's lines come in time."""
    loud = make("yes 'a rather long line that is repeated for ever and ever'", "loud.1")
    quiet = make("while :; do cat /proc/uptime; sleep 0.1; done", "quiet.1")
    handles = engine.submit([loud, quiet])
    until(lambda: len(log_of(loud)) > 5_000_000 and log_of(quiet))
    delays = []
    for _ in range(20):
        count = log_of(quiet).count(b"\n")
        until(lambda seen=count: log_of(quiet).count(b"\n") > seen)  # type: ignore[misc]
        now = float(Path("/proc/uptime").read_text().split()[0])
        delays.append(now - float(log_of(quiet).splitlines()[-1].split()[0]))
    engine.cancel(handles, 0)
    assert sorted(delays)[10] < 0.5
    # To read what the loud one left would take a while.
    for handle in handles:
        engine.release(handle)


def test_another_client_goes_on(engine: DockerEngine, door: Door, make: Make) -> None:
    """A client that takes over a running job writes on where the log ends, and nothing twice."""
    job = make(f"for n in $(seq 2000); do echo before $n; done; {waiting()}; echo after")
    first = DockerEngine(door, uid=os.geteuid(), gid=os.getegid())
    first.submit([job])
    running(first, job.key)
    until(lambda: log_of(job).endswith(b"before 2000\n"))
    first.close()
    # What a client left that was killed in the middle of a write.
    os.truncate(job.attempt_dir / "out.log", 4321)
    engine.submit([job])
    running(engine, job.key)
    until(lambda: log_of(job).endswith(b"before 2000\n"))
    let_go(job)
    end_of(engine, job.key)
    assert log_of(job) == b"".join(b"before %d\n" % n for n in range(1, 2001)) + b"after\n"


def test_two_clients_at_once(engine: DockerEngine, door: Door, make: Make) -> None:
    """Two clients that follow one job write the same bytes to the same places."""
    job = make(f"echo begun; {waiting()}; {FLOOD}")
    second = DockerEngine(door, uid=os.geteuid(), gid=os.getegid())
    try:
        for each in (engine, second):
            each.submit([job])
            running(each, job.key)
        let_go(job)
        for each in (engine, second):
            end_of(each, job.key)
            assert log_of(job) == b"begun\n" + FLOODED
    finally:
        second.close()


CLIENT = """
import json, os, sys
from pathlib import Path
from dispatch._docker import Door, engine_address
from dispatch.engine.base import JobSpec, Network
from dispatch.engine.docker import DockerEngine
from dispatch.environment import LocalId
raw = json.loads(sys.argv[1])
job = JobSpec(
    key=raw["key"], run=raw["run"], step="step", attempt=1, image=LocalId(raw["image"]),
    command=tuple(raw["command"]), attempt_dir=Path(raw["place"]), working_dir="/", network=Network.NONE,
    secrets={"TOKEN": "line 1 of"},
)
engine = DockerEngine(Door(engine_address(os.environ)), uid=os.geteuid(), gid=os.getegid())
engine.submit([job])
while True:
    engine.next_event(60)
"""


def test_client_that_is_killed(engine: DockerEngine, make: Make, busybox_image: ImageRecord) -> None:
    """When a client is killed, the log is the beginning of what was printed, and the next completes it."""
    job = make("sleep 0.3; " + FLOOD.replace("200000", "400000"))
    job = replace(job, command=("/bin/sh", "-c", f"cat >/dev/null; {job.command[2]}"))
    raw = {
        "key": job.key,
        "run": RUN,
        "image": busybox_image.id,
        "command": job.command,
        "place": str(job.attempt_dir),
    }
    client = subprocess.Popen([sys.executable, "-c", CLIENT, json.dumps(raw)])
    try:
        until(lambda: len(log_of(job)) > 100_000)
    finally:
        client.kill()
        client.wait()
    text = b"".join(b"line %d of many\n" % number for number in range(1, 400_001))
    text = text.replace(b"line 1 of", b"***")
    assert text.startswith(log_of(job))
    engine.submit([replace(job, secrets={"TOKEN": "line 1 of"})])
    end_of(engine, job.key)
    assert log_of(job) == text


def test_masked_over_frames(engine: DockerEngine, make: Make) -> None:
    """A value that is printed in pieces is masked; a beginning of it that is none after all is kept."""
    secret = "hunter2-and-more"
    script = "printf 'a hunter2'; sleep 1; printf -- '-and-more b\\nhunt'; sleep 1; echo ing; printf hunter2-"
    job = make(f"cat >/dev/null; {script}")
    engine.submit([replace(job, secrets={"TOKEN": secret})])
    until(lambda: log_of(job) == b"a *** b\n")
    end_of(engine, job.key)
    assert log_of(job) == b"a *** b\nhunting\nhunter2-"


def test_long_lines(engine: DockerEngine, make: Make) -> None:
    """A line that the engine cuts into many frames is one line again."""
    job = make("sleep 0.5; head -c 3000000 /dev/zero | tr '\\0' x; echo .")
    engine.submit([job])
    end_of(engine, job.key)
    assert log_of(job) == b"x" * 3_000_000 + b".\n"


def test_container_that_is_gone(engine: DockerEngine, door: Door, make: Make) -> None:
    """The log of a container that somebody removes keeps what was printed before."""
    job = make("echo begun; sleep 3600")
    (handle,) = engine.submit([job])
    running(engine, handle.key)
    until(lambda: log_of(job) == b"begun\n")
    door.containers.remove(handle.engine_id)
    end_of(engine, handle.key)
    assert log_of(job) == b"begun\n"


def test_disk_that_is_full(engine: DockerEngine, make: Make) -> None:
    """A log that cannot be kept does not end the job; its end says so."""
    job = make("sleep 0.5; echo begun; sleep 0.5; exit 3")
    job.attempt_dir.mkdir(parents=True)
    (job.attempt_dir / "out.log").symlink_to("/dev/full")
    engine.submit([job])
    event = end_of(engine, job.key)
    assert (event.exit_code, event.reason) == (3, Reason.STEP)
    assert "its log could not be kept: No space left on device" in event.message


def test_one_thread_for_all(door: Door, tmp_path: Path) -> None:
    """Names that the engine does not know cost no thread each, and can be left again."""
    collector = Collector(door.containers, lambda _: False)
    try:
        logs = {f"dispatch-none-{number}": JobLog(tmp_path) for number in range(30)}
        for name, log in logs.items():
            collector.follow(name, log)
        time.sleep(0.5)
        for name, log in logs.items():
            collector.abandon(name, log)
    finally:
        collector.close()
    assert not (tmp_path / "out.log").exists()


def test_handles_of_others(engine: DockerEngine, make: Make) -> None:
    """The protocol's own ``logs`` masks what it yields."""
    job = replace(make("cat >/dev/null; echo my hunter2"), secrets={"TOKEN": "hunter2"})
    (handle,) = engine.submit([job])
    end_of(engine, job.key)
    assert b"".join(engine.logs(Handle(job.key, handle.engine_id))) == b"my ***\n"
