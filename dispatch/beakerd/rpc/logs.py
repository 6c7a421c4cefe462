"""What jobs print, streamed.

Owns when a stream ends: that of a job which is followed when the job is finalized, not when its process has
exited. Public clients open it again until then, without a pause.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from beaker import beaker_pb2 as pb2

from dispatch.beakerd.access import Principal, require
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.joblog import LogReader
from dispatch.beakerd.problems import not_found
from dispatch.beakerd.rpc.server import Stream

# How soon a line is seen by who follows, in seconds.
POLL = 0.05
_SECOND = 1_000_000_000
_LINES = 1000


def stream_job_logs(
    backend: Backend, who: Principal, request: Any, alive: Callable[[], bool]
) -> Iterator[list[bytes]]:
    """A job's lines: the last ``tail_lines`` of those since ``since``, and with ``follow`` those to come.

    A job that waits has none yet, and is followed like any other.
    """
    finalized = _finalized(backend, request.job_id, who)
    since = request.since.seconds * _SECOND + request.since.nanos
    reader = LogReader(backend.layout.job_log(request.job_id))
    try:
        lines = reader.read(since, request.tail_lines)
        while alive():
            while (batch := _serialized(islice(lines, _LINES))) and alive():
                yield batch
            if finalized or not request.follow or backend.closing.is_set():
                return
            backend.closing.wait(POLL)
            # Asked before the lines are read: a log is whole when its job is finalized.
            finalized = _finalized(backend, request.job_id)
            lines = reader.read(since, request.tail_lines)
    finally:
        reader.close()


def _finalized(backend: Backend, job: str, who: Principal | None = None) -> bool:
    """Whether a job is finalized; one that was deleted is. A caller must be one who may see it."""
    with backend.database.read() as tx:
        row = tx.execute("SELECT workspace_id, finalized FROM jobs WHERE id = ?", (job,)).fetchone()
        if who is not None:
            if row is None:
                raise not_found("job", job)
            require(tx, who, row["workspace_id"], f"job {job!r}")
    return row is None or row["finalized"] is not None


def _serialized(lines: Iterator[tuple[int, bytes]]) -> list[bytes]:
    """JobLog messages; one object serves for all, which takes a third of the time."""
    message = pb2.JobLog()
    stamp = message.timestamp
    found = []
    for when, line in lines:
        stamp.seconds, stamp.nanos = divmod(when, _SECOND)
        message.message = line
        found.append(message.SerializeToString())
    return found


STREAMS: dict[str, Stream] = {"StreamJobLogs": stream_job_logs}
