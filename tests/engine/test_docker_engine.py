"""What the Docker engine promises beyond the contract of all engines, against a real one."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch._docker import Door, ImageRecord
from dispatch.engine.base import Event, Handle, JobSpec, JobState, Mount, Network, Reason, Resources
from dispatch.engine.container import container_of
from dispatch.engine.docker import DockerEngine
from dispatch.engine.probe import refuse_unsupported
from dispatch.engine.sandbox import Sandbox
from dispatch.environment import LocalId
from dispatch.errors import EngineError
from dispatch.location import HostPath
from dispatch.testing.contracts_engine import end_of, running

RUN = "test-docker-engine"
Make = Callable[..., JobSpec]


@pytest.fixture
def engine(door: Door) -> Iterator[DockerEngine]:
    """An engine whose containers run as the caller, and are gone after the test."""
    engine = DockerEngine(door, uid=os.geteuid(), gid=os.getegid())
    yield engine
    engine.close()
    for handle in engine.find(RUN):
        door.containers.remove(handle.engine_id)


@pytest.fixture
def make(tmp_path: Path, busybox_image: ImageRecord) -> Make:
    """Makes jobs that run a shell script in busybox."""

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


def _finish(engine: DockerEngine, job: JobSpec) -> tuple[Event, str]:
    engine.submit([job])
    event = end_of(engine, job.key)
    return event, (job.attempt_dir / "out.log").read_text()


def _export(directory: Path) -> HostPath:
    """A source tree with an executable, a link, and a directory that nobody may write."""
    (directory / "pkg").mkdir(parents=True)
    (directory / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (directory / "run.sh").chmod(0o555)
    (directory / "pkg" / "data.txt").write_text("original\n")
    (directory / "pkg" / "data.txt").chmod(0o444)
    (directory / "link").symlink_to("pkg/data.txt")
    (directory / "pkg").chmod(0o555)
    return HostPath(directory)


@pytest.mark.engine
def test_source_is_private(engine: DockerEngine, make: Make, tmp_path: Path) -> None:
    """A step may write all over its source: modes and links are kept, and the export stays as it was."""
    source = _export(tmp_path / "export")
    job = make(
        "./run.sh && readlink link && cat link && echo new > pkg/data.txt && touch pkg/x y && cat link"
    )
    event, log = _finish(engine, replace(job, source=source, working_dir="/src"))
    assert (event.exit_code, log) == (0, "ran\npkg/data.txt\noriginal\nnew\n")
    assert (source.path / "pkg" / "data.txt").read_text() == "original\n"
    assert not (source.path / "y").exists()


@pytest.mark.engine
def test_another_user(door: Door, make: Make, tmp_path: Path) -> None:
    """A job that runs as another user has a name, owns its source and its scratch, and may write there."""
    engine = DockerEngine(door, uid=4321, gid=4321)
    try:
        job = make("whoami; touch /src/pkg/new /dispatch/scratch/tmp/new && stat -c %u:%g /src/run.sh")
        event, log = _finish(engine, replace(job, source=_export(tmp_path / "export")))
        engine.release(engine.find(RUN)[0])
    finally:
        engine.close()
    assert (event.exit_code, log) == (0, "dispatch\n4321:4321\n")


@pytest.mark.engine
def test_phases(engine: DockerEngine, make: Make) -> None:
    """Announced phases are timed by the engine's clock; what the step itself says later is not believed."""
    script = (
        'for phase in source environment run; do echo "dispatch: phase $phase"; done >&2;'
        'echo "dispatch: phase install"; echo "dispatch: phase install" >&2'
    )
    job = make(script)
    _, log = _finish(engine, job)
    phases = json.loads((job.attempt_dir / "phases.json").read_text())
    assert list(phases) == ["source", "environment", "run"]
    assert all(seconds >= 0 for seconds in phases.values())
    assert "dispatch: phase install\n" in log


@pytest.mark.engine
def test_out_of_memory(engine: DockerEngine, make: Make) -> None:
    """A job that needs more memory than it was given ends for that reason."""
    job = make("exec dd if=/dev/zero of=/dev/null bs=256M count=1")
    event, _ = _finish(engine, replace(job, resources=Resources(memory=32 * 1024**2)))
    assert (event.exit_code, event.reason) == (137, Reason.OOM)
    assert "memory" in event.message


