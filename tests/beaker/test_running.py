"""Jobs as real containers, without scheduler and API: how they begin, go on and end."""

from __future__ import annotations

import time

import pytest

from dispatch._docker import Door
from dispatch.beakerd.spec import ImageSource
from dispatch.beakerd.store.lifecycle import Code, Status
from dispatch.testing.beaker_runs import Rig, task
from dispatch.testing.processes import until

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("busybox_image")]


def test_a_job_succeeds(rig: Rig) -> None:
    """Its times, exit code, log and result are there when it is finalized."""
    job = rig.run("echo hello; echo there >&2; mkdir /results/a; echo kept > /results/a/b")
    row = rig.jobs.end(job)
    assert (row["status"], row["exit_code"]) == (Status.SUCCEEDED, 0), rig.jobs.events(job)
    assert row["scheduled"] < row["started"] <= row["exited"] <= row["finalized"]
    assert sorted(rig.jobs.log(job)) == [b"hello", b"there"]
    assert rig.jobs.result(job) == {"a/b": b"kept\n"}


@pytest.mark.parametrize(
    ("command", "status", "code"),
    [("exit 3", Status.FAILED, 3), ("kill -9 $$", Status.FAILED, 137), ("exit 0", Status.SUCCEEDED, 0)],
)
def test_exits(rig: Rig, command: str, status: Status, code: int) -> None:
    """A job's result is there whatever its exit code."""
    job = rig.run(f"echo 1 > /results/x; {command}")
    row = rig.jobs.end(job)
    assert (row["status"], row["exit_code"]) == (status, code)
    assert rig.jobs.result(job) == {"x": b"1\n"}


def test_the_image_s_own_command(rig: Rig) -> None:
    """Without command and arguments the image's own runs; arguments alone replace the image's command."""
    plain = rig.run(None)
    given = rig.run(None, arguments=("/bin/echo", "given"))
    rig.jobs.end(plain)
    assert rig.jobs.end(given)["status"] == Status.SUCCEEDED
    assert rig.jobs.row(plain)["exit_code"] == 0
    assert rig.jobs.log(given) == [b"given"]


def test_a_bad_command(rig: Rig) -> None:
    """A command that the image lacks is an exit with 127, and the log says which."""
    job = rig.run(None, command=("/no/such",))
    row = rig.jobs.end(job)
    assert (row["status"], row["exit_code"]) == (Status.FAILED, 127)
    assert b"/no/such" in b"\n".join(rig.jobs.log(job))


def test_an_image_that_is_not_to_be_had(rig: Rig) -> None:
    """The job fails with a sentence, and never starts."""
    job = rig.run("true", image=ImageSource(docker="no-such-image:1"))
    row = rig.jobs.end(job)
    assert (row["status"], row["started"], row["exit_code"]) == (Status.FAILED, None, None)
    assert "no-such-image:1" in row["message"]


def test_stopping(rig: Rig) -> None:
    """A wish makes a job end by SIGTERM; its result is kept, and it is canceled whatever its exit code."""
    job = rig.run("trap 'echo bye; echo x > /results/x; exit 0' TERM; echo up; while :; do sleep 0.1; done")
    rig.jobs.until(job, lambda _: rig.jobs.log(job) == [b"up"], 30)
    rig.stop(job)
    row = rig.jobs.end(job)
    assert (row["status"], row["exit_code"]) == (Status.CANCELED, 0)
    assert rig.jobs.log(job) == [b"up", b"bye"]
    assert rig.jobs.result(job) == {"x": b"x\n"}


def test_stopping_what_does_not_hear(rig: Rig) -> None:
    """SIGKILL comes after the grace."""
    job = rig.run("trap '' TERM; echo up; while :; do sleep 0.1; done")
    rig.jobs.until(job, lambda _: rig.jobs.log(job) == [b"up"], 30)
    begun = time.monotonic()
    rig.stop(job)
    row = rig.jobs.end(job)
    assert (row["status"], row["exit_code"]) == (Status.CANCELED, 137)
    assert time.monotonic() - begun >= 1.0


def test_a_wish_from_before(rig: Rig) -> None:
    """A job that is to stop before it began is never made a container of."""
    job = rig.jobs.ready(task("echo ran"))
    rig.jobs.wish(job)
    rig.backend.jobs.start(job)
    row = rig.jobs.end(job)
    assert (row["status"], row["started"], row["container"]) == (Status.CANCELED, None, None)


def test_the_time_limit(rig: Rig) -> None:
    """A job that runs too long is stopped, and says so."""
    job = rig.run("echo up; sleep 100", timeout=1_000_000_000)
    row = rig.jobs.end(job)
    assert (row["status"], row["canceled_code"]) == (Status.CANCELED, Code.TIMEOUT)
    assert "1 s" in row["canceled_for"]


def test_a_job_is_adopted(rig: Rig) -> None:
    """A new runner follows a job to its end; its log is whole, and it ran once."""
    job = rig.run("for i in 1 2 3 4 5 6; do echo $i; sleep 0.2; done; echo >> /results/ran")
    rig.jobs.until(job, lambda _: bool(rig.jobs.log(job)), 30)
    rig.restart()
    row = rig.jobs.end(job)
    assert row["status"] == Status.SUCCEEDED
    assert rig.jobs.log(job) == [b"1", b"2", b"3", b"4", b"5", b"6"]
    assert rig.jobs.result(job) == {"ran": b"\n"}


def test_nothing_is_left(rig: Rig, door: Door) -> None:
    """Container and volume are removed after the job is finalized."""
    job = rig.run("echo x > /results/x")
    rig.jobs.end(job)
    until(lambda: door.containers.inspect(f"beaker-{job.lower()}") is None, "the container is removed")
