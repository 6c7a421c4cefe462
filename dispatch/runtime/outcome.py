"""The file a job leaves behind last: ``outcome.json``. Owns its form and how it is written.

``contract, phase, state, started, ended, exit_code, exception{type, message, traceback}, interpreter``; the
entrypoint of a shell step writes the same from sh. ``peak_memory``, the most that the step's own process held
(bytes), is there where it is known. The client reads it in ``job``.
"""

# pathlib takes longer to import than all of the runtime.
# ruff: noqa: PTH105, PTH118, PTH123

from __future__ import annotations

import enum
import json
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CONTRACT = 1
FILE = "outcome.json"


class OutcomeState(enum.Enum):
    """How a job ended, by its own account."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


def interpreter() -> str:
    """Return this Python's version, ``3.11.2``."""
    return ".".join(map(str, sys.version_info[:3]))


def timestamp(seconds: float) -> str:
    """Return a time since the epoch as ISO 8601 in UTC, to the microsecond, ending in ``Z``."""
    whole = int(seconds)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    return f"{moment}.{int((seconds - whole) * 1_000_000):06d}Z"


def write(
    directory: str,
    state: OutcomeState,
    started: float,
    exit_code: int | None,
    exception: dict[str, Any] | None = None,
) -> None:
    """Write the outcome of the phase ``run`` into ``directory``, complete or not at all. Ends now."""
    text = json.dumps(
        {
            "contract": CONTRACT,
            "phase": "run",
            "state": state.value,
            "started": timestamp(started),
            "ended": timestamp(time.time()),
            "exit_code": exit_code,
            "exception": exception,
            "interpreter": interpreter(),
            "peak_memory": peak_memory(),
        }
    )
    write_whole(os.path.join(directory, FILE), text)


def peak_memory() -> int | None:
    """Return the most memory that this process ever held, in bytes; None where the kernel does not tell.

    The kernel's own count of a process, read in 50 µs: to import ``resource`` would take longer.
    """
    try:
        with open("/proc/self/status", "rb") as file:
            for line in file:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None


def write_whole(path: str, text: str) -> None:
    """Write ``text`` (ASCII) under another name and rename it to ``path``.

    Not synced to the disk: who commits the result does that once for all of it.
    """
    with open(path + ".part", "w", encoding="ascii") as file:
        file.write(text)
    os.replace(path + ".part", path)
