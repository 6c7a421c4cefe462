"""Reading ``outcome.json``. The step's own process wrote it, so nothing of it is taken on trust."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from dispatch.errors import StepError
from dispatch.runtime.outcome import CONTRACT, FILE, OutcomeState

_OUTCOME_LIMIT = 4 * 1024 * 1024


@dataclass(frozen=True)
class Outcome:
    """A job's own account of its end. Times are aware; None where the image could not tell.

    ``exit_code`` is that of the step's code or command, not of the container. ``exception`` has the texts
    ``type``, ``message`` and ``traceback``. ``peak_memory`` is in bytes, None where nobody counted.
    """

    phase: str
    state: OutcomeState
    started: datetime | None
    ended: datetime | None
    exit_code: int | None
    exception: Mapping[str, str] | None
    interpreter: str | None
    peak_memory: int | None = None


def read_outcome(output: Path) -> Outcome | None:
    """Read ``outcome.json`` of an output directory; None if the job left none.

    Raises StepError if what lies there is no outcome: a link, no plain file, too large, or not of the
    contract.
    """
    path = output / FILE
    try:
        # The step may have put anything under this name, a link out of the directory or a pipe among it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _OUTCOME_LIMIT:
            raise _unreadable(path, "it is not a file of reasonable size")
        return _outcome(json.loads(os.read(descriptor, _OUTCOME_LIMIT)))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(descriptor)


def _unreadable(path: Path, fault: object) -> StepError:
    return StepError(f"{path}: not an outcome ({fault})", remedy=f"let the step leave {FILE} alone")


def _outcome(document: dict[str, Any]) -> Outcome:
    if document["contract"] != CONTRACT:
        raise ValueError(f"contract {document['contract']!r}")
    exit_code, exception = document["exit_code"], document["exception"]
    if not (exit_code is None or type(exit_code) is int):
        raise ValueError("exit_code is not a number")
    if exception is not None:
        # Outcomes of an earlier version do not say the bases.
        known = {"bases": "", **exception}
        exception = {key: str(known[key]) for key in ("type", "message", "traceback", "bases")}
    version = document["interpreter"]
    return Outcome(
        phase=str(document["phase"]),
        state=OutcomeState(document["state"]),
        started=_moment(document["started"]),
        ended=_moment(document["ended"]),
        exit_code=exit_code,
        exception=exception,
        interpreter=None if version is None else str(version),
        peak_memory=_size(document.get("peak_memory")),
    )


def _size(found: object) -> int | None:
    if found is None or (type(found) is int and found >= 0):
        return found
    raise ValueError("peak_memory is not a number of bytes")


def _moment(text: str | None) -> datetime | None:
    """Read ISO 8601 in UTC as we write it; Python 3.10 does not read the ``Z`` itself."""
    if text is None:
        return None
    return datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=timezone.utc)
