"""The log of a job of Beaker's on this machine: of all its tries, in their order.

Owns what was read already: whoever reads on, whichever thread or client it is, writes the same bytes to the
same places. Refuses to know when to read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from pathlib import Path

from dispatch._beaker import LogLine
from dispatch._docker.containers import STDERR, LogFrame
from dispatch.engine.joblog import JobLog

_ANNOUNCES = b"dispatch: phase "
_FULL = 1 << 18
# What has come is in the file after so many seconds, without a write for each line of a job that talks much.
_SOON = 0.05
_NANO = 1_000_000_000


class BeakerLog:
    """Writes ``out.log`` of one attempt. May be used from several threads; none waits for a line in it.

    Tries are taken one after the other, each from its beginning.
    """

    def __init__(self, directory: Path, values: Iterable[str]) -> None:
        self._log = JobLog(directory, values)
        self._lock = threading.Lock()
        self._begun: set[str] = set()
        self._done: set[str] = set()
        self._try = ""
        self._last = 0
        self._frames: list[LogFrame] = []
        self._size = 0
        self._flushed = 0.0
        self._closed = False

    def begin(self, job_id: str) -> int | None:
        """Go on with a try, and return the time of its last line that is here; None where it is whole."""
        with self._lock:
            if job_id in self._done or self._closed:
                return None
            if job_id != self._try:
                if job_id in self._begun:
                    # Another reader has gone on to a later one.
                    return None
                self._begun.add(job_id)
                self._try, self._last = job_id, 0
            return self._last

    def add(self, job_id: str, line: LogLine) -> bool:
        """Take a line; false where nobody wants it any more. One that is here already counts once."""
        with self._lock:
            if self._closed or job_id != self._try:
                return False
            if line.time > self._last:
                self._last = line.time
                self._frames.append(LogFrame(STDERR, _stamp(line), line.text + b"\n"))
                self._size += len(line.text)
                now = time.monotonic()
                if self._size > _FULL or now - self._flushed > _SOON:
                    self._flush(now)
            return True

    def end(self, job_id: str) -> None:
        """A try's log is whole."""
        with self._lock:
            if job_id == self._try:
                self._done.add(job_id)
                self._flush(time.monotonic())

    def flush(self) -> None:
        """Have everything in the file that has come."""
        with self._lock:
            if self._frames:
                self._flush(time.monotonic())

    def finish(self, ended: float) -> None:
        """Close the whole log. OSError where it could not be kept."""
        with self._lock:
            if not self._closed:
                self._flush(time.monotonic())
                self._closed = True
                self._log.finish(ended)

    def leave(self) -> None:
        """Close the file as it is: whoever looks after the job next reads its log from the beginning."""
        with self._lock:
            if not self._closed:
                self._flush(time.monotonic())
                self._closed = True
                self._log.leave()

    def _flush(self, now: float) -> None:
        frames, self._frames, self._size, self._flushed = self._frames, [], 0, now
        self._log.add(frames)


def _stamp(line: LogLine) -> str:
    """The time of a line that announces a phase; nobody asks for the others'."""
    if not line.text.startswith(_ANNOUNCES):
        return ""
    seconds, rest = divmod(line.time, _NANO)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"