@pytest.mark.engine
def test_command_that_the_image_lacks(engine: DockerEngine, make: Make) -> None:
    """An image without the command is blamed, not the step."""
    event, _ = _finish(engine, replace(make(""), command=("/no/such/shell",)))
    assert event.reason is Reason.IMAGE
    assert "/no/such/shell" in event.message


@pytest.mark.engine
def test_mount_that_the_engine_does_not_see(engine: DockerEngine, make: Make, tmp_path: Path) -> None:
    """A mount that cannot be made ends the job before it runs, and makes no directory."""
    missing = tmp_path / "missing"
    event, log = _finish(engine, replace(make("true"), mounts=(Mount(HostPath(missing), "/in"),)))
    assert (event.exit_code, event.reason, log) == (None, Reason.INFRA, "")
    assert "no such path" in event.message
    assert not missing.exists()


@pytest.mark.engine
def test_what_a_job_is_given(engine: DockerEngine, make: Make) -> None:
    """Shared memory, network and environment are as asked for; the client's own environment stays out."""
    job = make("df -k /dev/shm | tail -1 | awk '{print $2}'; ls /sys/class/net; env | sort")
    job = replace(job, env={"GREETING": "good day"}, resources=Resources(shared_memory=8 * 1024**2, cpus=0.5))
    _, log = _finish(engine, job)
    size, network, *environment = log.splitlines()
    assert (size, network) == ("8192", "lo")
    names = {line.partition("=")[0] for line in environment}
    assert names == {"GREETING", "HOME", "HOSTNAME", "PATH", "PWD", "SHLVL"}


@pytest.mark.engine
def test_labels(engine: DockerEngine, door: Door, make: Make) -> None:
    """Containers say which run, step and attempt they belong to."""
    (handle,) = engine.submit([make("true")])
    end_of(engine, handle.key)
    state = door.containers.inspect(handle.engine_id)
    assert state is not None
    assert state.name.startswith("dispatch-step.1-")
    expected = {"dispatch.run": RUN, "dispatch.step": "step", "dispatch.attempt": "1", "dispatch.gpus": ""}
    assert expected.items() <= state.labels.items()


@pytest.mark.engine
def test_same_key_in_two_workspaces(engine: DockerEngine, make: Make, tmp_path: Path) -> None:
    """Two workspaces that run the same step on one engine do not meet."""
    here = make("echo here")
    elsewhere = replace(make("echo elsewhere"), attempt_dir=tmp_path / "elsewhere")
    other = DockerEngine(engine._door, uid=os.geteuid(), gid=os.getegid())
    try:
        assert _finish(engine, here)[1] == "here\n"
        assert _finish(other, elsewhere)[1] == "elsewhere\n"
    finally:
        other.close()


@pytest.mark.engine
def test_start_that_was_interrupted(engine: DockerEngine, door: Door, make: Make, tmp_path: Path) -> None:
    """A container that a killed client had created but not started is started, with a whole source."""
    job = replace(make("cat /src/pkg/data.txt"), source=_export(tmp_path / "export"))
    sandbox = Sandbox.of(job.attempt_dir, os.geteuid(), os.getegid())
    name = sandbox.container_name(job.key, lambda: "killed")
    places = sandbox.prepare(job)
    (job.attempt_dir / "src" / "half.txt").write_text("half a cop")
    door.containers.create(container_of(job, name, f"{os.geteuid()}:{os.getegid()}", places))
    event, log = _finish(engine, job)
    assert (event.engine_id, event.exit_code, log) == (name, 0, "original\n")
    assert not (job.attempt_dir / "src" / "half.txt").exists()


@pytest.mark.engine
def test_container_removed_by_somebody(engine: DockerEngine, door: Door, make: Make) -> None:
    """A job whose container somebody removes still ends, once."""
    (handle,) = engine.submit([make("sleep 3600")])
    running(engine, handle.key)
    door.containers.remove(handle.engine_id)
    assert end_of(engine, handle.key).exit_code in (None, 137)
    assert engine.next_event(0.2) is None


@pytest.mark.engine
def test_live_log(engine: DockerEngine, make: Make) -> None:
    """The log can be read while the job runs."""
    (handle,) = engine.submit([make("echo begun; echo ready > /dispatch/scratch/ready; sleep 3600")])
    running(engine, handle.key)
    seen = b""
    while seen != b"begun\n":
        seen = b"".join(engine.logs(handle))
    engine.cancel([handle], grace=0)
    assert end_of(engine, handle.key).reason is Reason.CANCELLED


