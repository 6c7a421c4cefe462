"""Why a job of Beaker's ended, in the words of engines. Decides on what Beaker says, and asks nothing."""

from __future__ import annotations

from dispatch._beaker import Job, JobState
from dispatch.engine.base import Reason

# Beaker's numbers for why a job was cancelled. Idle and unhealthy machines are no fault of the job's.
PREEMPTIONS = frozenset({1, 2, 9})
RESUMED = frozenset({*PREEMPTIONS, 3, 6, 10, 11})
_REASONS: dict[int, Reason] = {
    **dict.fromkeys(PREEMPTIONS, Reason.PREEMPTED),
    3: Reason.LOST,
    4: Reason.CANCELLED,
    5: Reason.TIMEOUT,
    6: Reason.LOST,
    7: Reason.INFRA,
    8: Reason.CANCELLED,
    10: Reason.LOST,
    11: Reason.LOST,
}
_NODE = ("node", "engine went down", "machine")
_MEMORY = ("out of memory", "oom")


def is_resumed(job: Job) -> bool:
    """Whether Beaker starts such a job again by itself, of a task that asks for it."""
    return job.state is JobState.CANCELED and job.canceled_code in RESUMED


def reason_of(job: Job, *, cancelled: bool) -> Reason:
    """Say why a job ended that is finalized. ``cancelled``: we wanted it to end."""
    if job.state is JobState.CANCELED:
        return Reason.CANCELLED if cancelled else _REASONS.get(job.canceled_code, Reason.CANCELLED)
    if job.state is JobState.SUCCEEDED:
        return Reason.STEP
    words = job.message.lower()
    if any(word in words for word in _MEMORY):
        return Reason.OOM
    if job.exit_code and not job.message:
        return Reason.STEP
    if "image" in words and job.started is None:
        return Reason.IMAGE
    if any(word in words for word in _NODE):
        return Reason.LOST
    # One that did its work, and failed all the same: Beaker could not keep what it left.
    return Reason.STEP if job.exit_code and job.started is not None else Reason.INFRA
