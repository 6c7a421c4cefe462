"""Logs of jobs, streamed to the real client."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import grpc
import pytest
from beaker import beaker_pb2 as pb2
from beaker.exceptions import BeakerJobNotFound, BeakerPermissionsError

from dispatch.beakerd.access import Principal, Purpose
from dispatch.beakerd.config import UserConfig, WorkspaceConfig
from dispatch.beakerd.joblog import LogWriter
from dispatch.beakerd.rpc import sending, server
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_rows import BY_HAND, HandJobs

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND + 5


@pytest.fixture
def beaker(beakers: Beakers) -> LocalBeaker:
    """A server that gives no job a place by itself."""
    return beakers.start(BY_HAND)


@pytest.fixture
def jobs(beaker: LocalBeaker) -> HandJobs:
    """Jobs of the server that nobody runs."""
    return HandJobs(beaker)


def write(beaker: LocalBeaker, job: str, count: int, since: int = START) -> None:
    """A log of ``count`` lines, a microsecond apart."""
    writer = LogWriter(beaker.layout.job_log(job))
    writer.add((since + 1000 * n, b"line %d\n" % n) for n in range(count))
    writer.close(final=True)


def lines(stream: Any) -> list[str]:
    """What was printed."""
    return [each.message.decode() for each in stream]


def stub_stream(client: Any, **request: Any) -> Any:
    """The stream itself, without what the client adds: it ends when the server says so."""
    metadata = [("authorization", f"bearer {client.config.user_token}")]
    return client.service.StreamJobLogs(pb2.StreamJobLogsRequest(**request), metadata=metadata)


def until(happened: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for something."""
    ends = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_the_lines_of_a_job(beaker: LocalBeaker, jobs: HandJobs) -> None:
    """All lines arrive in order, with strictly increasing stamps; the last so many, and those since."""
    job = jobs.queue()
    write(beaker, job, 3000)
    with beaker.client() as client:
        found = list(client.job.logs(pb2.Job(id=job)))
        assert lines(found) == [f"line {n}" for n in range(3000)]
        stamps = [each.timestamp.ToNanoseconds() for each in found]
        assert stamps == [START + 1000 * n for n in range(3000)]
        assert lines(client.job.logs(pb2.Job(id=job), tail_lines=2)) == ["line 2998", "line 2999"]
        assert lines(client.job.logs(pb2.Job(id=job), tail_lines=0)) == lines(found)
        since = datetime.fromtimestamp((START - 5) / SECOND, timezone.utc).replace(microsecond=2998)
        assert lines(client.job.logs(pb2.Job(id=job), since=since)) == ["line 2998", "line 2999"]
        assert lines(client.job.logs(pb2.Job(id=job), since=since, tail_lines=1)) == ["line 2999"]
        assert lines(stub_stream(client, job_id=job, since={"seconds": 1 << 37})) == []


def test_a_client_resumes_where_it_was(beaker: LocalBeaker, jobs: HandJobs) -> None:
    """From any stamp, the request that the client makes of it leads to the next line: also across seconds,
    and where a stamp would be a whole second."""
    job = jobs.queue()
    writer = LogWriter(beaker.layout.job_log(job))
    base = 1_700_000_000 * SECOND
    times = [
        base + 7,
        base + SECOND - 1,
        base + SECOND,
        base + SECOND,
        base + 2 * SECOND,
        base + 3 * SECOND - 1,
    ]
    writer.add((when, b"%d\n" % n) for n, when in enumerate(times))
    writer.close(final=True)
    with beaker.client() as client:
        every = list(client.job.logs(pb2.Job(id=job)))
        request = pb2.StreamJobLogsRequest(job_id=job, tail_lines=6)
        for n, last in enumerate(every):
            request.MergeFrom(pb2.StreamJobLogsRequest(since=last.timestamp))
            request.since.nanos += 1
            request.ClearField("tail_lines")
            metadata = [("authorization", f"bearer {client.config.user_token}")]
            rest = list(client.service.StreamJobLogs(request, metadata=metadata))
            assert lines(rest) == [str(left) for left in range(n + 1, len(times))]


