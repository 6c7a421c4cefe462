"""The life of a job, as changes that happen together.

Owns every change of a job's state after its experiment was made: it is queued, assigned, started, has exited,
is finalized, and what follows from that in the same transaction (its successor, its task's status, its
result's commit, the end of its tokens), so that no moment shows a task that has failed before its retry is
there. The wish to stop a job is state, too: it survives whoever was to carry it out.

    queued → initializing → running → (stopping) → uploading results → succeeded, failed, canceled
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from dispatch.beakerd.clock import Clock, Ids
from dispatch.beakerd.config import Assumptions
from dispatch.beakerd.spec import load_task
from dispatch.beakerd.store.database import Transaction


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


FINAL = (Status.CANCELED, Status.SUCCEEDED, Status.FAILED)
RESUMED = (Code.SYSTEM_PREEMPTION, Code.USER_PREEMPTION, Code.NODE_UNAVAILABLE)


@dataclass(frozen=True)
class Assignment:
    """Where a job runs, and on which of the node's GPUs (their ids)."""

    node_id: str
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class NewJob:
    """What a job is made of. ``queued`` is its place among those of its priority, None for behind all."""

    task_id: str
    experiment_id: str
    workspace_id: str
    author_id: str
    name: str
    priority: int
    queued: int | None = None
    ancestor: str | None = None


