"""A job factory without images, sources and files: a job's exit code is all that counts."""

from __future__ import annotations

from collections.abc import Callable

from dispatch.engine.base import Event, JobSpec
from dispatch.environment import LocalId
from dispatch.info import AttemptFacts, StepRecord, StepState
from dispatch.schedule import ResourceAssignment
from dispatch.workspace.base import Attempt


class FakeJobs:
    """Implements :class:`~dispatch.dispatcher.JobFactory`: exit code 0 is a result.

    ``hook`` is called with the verb and the attempt at the beginning of every call; what it raises, the call
    raises.
    """

    def __init__(self, hook: Callable[[str, Attempt], None] = lambda *_: None, run: str = "run") -> None:
        self._hook = hook
        self._run = run

    def prepare(self, record: StepRecord, attempt: Attempt, assignment: ResourceAssignment) -> JobSpec:  # noqa: ARG002
        """Return a job that names step and attempt."""
        self._hook("prepare", attempt)
        return JobSpec(
            key=attempt.job_key,
            run=self._run,
            step=record.name,
            attempt=attempt.job,
            image=LocalId("sha256:0"),
            command=("true",),
            attempt_dir=attempt.place,
            attach=bool(attempt.adopts),
        )

    def facts(self, record: StepRecord, attempt: Attempt, event: Event) -> AttemptFacts:  # noqa: ARG002
        """Judge by the exit code."""
        self._hook("facts", attempt)
        if event.exit_code == 0:
            return AttemptFacts(StepState.COMPLETED)
        return AttemptFacts(
            StepState.FAILED,
            exit_code=event.exit_code,
            reason=event.reason.value,
            error=event.message or f"exit code {event.exit_code}",
        )