def test_a_followed_job_waits_runs_and_is_finalized(beaker: LocalBeaker, jobs: HandJobs) -> None:
    """The stream is open before the job has started and until it is finalized, not only until it exits; each
    line comes when it is complete."""
    job = jobs.queue()
    seen: list[str] = []
    with beaker.client() as client:
        stream = stub_stream(client, job_id=job, follow=True)
        thread = threading.Thread(target=lambda: seen.extend(each.message.decode() for each in stream))
        thread.start()
        writer = LogWriter(beaker.layout.job_log(job))
        writer.add([(START, b"one\ntw")])
        until(lambda: seen == ["one"])
        writer.add([(START + 1, b"o\nlast")])
        until(lambda: seen == ["one", "two"])
        assert thread.is_alive()
        writer.close(final=True)
        until(lambda: seen == ["one", "two", "last"])
        assert thread.is_alive()
        jobs.end(job)
        thread.join(30)
        assert not thread.is_alive()
        assert stream.code() is grpc.StatusCode.OK


def test_following_asks_no_more_than_it_must(beaker: LocalBeaker, jobs: HandJobs) -> None:
    """The stream of a job that is followed is opened once, and one that has ended is not held open."""
    job = jobs.queue()
    write(beaker, job, 10)
    jobs.end(job)
    with beaker.client() as client:
        began = time.monotonic()
        assert len(lines(stub_stream(client, job_id=job, follow=True))) == 10
        assert time.monotonic() - began < 5
        running = jobs.queue()
        assert lines(stub_stream(client, job_id=running)) == []


def busy_threads() -> int:
    """How many threads of the server answer a call."""
    return sum(
        any(frame.f_code.co_filename == server.__file__ for frame in _frames(top))
        for top in sys._current_frames().values()
    )


def _frames(frame: Any) -> Iterator[Any]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def test_a_client_that_goes_away_frees_its_thread(beaker: LocalBeaker, jobs: HandJobs) -> None:
    """Whether it waits for lines or is in the middle of many, a stream ends with its caller."""
    waiting, full = jobs.queue(), jobs.queue()
    write(beaker, full, 200_000)
    with beaker.client() as client:
        followed = stub_stream(client, job_id=waiting, follow=True)
        long = stub_stream(client, job_id=full, follow=True)
        assert next(iter(long)).message == b"line 0"
        until(lambda: busy_threads() == 2)
        followed.cancel()
        until(lambda: busy_threads() == 1)
    until(lambda: busy_threads() == 0)
    assert not [line for line in beaker.lines if "Traceback" in line]


def test_the_end_of_the_server_ends_streams(beaker: LocalBeaker, jobs: HandJobs) -> None:
    """A server that goes does not wait for those who follow; the next one is asked for the rest."""
    job = jobs.queue()
    assert beaker.server.backend is not None
    with beaker.client() as client:
        stream = stub_stream(client, job_id=job, follow=True)
        until(lambda: busy_threads() == 1)
        beaker.server.backend.closing.set()
        until(lambda: busy_threads() == 0)
        with pytest.raises(grpc.RpcError) as caught:
            lines(stream)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_whose_logs(beakers: Beakers) -> None:
    """An unknown job is not found, one of others is forbidden, and a job sees those of its own workspace."""
    config = replace(
        BY_HAND,
        organizations=("ai2", "other"),
        users=(UserConfig("me", ("ai2",)), UserConfig("stranger", ("other",))),
        workspaces=(WorkspaceConfig("ai2/my-workspace", "ai2/b"), WorkspaceConfig("ai2/second", "ai2/b")),
    )
    beaker = beakers.start(config)
    jobs = HandJobs(beaker)
    mine, second = jobs.queue(), jobs.queue("ai2/second")
    write(beaker, mine, 1)
    backend = beaker.server.backend
    assert backend is not None
    with backend.database.write() as tx:
        row = tx.execute("SELECT author_id, workspace_id FROM jobs WHERE id = ?", (mine,)).fetchone()
        token = backend.access.issue(tx, Principal(row[0], Purpose.JOB, row[1], mine))
    with beaker.client() as client, pytest.raises(BeakerJobNotFound):
        lines(client.job.logs(pb2.Job(id="01ARZ3NDEKTSV4RRFFQ69G5FAV")))
    with beaker.client("stranger") as client, pytest.raises(BeakerPermissionsError):
        lines(client.job.logs(pb2.Job(id=mine)))
    with beaker.client(user_token=token) as client:
        assert lines(client.job.logs(pb2.Job(id=mine))) == ["line 0"]
        with pytest.raises(BeakerPermissionsError):
            lines(client.job.logs(pb2.Job(id=second)))


def test_grpcio_is_what_the_fast_way_expects() -> None:
    """The insides of the installed grpcio are those that many messages are sent through."""
    assert sending.FAST


def test_the_way_that_grpcio_knows() -> None:
    """Where grpcio's insides are not what is expected, its own way gets every message."""
    messages = [b"a", b"b"]
    assert sending.deliver(object(), messages) is messages
    assert sending.deliver(object(), messages, fast=False) is messages
