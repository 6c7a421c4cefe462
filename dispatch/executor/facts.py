"""From an attempt's end to what is recorded of it: state, reason, times, and one line for people."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from dispatch import job as jobs
from dispatch.engine.base import Event, Reason
from dispatch.errors import StepError
from dispatch.executor.materials import Common
from dispatch.executor.tasks import secrets_of
from dispatch.graph import SHELL
from dispatch.info import AttemptFacts, StepState
from dispatch.plan import PlannedStep
from dispatch.runtime.mask import mask_text, mask_texts
from dispatch.runtime.outcome import OutcomeState
from dispatch.units import format_size
from dispatch.workspace.base import Attempt

SECRETS_PHASE = "secrets"
ENTRYPOINT_CODES = range(64, 79)
_LAST_BYTES = 4096
_WORD = re.compile(r"^dispatch: (?!phase )(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Origin:
    """What ran an attempt: the engine's name, and the digest of the image where there was one."""

    engine: str
    image_digest: str = ""


def judge(
    planned: PlannedStep, attempt: Attempt, event: Event, origin: Origin, common: Common
) -> AttemptFacts:
    """Judge an ended attempt: the outcome decides, and without one the engine's reason.

    Times are the engine's where it told the phases apart, for what the step's own clock says may be cut to
    seconds or wrong.
    """
    outcome, fault = None, ""
    try:
        outcome = jobs.read_outcome(attempt.place / "output")
    except StepError as unreadable:
        fault = unreadable.message
    secrets = secrets_of(planned, common).values.values()
    completed = outcome is not None and outcome.state is OutcomeState.COMPLETED
    end = _End(outcome, event, planned, attempt.place / "out.log")
    ended = datetime.fromtimestamp(event.time, timezone.utc)
    phases = _phases(attempt.place / "phases.json")
    started = ended - timedelta(seconds=sum(phases.values())) if phases else None
    return AttemptFacts(
        state=StepState.COMPLETED if completed else StepState.FAILED,
        started=started or (outcome.started if outcome else None),
        ended=ended,
        exit_code=outcome.exit_code if outcome and outcome.exit_code is not None else event.exit_code,
        reason=end.reason().value,
        phase=outcome.phase if outcome else "",
        error="" if completed else mask_text(secrets, fault or end.failure()),
        exception=mask_texts(secrets, outcome.exception) if outcome and outcome.exception else None,
        image=planned.image if planned.image and origin.image_digest else "",
        image_digest=origin.image_digest,
        engine=origin.engine,
        interpreter=outcome.interpreter if outcome else None,
        phases=phases,
        peak_memory=end.peak_memory,
        **_of_run(common),
    )


def _of_run(common: Common) -> dict[str, Any]:
    names = ("commit", "tree", "code", "platform", "environment")
    return {name: getattr(common, name) for name in names}


@dataclass(frozen=True)
class _End:
    """All that tells why an attempt ended."""

    outcome: jobs.Outcome | None
    event: Event
    planned: PlannedStep
    log: Path

    @property
    def peak_memory(self) -> int | None:
        """The most memory that anybody saw. Who is killed for memory has reached the limit, seen or not."""
        outcome, event = self.outcome, self.event
        limit = self.planned.resources.memory_bytes if event.reason is Reason.OOM else None
        told = (event.peak_memory or limit, outcome.peak_memory if outcome is not None else None)
        return max((size for size in told if size is not None), default=None)

    def reason(self) -> Reason:
        """The engine's reason, but for a job that was stopped from outside, or never had its secrets, and
        says so itself.
        """
        if self.outcome is None or self.event.reason is not Reason.STEP:
            return self.event.reason
        if self.outcome.state is OutcomeState.CANCELLED:
            return Reason.CANCELLED
        # The step never began: whoever was to bring its secrets was gone. So it may be tried again for free.
        return Reason.LOST if self.outcome.phase == SECRETS_PHASE else Reason.STEP

    def failure(self) -> str:
        """Say in one line why an attempt failed."""
        outcome, event = self.outcome, self.event
        if event.reason is Reason.OOM:
            limit, peak = self.planned.resources.memory_bytes, self.peak_memory
            facts = {"its limit is": limit, "its peak was": peak}
            told = ", ".join(f"{name} {format_size(size)}" for name, size in facts.items() if size)
            return f"killed for memory: {told}" if told else "killed for memory"
        if event.reason in (Reason.TIMEOUT, Reason.LOST) and event.message:
            return event.message
        if outcome is not None and outcome.state is OutcomeState.CANCELLED:
            return "cancelled"
        if outcome is not None and outcome.exception:
            message = outcome.exception["message"].strip().split("\n")[0]
            return f"{outcome.exception['type']}: {message}" if message else outcome.exception["type"]
        if event.reason is not Reason.STEP and event.message:
            return event.message
        more = self._entrypoint_says() or event.message
        return self._exit() + (f": {more}" if more else "")

    def _exit(self) -> str:
        outcome, code = self.outcome, self.event.exit_code
        if outcome is None:
            return "ended without a result" + ("" if code is None else f" (exit code {code}{_signal(code)})")
        if outcome.phase != "run":
            return f"failed in the phase {outcome.phase!r} (exit code {outcome.exit_code})"
        who = "the command" if self.planned.node.type == SHELL else "the step"
        return f"{who} exited with code {outcome.exit_code}{_signal(outcome.exit_code)}"

    def _entrypoint_says(self) -> str:
        """Return the entrypoint's last word in the log if it was the entrypoint that gave up.

        A command's own exit code may be one of the entrypoint's.
        """
        outcome = self.outcome
        if outcome is not None and outcome.phase == "run" and self.planned.node.type == SHELL:
            return ""
        code = self.event.exit_code if outcome is None else outcome.exit_code
        if code not in ENTRYPOINT_CODES:
            return ""
        words = _WORD.findall(_tail(self.log))
        return words[-1].strip() if words else ""


def _signal(code: int | None) -> str:
    """The signal that an exit code above 128 stands for, as POSIX sh has it."""
    if code is not None and code > 128:
        with contextlib.suppress(ValueError):
            return f", {signal.Signals(code - 128).name}"
    return ""


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _LAST_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _phases(path: Path) -> dict[str, float]:
    try:
        found = {str(name): float(value) for name, value in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        # Times of phases are a convenience taken from a log: a run never fails for want of them.
        return {}
    return found if all(math.isfinite(value) and value >= 0 for value in found.values()) else {}
