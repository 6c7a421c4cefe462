"""A job's log on disk, and what the entrypoint's announcements in it say about time.

Owns ``out.log`` (the bytes as the job wrote them, secrets masked) and ``phases.json`` (phase name to seconds)
in an attempt's directory. Refuses to interpret anything else that a job prints.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from dispatch._docker.containers import STDERR, LogFrame, epoch
from dispatch.runtime.mask import Masker

LOG_NAME = "out.log"
PHASES_NAME = "phases.json"
LAST_PHASE = "run"
_BATCH = 1 << 18
_ANNOUNCEMENT = re.compile(rb"dispatch: phase ([a-z]{1,20})\r?\n?")
_INIT_FAILURE = re.compile(rb"\[FATAL tini \(\d+\)\] (exec .+ failed: .+)")


class JobLog:
    """Writes ``out.log`` from the engine's frames, given from the first one on and in order.

    Every byte has its place in the file by what came before it, so a log that is given once more from its
    beginning (after an outage, or by another client) is written over with itself: nothing is lost or there
    twice, two clients may do it at once, and whoever is killed leaves the beginning of it. ``values`` are
    those of secrets. An OSError of the disk is kept as ``fault``, and nothing is written from there on.

    For one thread at a time.
    """

    def __init__(self, directory: Path, values: Iterable[str] = ()) -> None:
        self._directory = directory
        self._masker = Masker(values)
        self._file = -1
        self._size = 0
        self._begun: dict[str, float] = {}
        self.last: LogFrame | None = None
        self.fault: OSError | None = None

    def restart(self) -> None:
        """Begin again with the first frame."""
        self._masker.reset()
        self._size = 0
        self._begun = {}
        self.last = self.fault = None

    def add(self, frames: list[LogFrame]) -> None:
        """Go on with the next frames: on return they can be read in the file."""
        if not frames or self.fault is not None:
            return
        if LAST_PHASE not in self._begun:
            self._note_phases(frames)
        self._write(self._masker.feed(b"".join([frame.data for frame in frames])))
        self.last = frames[-1]

    def add_all(self, frames: Iterator[LogFrame]) -> None:
        """Go on with many frames, a batch at a time."""
        batch, size = [], 0
        for frame in frames:
            batch.append(frame)
            size += len(frame.data)
            if size >= _BATCH:
                self.add(batch)
                batch, size = [], 0
        self.add(batch)

    def finish(self, ended: float) -> str:
        """Close a whole log; ``ended`` ends the last phase. OSError where it could not be kept.

        Returns why the container's command could not be executed at all, empty if it was.
        """
        self.leave(whole=True)
        if self.fault is not None:
            raise self.fault
        if self._begun:
            _write_phases(self._begun, self._directory, ended)
        failure = _INIT_FAILURE.match(self.last.data) if self.last is not None else None
        return failure[1].decode("utf-8", "replace").strip() if failure else ""

    def leave(self, whole: bool = False) -> None:
        """Close the file: nothing more will come. What may be a secret's beginning is written now if
        ``whole``, and what another client has left behind the end is cut off.
        """
        if whole and self.fault is None:
            self._write(self._masker.end())
            with contextlib.suppress(OSError):
                os.ftruncate(self._open(), self._size)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _note_phases(self, frames: list[LogFrame]) -> None:
        """Announcements count on stderr only, for the engine keeps order within a stream but not across;
        after the last phase they are the step's own words.
        """
        for frame in frames:
            if frame.stream == STDERR and (match := _ANNOUNCEMENT.fullmatch(frame.data)) is not None:
                phase = match[1].decode("ascii")
                self._begun.setdefault(phase, epoch(frame.stamp))
                if phase == LAST_PHASE:
                    return

    def _open(self) -> int:
        if self._file < 0:
            self._file = os.open(self._directory / LOG_NAME, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        return self._file

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            self._open()
            while view:
                written = os.pwrite(self._file, view, self._size)
                self._size += written
                view = view[written:]
        except OSError as error:
            self.fault = error


def _write_phases(begun: dict[str, float], directory: Path, ended: float) -> None:
    times = [*begun.values(), ended]
    durations = {name: max(0.0, times[index + 1] - times[index]) for index, name in enumerate(begun)}
    partial = directory / f"{PHASES_NAME}.part"
    partial.write_text(json.dumps(durations), encoding="ascii")
    partial.replace(directory / PHASES_NAME)