@pytest.mark.engine
def test_close_kills_what_was_cancelled(engine: DockerEngine, door: Door, make: Make) -> None:
    """A client that ends during the grace leaves no container running that it was told to stop."""
    (handle,) = engine.submit([make("trap '' TERM; sleep 3600")])
    running(engine, handle.key)
    engine.cancel([handle], grace=3600)
    engine.close()
    assert door.containers.wait(handle.engine_id) == 137


@pytest.mark.engine
def test_close_leaves_running_jobs_alone(door: Door, make: Make) -> None:
    """A client that ends without cancelling leaves its jobs running, to be found by the next."""
    first = DockerEngine(door, uid=os.geteuid(), gid=os.getegid())
    (handle,) = first.submit([make("sleep 3600")])
    running(first, handle.key)
    first.close()
    second = DockerEngine(door, uid=os.geteuid(), gid=os.getegid())
    state = door.containers.inspect(handle.engine_id)
    assert state is not None and state.status == "running"
    assert second.find(RUN) == [handle]
    second.release(handle)
    second.close()
    assert door.containers.inspect(handle.engine_id) is None


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}, "containerd"),
        ({"OSType": "windows"}, "windows"),
    ],
)
def test_engines_that_are_refused(info: dict[str, object], words: str) -> None:
    """An engine of a kind that is not supported yet is refused with what to do."""
    with pytest.raises(EngineError, match=words) as caught:
        refuse_unsupported(info, "unix:///x.sock")
    assert caught.value.remedy


def test_engine_that_is_accepted() -> None:
    """An engine with its own image store is not refused, whoever runs it and wherever."""
    options = ["name=seccomp,profile=default", "name=rootless", "name=userns"]
    info = {"OSType": "linux", "SecurityOptions": options, "DriverStatus": None}
    refuse_unsupported({**info, "OperatingSystem": "Docker Desktop"}, "x")
    with pytest.raises(EngineError):
        refuse_unsupported({**info, "OSType": "windows"}, "x")


@pytest.mark.engine
def test_running_comes_before_the_end(engine: DockerEngine, make: Make) -> None:
    """Times of a job's events are the engine's, and in order."""
    engine.submit([make("true")])
    begun, ended = engine.next_event(60), engine.next_event(60)
    assert begun is not None and ended is not None
    assert (begun.state, ended.state) == (JobState.RUNNING, JobState.EXITED)
    assert begun.time <= ended.time


@pytest.mark.engine
def test_usage(engine: DockerEngine, make: Make) -> None:
    """CPU and memory of a running job are told, and its peak at its end; who does not run is left out."""
    script = "x=$(head -c 60000000 /dev/zero | tr '\\0' x); while [ ! -e /dispatch/scratch/go ]; do :; done"
    job = make(script)
    (handle,) = engine.submit([job])
    running(engine, job.key)
    stranger = Handle("nobody.1", "nobody")
    given_up = time.monotonic() + 60
    while True:
        usage = engine.usage([handle, stranger])
        assert set(usage) <= {handle.key}
        if usage and usage[handle.key].memory > 50e6 and usage[handle.key].cpus > 0.1:
            break
        assert time.monotonic() < given_up, usage
        time.sleep(0.1)
    (job.attempt_dir / "scratch" / "go").touch()
    event = end_of(engine, job.key)
    assert event.peak_memory is not None and event.peak_memory > 50e6
    assert engine.usage([handle]) == {}


@pytest.mark.engine
def test_peak_of_a_job_that_ran_out_of_memory(engine: DockerEngine, make: Make) -> None:
    """A job that was killed for memory has used what it was given; so has one that lost only a child."""
    limit = 32 * 1024**2
    alone = replace(
        make("exec dd if=/dev/zero of=/dev/null bs=256M count=1"), resources=Resources(memory=limit)
    )
    event, _ = _finish(engine, alone)
    assert (event.reason, event.peak_memory) == (Reason.OOM, limit)
    script = "dd if=/dev/zero of=/dev/null bs=256M count=1; exit 3"
    child = replace(make(script, "child.1"), resources=Resources(memory=limit))
    event, _ = _finish(engine, child)
    assert (event.exit_code, event.reason, event.peak_memory) == (3, Reason.STEP, limit)
