"""How jobs end when something is in the way: a full disk, a switch, a gap."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch.beakerd.config import Config
from dispatch.beakerd.store.lifecycle import Code, Status
from dispatch.testing.beaker import Beakers
from dispatch.testing.beaker_runs import Rig, task

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("busybox_image")]


def test_a_full_disk(tmp_path: Path) -> None:
    """A result without room fails its job, a log without room is cut; both are said, and the job ends."""
    program = Path(__file__).with_name("small_disk.py")
    words = ["unshare", "--mount", sys.executable, str(program), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    result, log, small = found["result"], found["log"], found["small"]
    assert result["row"]["status"] == Status.FAILED
    assert "the disk is full" in result["row"]["message"]
    assert (result["files"], result["lines"]) == ([], 1)
    assert log["row"]["status"] == Status.SUCCEEDED
    assert "its log is not complete: No space left on device" in [message for _, message in log["events"]]
    assert 0 < log["lines"] < 600_000
    assert log["files"] == ["x"]
    assert (small["row"]["status"], small["lines"], small["files"]) == (Status.SUCCEEDED, 1, ["x"])


@pytest.mark.parametrize("kept", [True, False])
def test_the_result_of_a_canceled_job(rig_of: Callable[..., Rig], kept: bool) -> None:
    """It is captured by the switch."""
    rig = rig_of(Config(assume=replace(Config().assume, grace=0.2, result_on_cancel=kept)))
    job = rig.run("echo x > /results/x; echo up; sleep 100")
    rig.jobs.until(job, lambda _: rig.jobs.log(job) == [b"up"], 60)
    rig.stop(job)
    assert rig.jobs.end(job)["status"] == Status.CANCELED
    assert rig.jobs.result(job) == ({"x": b"x\n"} if kept else {})


def test_the_gap_before_the_end(rig_of: Callable[..., Rig]) -> None:
    """By the switch a job has exited for a while before it is finalized, across a restart, too."""
    rig = rig_of(Config(assume=replace(Config().assume, finalize_gap=3.0)))
    job = rig.run("echo x > /results/x")
    row = rig.jobs.until(job, lambda row: row["exited"] is not None, 60)
    assert (row["status"], row["finalized"]) == (Status.UPLOADING_RESULTS, None)
    rig.restart()
    row = rig.jobs.end(job)
    assert row["finalized"] - row["exited"] >= 3_000_000_000
    assert rig.jobs.result(job) == {"x": b"x\n"}


def test_metrics_that_are_none(rig: Rig) -> None:
    """What is no JSON does not fail the job; an event says it."""
    job = rig.run("echo '{' > /results/metrics.json")
    row = rig.jobs.end(job)
    assert (row["status"], row["metrics"]) == (Status.SUCCEEDED, None)
    assert "metrics.json cannot be read" in dict(rig.jobs.events(job))["results"]


def test_a_result_that_is_odd(rig: Rig) -> None:
    """Links within it are kept as copies, all else is left out and said; the job does not fail for it."""
    job = rig.run(
        "cd /results; echo a > a; ln -s a b; ln -s /etc/passwd c; ln a d; mkfifo e; mkdir f; touch f/g"
    )
    row = rig.jobs.end(job)
    assert row["status"] == Status.SUCCEEDED
    assert rig.jobs.result(job) == {"a": b"a\n", "b": b"a\n", "d": b"a\n", "f/g": b""}
    assert "'c'" in (said := dict(rig.jobs.events(job))["results"])
    assert "'e'" in said


def test_a_retry_is_another_job(rig: Rig) -> None:
    """A job that failed and may be tried again has a successor, which runs with a result of its own."""
    job = rig.jobs.queue(task("echo x > /results/x; exit 4"), retries=1)
    rig.backend.jobs.changed()
    assert rig.jobs.end(job)["status"] == Status.FAILED
    with rig.backend.database.read() as tx:
        query = "SELECT id FROM jobs WHERE retry_ancestor_id = ?"
        (successor,) = [row[0] for row in tx.execute(query, (job,)).fetchall()]
    row = rig.jobs.end(successor)
    assert row["status"] == Status.FAILED
    assert row["result_dataset_id"] != rig.jobs.row(job)["result_dataset_id"]
    assert rig.jobs.result(successor) == rig.jobs.result(job) == {"x": b"x\n"}


def test_a_clock_that_is_set_back(beakers: Beakers) -> None:
    """A job's times go forward all the same, its time limit is kept, and its log is whole."""
    hour = 3600 * 1_000_000_000
    ahead = [hour]
    rig = Rig(beakers, wall=lambda: time.time_ns() + ahead[0])
    first = rig.run("echo up; sleep 1; echo down")
    rig.jobs.until(first, lambda _: rig.jobs.log(first) == [b"up"], 60)
    ahead[0] = 0
    second = rig.run("echo up; sleep 100", timeout=2_000_000_000)
    begun = time.monotonic()
    rows = [rig.jobs.end(first), rig.jobs.end(second)]
    assert time.monotonic() - begun >= 2.0
    for row in rows:
        assert row["created"] < row["scheduled"] <= row["started"] <= row["exited"] <= row["finalized"], row
    assert [row["canceled_code"] for row in rows] == [None, Code.TIMEOUT]
    assert rig.jobs.log(first) == [b"up", b"down"]
    rig.close()
