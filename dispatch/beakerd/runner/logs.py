"""The log of one container on its way into the job's file.

Owns when it is complete: what was followed is checked against the end of what the engine kept, and read anew
from its beginning if anything is missing. A disk that is full loses the log's end, never the job: it gives
back enough for what must be written down of the job.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from dispatch._docker.containers import Containers, LogFrame
from dispatch.beakerd.joblog import LogWriter

_SECONDS = len("2006-01-02T15:04:05")
_BATCH = 512
RESERVE = 2 << 20


class JobLog:
    """Give it frames from the first one on, :meth:`restart` before it is given them anew; for one thread.

    ``fault`` is what the disk did not take.
    """

    def __init__(self, path: Path):
        self._path = path
        self._writer: LogWriter | None = None
        self._last: LogFrame | None = None
        self.fault: OSError | None = None

    def restart(self) -> None:
        """Begin again with the first frame."""
        self.leave()
        self._last = self.fault = None

    def add(self, frames: list[LogFrame]) -> None:
        """Go on with the next frames."""
        if not frames or self.fault is not None:
            return
        self._last = frames[-1]
        try:
            self._open().add((nanoseconds(frame.stamp), frame.data) for frame in frames)
        except OSError as error:
            self._fail(error)

    def complete(self, containers: Containers, name: str) -> None:
        """Make the log of an ended container whole, and close it; ``fault`` says if that was not possible."""
        if self._writer is None or self.fault is not None or not self._is_whole(containers, name):
            self.restart()
            for batch in _batches(containers.logs(name, stamps=True)):
                self.add(batch)
        self._close(final=self.fault is None)

    def leave(self) -> None:
        """Close the file as it is."""
        with contextlib.suppress(OSError):
            self._close(final=False)

    def _close(self, final: bool) -> None:
        try:
            writer = self._open() if final else self._writer
            self._writer = None
            if writer is not None:
                writer.close(final)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.fault = error
        with contextlib.suppress(OSError):
            os.truncate(self._path, max(0, self._path.stat().st_size - RESERVE))

    def _open(self) -> LogWriter:
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = LogWriter(self._path)
        return self._writer

    def _is_whole(self, containers: Containers, name: str) -> bool:
        return [*containers.logs(name, stamps=True, last=1)] == ([self._last] if self._last else [])


def nanoseconds(stamp: str) -> int:
    """One of the engine's times (RFC 3339, UTC, up to nine digits) as nanoseconds since the epoch."""
    return _whole(stamp[:_SECONDS]) * 1_000_000_000 + int((stamp[_SECONDS + 1 : -1] or "0").ljust(9, "0"))


@lru_cache(maxsize=64)
def _whole(seconds: str) -> int:
    return int(datetime.fromisoformat(f"{seconds}+00:00").timestamp())


def _batches(frames: Iterable[LogFrame]) -> Iterator[list[LogFrame]]:
    batch: list[LogFrame] = []
    for frame in frames:
        batch.append(frame)
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    yield batch
