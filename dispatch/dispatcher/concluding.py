"""From the end of a job to a verdict: judged, recorded, and only then forgotten by the engine.

Owns what is done with an ended attempt outside of the dispatching thread, since a result may take long to
commit. Refuses to decide what becomes of the step: whoever asked is told.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dispatch.dispatcher.inbox import Concluded
from dispatch.dispatcher.work import Claims, JobFactory, StepOutcome, Verdict, Work
from dispatch.engine.base import Engine, Event, Handle, Reason
from dispatch.errors import DispatchError
from dispatch.info import AttemptFacts, StepState
from dispatch.units import format_duration

if TYPE_CHECKING:
    from dispatch.workspace.base import Attempt

SUPERSEDED = "another run took its attempt for lost and works at it"

_log = logging.getLogger(__name__)


class Stop(enum.Enum):
    """Why we had a job stopped."""

    SUPERSEDED = "superseded"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"


@dataclass
class Running:
    """A step with a job. ``stop`` is set before the job is told to end."""

    work: Work
    attempt: Attempt
    handle: Handle
    stop: Stop | None = None


class Concluder:
    """Judges ended attempts for one run. Its methods may be called from several threads."""

    def __init__(
        self, engine: Engine, workspace: Claims, jobs: JobFactory, tell: Callable[[Concluded], None]
    ) -> None:
        self._engine = engine
        self._workspace = workspace
        self._jobs = jobs
        self._tell = tell

    def conclude(self, running: Running, event: Event) -> None:
        """Judge an ended attempt, record it, tell of it, and let the engine forget the job.

        Whatever happens in here, the loop hears of the end: it waits for it. It does not wait for the engine
        to forget, which may take as long as the step did.
        """
        try:
            concluded = self._judge(running, event)
        except BaseException as error:
            name, outcome = running.work.name, self.lost(running.work, running.attempt, in_words(error))
            concluded = Concluded(name, outcome)
        self._tell(concluded)
        try:
            self._engine.release(running.handle)
        except Exception as error:
            # What the engine still holds of the job is found again by its labels.
            _log.debug("%s could not be released: %s", running.handle, error)

    def _judge(self, running: Running, event: Event) -> Concluded:
        work, attempt = running.work, running.attempt
        if running.stop is Stop.SUPERSEDED:
            self._workspace.fail(attempt, work.record, AttemptFacts.refused(SUPERSEDED))
            return Concluded(work.name, None)
        if running.stop is Stop.TIMEOUT and event.reason is Reason.CANCELLED:
            words = f"it ran for longer than {format_duration(work.timeout or 0.0)}"
            event = replace(event, reason=Reason.TIMEOUT, message=words)
        facts = self._jobs.facts(work.record, attempt, event)
        if facts.state is StepState.COMPLETED:
            info = self._workspace.commit(attempt, work.record, facts, output=event.output)
            return Concluded(work.name, StepOutcome(work.name, Verdict.COMPLETED, "", info), facts)
        info = self._workspace.fail(attempt, work.record, facts, output=event.output)
        cancelled = running.stop is Stop.CANCELLED and facts.reason == Reason.CANCELLED.value
        verdict = Verdict.CANCELLED if cancelled else Verdict.FAILED
        outcome = StepOutcome(work.name, verdict, facts.error or facts.reason, info)
        return Concluded(work.name, outcome, facts)

    def lost(self, work: Work, attempt: Attempt, message: str, reason: str = "") -> StepOutcome:
        """Record of an attempt what can be told where its end is not known, as far as the disk lets us."""
        facts = AttemptFacts(StepState.FAILED, reason=reason, error=message)
        verdict = Verdict.CANCELLED if reason == Reason.CANCELLED.value else Verdict.FAILED
        try:
            info = self._workspace.fail(attempt, work.record, facts)
        except Exception as error:
            _log.debug("%s: no end recorded: %s", attempt.key, error)
            return StepOutcome(work.name, verdict, message)
        return StepOutcome(work.name, verdict, message, info)


def in_words(error: BaseException) -> str:
    """Say in one line what went wrong."""
    if isinstance(error, DispatchError):
        return error.message
    if isinstance(error, OSError):
        return f"the system refused: {error}"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    _log.debug("unexpected error", exc_info=error)
    return f"unexpected {type(error).__name__}: {error}"
