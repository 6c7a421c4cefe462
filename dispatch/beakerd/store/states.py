"""The states of jobs, tasks and workloads, and the reasons for which jobs are stopped.

Owns the numbers, which are the API's, and what they mean together.
"""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """The API's WorkloadStatus. Its numbers are no order: READY_TO_START is the last."""

    SUBMITTED = 1
    QUEUED = 2
    INITIALIZING = 3
    RUNNING = 4
    STOPPING = 5
    UPLOADING_RESULTS = 6
    CANCELED = 7
    SUCCEEDED = 8
    FAILED = 9
    READY_TO_START = 10


class Code(IntEnum):
    """The API's CancelationCode, as far as a job here may end so."""

    SYSTEM_PREEMPTION = 1
    USER_PREEMPTION = 2
    MANUAL = 4
    TIMEOUT = 5
    NODE_UNAVAILABLE = 6
    IMPOSSIBLE_TO_SCHEDULE = 7
    SIBLING_TASK_FAILED = 8
    SIBLING_TASK_PREEMPTION = 9


FINAL = (Status.CANCELED, Status.SUCCEEDED, Status.FAILED)
WAITING = (Status.SUBMITTED, Status.QUEUED)
PREEMPTED = (Code.SYSTEM_PREEMPTION, Code.USER_PREEMPTION)
RESUMED = (*PREEMPTED, Code.NODE_UNAVAILABLE, Code.SIBLING_TASK_PREEMPTION)

# The status of a workload is the first of these that one of its tasks has: what goes on, then failure, then
# cancellation.
COMBINED = (
    Status.RUNNING,
    Status.STOPPING,
    Status.UPLOADING_RESULTS,
    Status.READY_TO_START,
    Status.INITIALIZING,
    Status.QUEUED,
    Status.SUBMITTED,
    Status.FAILED,
    Status.CANCELED,
    Status.SUCCEEDED,
)
