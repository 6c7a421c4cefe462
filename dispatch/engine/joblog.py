"""A job's log on disk, and what the entrypoint's announcements in it say about time.

Owns ``out.log`` (the bytes as the job wrote them) and ``phases.json`` (phase name to seconds) in an attempt's
directory. Refuses to interpret anything else that a job prints.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from dispatch._docker.containers import STDERR, LogFrame, epoch

LOG_NAME = "out.log"
PHASES_NAME = "phases.json"
LAST_PHASE = "run"
_ANNOUNCEMENT = re.compile(rb"dispatch: phase ([a-z]{1,20})\r?\n?")
_INIT_FAILURE = re.compile(rb"\[FATAL tini \(\d+\)\] (exec .+ failed: .+)")


def write_log(frames: Iterable[LogFrame], directory: Path, ended: float) -> str:
    """Keep a finished job's log, and how long its phases took if it announces any; each whole or not at all.

    ``frames`` carry the engine's times; ``ended`` closes the last phase. Announcements count on stderr only,
    for the engine keeps order within a stream but not across; after the phase ``run`` they are the step's own
    words. Returns why the container's command could not be executed at all, empty if it was.
    """
    begun: dict[str, float] = {}
    last = b""
    partial = directory / f"{LOG_NAME}.part"
    with partial.open("wb") as file:
        for frame in frames:
            file.write(frame.data)
            last = frame.data
            if frame.stream == STDERR and LAST_PHASE not in begun:
                match = _ANNOUNCEMENT.fullmatch(frame.data)
                if match is not None:
                    begun.setdefault(match[1].decode("ascii"), epoch(frame.stamp))
    partial.replace(directory / LOG_NAME)
    if begun:
        _write_phases(begun, directory, ended)
    failure = _INIT_FAILURE.match(last)
    return failure[1].decode("utf-8", "replace").strip() if failure else ""


def _write_phases(begun: dict[str, float], directory: Path, ended: float) -> None:
    times = [*begun.values(), ended]
    durations = {name: max(0.0, times[index + 1] - times[index]) for index, name in enumerate(begun)}
    partial = directory / f"{PHASES_NAME}.part"
    partial.write_text(json.dumps(durations), encoding="ascii")
    partial.replace(directory / PHASES_NAME)