class Lifecycle:
    """The changes. Each takes an open write transaction, and is safe to repeat."""

    def __init__(self, clock: Clock, ids: Ids, assume: Assumptions):
        self._clock = clock
        self._ids = ids
        self._assume = assume

    def queue(self, tx: Transaction, new: NewJob) -> str:
        """Make a job that waits, and return its id. Its task's status is its own from now on."""
        now, job = self._clock.now(), self._ids.new()
        tx.execute(
            "INSERT INTO jobs (id, task_id, experiment_id, workspace_id, author_id, name, status, priority,"
            " queued, created, retry_ancestor_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                job,
                new.task_id,
                new.experiment_id,
                new.workspace_id,
                new.author_id,
                new.name,
                Status.QUEUED,
                new.priority,
                now if new.queued is None else new.queued,
                now,
                new.ancestor,
            ),
        )
        self._say(tx, job, "queued", "waiting to be scheduled")
        self._show(tx, job)
        return job

    def assign(self, tx: Transaction, job: str, place: Assignment) -> bool:
        """Give a waiting job its place and its result dataset; False where it waits no longer."""
        now = self._clock.now()
        changed = tx.execute(
            "UPDATE jobs SET status = ?, scheduled = ?, node_id = ?, gpus = ?, waiting_for = NULL"
            " WHERE id = ? AND status = ?",
            (Status.INITIALIZING, now, place.node_id, json.dumps(place.gpus), job, Status.QUEUED),
        ).rowcount
        if not changed:
            return False
        result = self._ids.new()
        tx.execute(
            "INSERT INTO datasets (id, author_id, workspace_id, created, source_job_id)"
            " SELECT ?, author_id, workspace_id, ?, id FROM jobs WHERE id = ?",
            (result, now, job),
        )
        tx.execute("UPDATE jobs SET result_dataset_id = ? WHERE id = ?", (result, job))
        self._say(tx, job, "scheduled", "assigned to a node")
        self._show(tx, job)
        return True

    def waits_for(self, tx: Transaction, job: str, reason: str) -> None:
        """Say why a job waits; said once as long as the reason stays."""
        changed = tx.execute(
            "UPDATE jobs SET waiting_for = ? WHERE id = ? AND status = ? AND waiting_for IS NOT ?",
            (reason, job, Status.QUEUED, reason),
        ).rowcount
        if changed:
            self._say(tx, job, "waiting", reason)

    def intend(self, tx: Transaction, job: str, container: str) -> None:
        """Write down the name of the container before it is made."""
        tx.execute("UPDATE jobs SET container = ? WHERE id = ?", (container, job))

    def event(self, tx: Transaction, job: str, status: str, message: str) -> None:
        """Say something of a job that changes no state."""
        self._say(tx, job, status, message)

    def start(self, tx: Transaction, job: str, when: int) -> None:
        """The job's container runs, by the engine's clock since ``when``."""
        changed = tx.execute(
            "UPDATE jobs SET status = CASE WHEN canceled IS NULL THEN ? ELSE status END,"
            " ready = ?, started = ? WHERE id = ? AND started IS NULL AND finalized IS NULL",
            (Status.RUNNING, when, when, job),
        ).rowcount
        if changed:
            self._say(tx, job, "started", "the container runs")
            self._show(tx, job)

    def exit(self, tx: Transaction, job: str, when: int, code: int) -> None:
        """The job's process has ended; its results are captured next."""
        changed = tx.execute(
            "UPDATE jobs SET status = ?, exited = ?, exit_code = ?"
            " WHERE id = ? AND exited IS NULL AND finalized IS NULL",
            (Status.UPLOADING_RESULTS, when, code, job),
        ).rowcount
        if changed:
            self._say(tx, job, "exited", f"exit code {code}")
            self._show(tx, job)

    def stop(self, tx: Transaction, job: str, code: Code, reason: str) -> bool:
        """Wish that a job stops; False where it has exited or ended. One that waits ends at once.

        The first wish counts, but for that of a person: it wins over a preemption, which would be resumed.
        """
        row = tx.execute(
            "SELECT status, canceled_code, exited, finalized FROM jobs WHERE id = ?", (job,)
        ).fetchone()
        if row is None or row["finalized"] is not None or row["exited"] is not None:
            return False
        earlier = row["canceled_code"]
        if earlier is not None and not (earlier in RESUMED and code not in RESUMED):
            return True
        waits = row["status"] == Status.QUEUED
        tx.execute(
            "UPDATE jobs SET canceled = ?, canceled_code = ?, canceled_for = ?,"
            " status = CASE WHEN status = ? THEN ? ELSE status END WHERE id = ?",
            (self._clock.now(), code, reason, Status.RUNNING, Status.STOPPING, job),
        )
        self._say(tx, job, "stopping", reason)
        self._show(tx, job)
        if waits:
            self.finalize(tx, job)
        return True

    def finalize(
        self, tx: Transaction, job: str, failure: str | None = None, metrics: str | None = None
    ) -> str | None:
        """End a job for good, and return its successor's id, if it has one; see the module's docstring.

        ``failure`` says why it failed without an exit code of its own. The caller has captured the results.
        """
        row = tx.execute("SELECT * FROM jobs WHERE id = ?", (job,)).fetchone()
        if row is None or row["finalized"] is not None:
            return None
        now = self._clock.now()
        if row["canceled_code"] is not None:
            status = Status.CANCELED
        elif failure is not None or row["exit_code"] != 0:
            status = Status.FAILED
        else:
            status = Status.SUCCEEDED
        tx.execute(
            "UPDATE jobs SET status = ?, finalized = ?, failed = ?, message = ?, metrics = ? WHERE id = ?",
            (status, now, now if status is Status.FAILED else None, failure, metrics, job),
        )
        tx.execute(
            "UPDATE datasets SET committed = ? WHERE id = ? AND committed IS NULL",
            (now, row["result_dataset_id"]),
        )
        tx.execute("DELETE FROM tokens WHERE job_id = ?", (job,))
        self._say(tx, job, status.name.lower(), failure or row["canceled_for"] or "")
        self._show(tx, job)
        return self._succeed(tx, job)

    def _succeed(self, tx: Transaction, job: str) -> str | None:
        """Make the successor of a job that is to be resumed or tried again."""
        row = tx.execute(
            "SELECT j.*, t.spec AS task_spec, t.retries, e.allowed_retries, e.canceled AS given_up"
            " FROM jobs j JOIN tasks t ON t.id = j.task_id JOIN experiments e ON e.id = j.experiment_id"
            " WHERE j.id = ?",
            (job,),
        ).fetchone()
        if row["given_up"] is not None:
            return None
        code, resumes = row["canceled_code"], load_task(row["task_spec"]).auto_resume
        failed = row["status"] == Status.FAILED or (code == Code.TIMEOUT and self._assume.retry_timeouts)
        again = failed and row["retries"] < row["allowed_retries"]
        if again:
            tx.execute("UPDATE tasks SET retries = retries + 1 WHERE id = ?", (row["task_id"],))
        elif not (code in RESUMED and resumes):
            return None
        first = row["queued"] if self._assume.resume_first and not again else None
        new = NewJob(
            task_id=row["task_id"],
            experiment_id=row["experiment_id"],
            workspace_id=row["workspace_id"],
            author_id=row["author_id"],
            name=row["name"],
            priority=row["priority"],
            queued=first,
            ancestor=(row["retry_ancestor_id"] or job) if again else row["retry_ancestor_id"],
        )
        return self.queue(tx, new)

    def _say(self, tx: Transaction, job: str, status: str, message: str) -> None:
        tx.execute(
            "INSERT INTO job_events (id, job_id, status, message, created) VALUES (?, ?, ?, ?, ?)",
            (self._ids.new(), job, status, message, self._clock.now()),
        )

    def _show(self, tx: Transaction, job: str) -> None:
        tx.execute(
            "UPDATE tasks SET status = (SELECT status FROM jobs WHERE id = ?1)"
            " WHERE id = (SELECT task_id FROM jobs WHERE id = ?1)",
            (job,),
        )


def combined(statuses: Sequence[int]) -> Status:
    """The status of a workload whose tasks have these: what goes on, then failure, then cancellation."""
    going = (
        Status.RUNNING,
        Status.STOPPING,
        Status.UPLOADING_RESULTS,
        Status.READY_TO_START,
        Status.INITIALIZING,
        Status.QUEUED,
        Status.SUBMITTED,
        Status.FAILED,
        Status.CANCELED,
    )
    return next((status for status in going if status in statuses), Status.SUCCEEDED)
