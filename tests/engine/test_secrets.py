"""Secrets of containers: brought through standard input, or the step does not begin."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch._docker import Door, ImageRecord
from dispatch.engine.base import JobSpec, Mount, Network
from dispatch.engine.container import container_of
from dispatch.engine.docker import DockerEngine
from dispatch.engine.sandbox import Sandbox
from dispatch.environment import LocalId
from dispatch.job import CONTAINER, ShellTask, StepLabel, read_outcome, write_step_job
from dispatch.location import HostPath
from dispatch.testing.contracts_engine import end_of, greeting

pytestmark = pytest.mark.engine
RUN = "test-secrets"
SECRETS = {"TOKEN": "tok-of-the-engine", "LARGE": "y" * 65536, "LARGER": "line of it\n" * 5000}
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
    """Makes jobs of a shell step with secrets, entrypoint and all."""

    def job(command: str, uid: int = os.geteuid()) -> JobSpec:
        here = tmp_path / "step.1"
        (here / "output" / "result").mkdir(parents=True)
        for path in (here / "output", here / "output" / "result"):
            os.chown(path, uid, -1)
        label = StepLabel("step", "step", "shell", 1)
        write_step_job(here / "job", label, ShellTask(command), "/", secrets=CONTAINER.secrets)
        mounts = (
            Mount(HostPath(here / "job"), CONTAINER.job),
            Mount(HostPath(here / "output"), CONTAINER.output, read_only=False),
        )
        return JobSpec(
            key="step.1",
            run=RUN,
            step="step",
            attempt=1,
            image=LocalId(busybox_image.id),
            command=CONTAINER.command(),
            attempt_dir=here,
            mounts=mounts,
            working_dir="/",
            env={"DISPATCH_OUTPUT_DIR": CONTAINER.result, "DISPATCH_SECRETS_DIR": CONTAINER.secrets},
            network=Network.NONE,
            secrets=SECRETS,
            secret_variables=("TOKEN",),
        )

    return job


COPY = """
cd "$DISPATCH_SECRETS_DIR" && wc -c * > "$DISPATCH_OUTPUT_DIR/sizes"
[ ${#TOKEN} = 17 ]; echo "$TOKEN" $?
"""
SIZES = {"TOKEN": 17, "LARGE": 65536, "LARGER": 55000}


def arrived(job: JobSpec) -> dict[str, int]:
    """The sizes that the step saw."""
    rows = (line.split() for line in (job.attempt_dir / "output/result/sizes").read_text().splitlines())
    return {name: int(size) for size, name in rows if name != "total"}


def test_they_arrive(engine: DockerEngine, make: Make) -> None:
    """More than a socket holds comes whole; no description of the container has any of it."""
    job = make(COPY)
    (handle,) = engine.submit([job])
    assert end_of(engine, job.key).exit_code == 0
    assert arrived(job) == SIZES
    assert (job.attempt_dir / "out.log").read_text().splitlines()[-1] == "*** 0"
    told = subprocess.run(["docker", "inspect", handle.engine_id], capture_output=True, text=True, check=True)
    assert "OpenStdin" in told.stdout
    assert not any(value[:17] in told.stdout for value in SECRETS.values())


def test_another_user(door: Door, make: Make) -> None:
    """A job that runs as another user than root can read them, too."""
    job = make(COPY, uid=4321)
    engine = DockerEngine(door, uid=4321, gid=4321)
    try:
        engine.submit([job])
        assert end_of(engine, job.key).exit_code == 0
        assert arrived(job) == SIZES
    finally:
        for handle in engine.find(RUN):
            engine.release(handle)
        engine.close()


def test_client_that_died_before_it_sent_them(engine: DockerEngine, door: Door, make: Make) -> None:
    """A container whose client is gone ends before the step, and says so to whoever takes it over."""
    job = make('touch "$DISPATCH_OUTPUT_DIR/began"')
    name = _created(job, door)
    entry = door.containers.attach_input(name)
    door.containers.start(name)
    entry.send(b"TOKEN 1 0 1\ntok-of-the-eng")
    entry.close()
    engine.submit([job])
    assert end_of(engine, job.key).exit_code == 75
    outcome = read_outcome(job.attempt_dir / "output")
    assert outcome is not None and outcome.phase == "secrets"
    assert not (job.attempt_dir / "output/result/began").exists()


def test_client_that_died_before_it_started_it(engine: DockerEngine, door: Door, make: Make) -> None:
    """A container that was created, and whose standard input has ended, is made anew."""
    job = make(COPY)
    name = _created(job, door)
    door.containers.attach_input(name).close()
    engine.submit([job])
    event = end_of(engine, job.key)
    assert (event.engine_id, event.exit_code) == (name, 0)
    assert arrived(job) == SIZES


def test_adopted_while_it_runs(engine: DockerEngine, door: Door, make: Make) -> None:
    """A running step keeps its secrets when another client takes over, and its log stays masked."""
    job = make('echo "$TOKEN"; while [ ! -e /dispatch/scratch/go ]; do sleep 0.05; done; echo "$TOKEN" again')
    first = DockerEngine(door, uid=os.geteuid(), gid=os.getegid())
    (handle,) = first.submit([job])
    greeting(first, handle, b"***")
    first.close()
    engine.submit([replace(job)])
    (job.attempt_dir / "scratch" / "go").touch()
    assert end_of(engine, job.key).exit_code == 0
    assert (job.attempt_dir / "out.log").read_text().splitlines()[2:] == ["***", "*** again"]


def _created(job: JobSpec, door: Door) -> str:
    """A container as a client leaves it that dies before the start."""
    sandbox = Sandbox.of(job.attempt_dir, os.geteuid(), os.getegid())
    name = sandbox.container_name(job.key, lambda: "killed")
    door.containers.create(container_of(job, name, f"{os.geteuid()}:{os.getegid()}", sandbox.prepare(job)))
    return name
