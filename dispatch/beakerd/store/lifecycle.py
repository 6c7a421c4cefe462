"""The life of a job, as changes that happen together.

Owns every change of a job's state after its experiment was made: it is queued, assigned, started, has exited,
is finalized, and what follows from that in the same transaction (its successor, its task's status, its
result's commit, the end of its tokens, what becomes of the tasks that wait for it), so that no moment shows a
task that has failed before its retry is there. The wish to stop a job is state, too: it survives whoever was
to carry it out (see :func:`stopping`).

    (submitted →) queued → initializing → running → (stopping) → uploading results
    → succeeded, failed, canceled

A job is submitted, and not queued, as long as it waits for results of other tasks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dispatch.beakerd.clock import Clock, Ids
from dispatch.beakerd.config import Assumptions
from dispatch.beakerd.spec import load_task
from dispatch.beakerd.store import dependencies
from dispatch.beakerd.store.database import Transaction
from dispatch.beakerd.store.states import FINAL, PREEMPTED, RESUMED, Code, Status

__all__ = [
    "FINAL",
    "RESUMED",
    "Assignment",
    "Code",
    "Lifecycle",
    "NewJob",
    "Status",
    "stopping",
]


@dataclass(frozen=True)
class Assignment:
    """Where a job runs, and on which of the node's GPUs (their ids)."""

    node_id: str
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class NewJob:
    """What a job is made of. ``queued`` is its place among those of its priority, None for behind all;
    ``waits_for`` names the tasks whose results it waits for."""

    task_id: str
    experiment_id: str
    workspace_id: str
    author_id: str
    name: str
    priority: int
    queued: int | None = None
    ancestor: str | None = None
    waits_for: Sequence[str] = ()


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
                Status.SUBMITTED if new.waits_for else Status.QUEUED,
                new.priority,
                now if new.queued is None else new.queued,
                now,
                new.ancestor,
            ),
        )
        if new.waits_for:
            self._say(tx, job, "submitted", f"waiting for the result of {', '.join(new.waits_for)}")
        else:
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
        self._result(tx, job, now)
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
        tx.execute("UPDATE jobs SET container = ? WHERE id = ? AND finalized IS NULL", (container, job))

    def event(self, tx: Transaction, job: str, status: str, message: str) -> None:
        """Say something of a job that changes no state."""
        self._say(tx, job, status, message)

    def start(self, tx: Transaction, job: str, when: int) -> None:
        """The job's container runs, by the engine's clock since ``when``."""
        changed = tx.execute(
            "UPDATE jobs SET status = CASE WHEN canceled IS NULL THEN ? ELSE status END,"
            " ready = ?, started = ? WHERE id = ? AND node_id IS NOT NULL AND started IS NULL"
            " AND exited IS NULL AND finalized IS NULL",
            (Status.RUNNING, when, when, job),
        ).rowcount
        if changed:
            self._say(tx, job, "started", "the container runs")
            self._show(tx, job)

    def exit(self, tx: Transaction, job: str, when: int, code: int) -> None:
        """The job's process has ended; its results are captured next. What has exited has started."""
        changed = tx.execute(
            "UPDATE jobs SET status = ?1, exited = ?2, exit_code = ?3, started = coalesce(started, ?2),"
            " ready = coalesce(ready, ?2)"
            " WHERE id = ?4 AND node_id IS NOT NULL AND exited IS NULL AND finalized IS NULL",
            (Status.UPLOADING_RESULTS, when, code, job),
        ).rowcount
        if changed:
            self._say(tx, job, "exited", f"exit code {code}")
            self._show(tx, job)

    def stop(self, tx: Transaction, job: str, code: Code, reason: str) -> bool:
        """Wish that a job stops; False where there is nothing to stop: it has exited or ended, or it waits
        and is to be resumed. One that waits ends at once for any other reason.

        The first wish counts, but for one that is final: it wins over a preemption, which would be resumed.
        """
        if not self._wish(tx, job, code, reason):
            return False
        row = tx.execute(
            "SELECT j.status, j.experiment_id, j.task_id, j.node_id, t.spec"
            " FROM jobs j JOIN tasks t ON t.id = j.task_id WHERE j.id = ?",
            (job,),
        ).fetchone()
        if row["node_id"] is None:
            self.finalize(tx, job)
        elif code in PREEMPTED and load_task(row["spec"]).propagate_preemption:
            for other in self._others(tx, row["experiment_id"], row["task_id"]):
                if other["node_id"] is not None:
                    self._wish(tx, other["id"], Code.SIBLING_TASK_PREEMPTION, "another task was preempted")
        return True

    def stop_all(self, tx: Transaction, jobs: Sequence[str], code: Code, reason: str) -> None:
        """Wish that all of these stop, for this reason and none that follows from another's end."""
        for job in jobs:
            self._wish(tx, job, code, reason)
        for job in jobs:
            row = tx.execute("SELECT node_id FROM jobs WHERE id = ?", (job,)).fetchone()
            if row is not None and row["node_id"] is None:
                self.finalize(tx, job)

    def finalize(
        self, tx: Transaction, job: str, failure: str | None = None, metrics: str | None = None
    ) -> str | None:
        """End a job for good, and return its successor's id, if it has one; see the module's docstring.

        ``failure`` says why it failed without an exit code of its own. The caller has captured the results.
        """
        if not self._end(tx, job, failure, metrics):
            return None
        successor = self._succeed(tx, job)
        if successor is None:
            self._settle(tx, job)
        return successor

    def prioritize(self, tx: Transaction, task: str, priority: int, reason: str) -> None:
        """Give the jobs of a task that have not ended another priority."""
        rows = tx.execute(
            "SELECT id FROM jobs WHERE task_id = ? AND finalized IS NULL AND priority != ?", (task, priority)
        ).fetchall()
        for row in rows:
            tx.execute("UPDATE jobs SET priority = ? WHERE id = ?", (priority, row["id"]))
            self._say(tx, row["id"], "priority", reason or f"the priority is {priority} from now on")

    def release(self, tx: Transaction, waiting: dependencies.Waiting, experiment: str) -> bool:
        """Queue a job that waited for results; False as long as one is missing."""
        if dependencies.missing(tx, experiment, waiting.spec):
            return False
        dependencies.fill_in(tx, experiment, waiting.task_id, waiting.spec)
        tx.execute("UPDATE jobs SET status = ? WHERE id = ?", (Status.QUEUED, waiting.job))
        self._say(tx, waiting.job, "queued", "waiting to be scheduled")
        self._show(tx, waiting.job)
        return True

    def _wish(self, tx: Transaction, job: str, code: Code, reason: str) -> bool:
        row = tx.execute(
            "SELECT canceled_code, node_id FROM jobs WHERE id = ? AND exited IS NULL AND finalized IS NULL",
            (job,),
        ).fetchone()
        if row is None or (row["node_id"] is None and code in RESUMED):
            return False
        earlier = row["canceled_code"]
        if earlier is not None and not (earlier in RESUMED and code not in RESUMED):
            return True
        tx.execute(
            "UPDATE jobs SET canceled = ?, canceled_code = ?, canceled_for = ?,"
            " status = CASE WHEN node_id IS NULL THEN status ELSE ? END WHERE id = ?",
            (self._clock.now(), code, reason, Status.STOPPING, job),
        )
        self._say(tx, job, "stopping", reason)
        self._show(tx, job)
        return True

    def _end(self, tx: Transaction, job: str, failure: str | None = None, metrics: str | None = None) -> bool:
        """Write a job's end, and nothing of what follows from it; False where it has ended before."""
        row = tx.execute("SELECT * FROM jobs WHERE id = ?", (job,)).fetchone()
        if row is None or row["finalized"] is not None:
            return False
        now, code = self._clock.now(), row["canceled_code"]
        lost = code == Code.NODE_UNAVAILABLE and not self._assume.node_loss_resumes
        if lost:
            status, failure = Status.FAILED, failure or row["canceled_for"]
        elif code is not None:
            status = Status.CANCELED
        elif failure is not None or row["exit_code"] != 0:
            status = Status.FAILED
        else:
            status = Status.SUCCEEDED
        tx.execute(
            "UPDATE jobs SET status = ?1, finalized = ?2, failed = ?3, message = ?4, metrics = ?5,"
            " exited = CASE WHEN started IS NULL THEN exited ELSE coalesce(exited, ?2) END,"
            " canceled = CASE WHEN ?6 THEN NULL ELSE canceled END,"
            " canceled_code = CASE WHEN ?6 THEN NULL ELSE canceled_code END WHERE id = ?7",
            (status, now, now if status is Status.FAILED else None, failure, metrics, lost, job),
        )
        # Public clients show the result of every job that has ended, of one that never had a place, too.
        result = row["result_dataset_id"] or self._result(tx, job, now)
        tx.execute("UPDATE datasets SET committed = ? WHERE id = ? AND committed IS NULL", (now, result))
        tx.execute("DELETE FROM tokens WHERE job_id = ?", (job,))
        self._say(tx, job, status.name.lower(), failure or row["canceled_for"] or "")
        self._show(tx, job)
        return True

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
        code, spec = row["canceled_code"], load_task(row["task_spec"])
        failed = row["status"] == Status.FAILED or (code == Code.TIMEOUT and self._assume.retry_timeouts)
        again = failed and row["retries"] < row["allowed_retries"]
        if again:
            tx.execute("UPDATE tasks SET retries = retries + 1 WHERE id = ?", (row["task_id"],))
        elif not (code in RESUMED and spec.auto_resume):
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
            waits_for=dependencies.missing(tx, row["experiment_id"], spec),
        )
        return self.queue(tx, new)

    def _settle(self, tx: Transaction, job: str) -> None:
        """What becomes of the others when a task is through: those that wait for its result go on or are
        given up, and all, where it failed and asks for that."""
        row = tx.execute(
            "SELECT j.status, j.experiment_id, j.task_id, t.name, t.spec"
            " FROM jobs j JOIN tasks t ON t.id = j.task_id WHERE j.id = ?",
            (job,),
        ).fetchone()
        experiment, waiting = row["experiment_id"], dependencies.waiting(tx, row["experiment_id"])
        if row["status"] == Status.SUCCEEDED:
            for each in waiting:
                if row["name"] in dependencies.parents(each.spec):
                    self.release(tx, each, experiment)
            return
        for each in dependencies.behind(row["name"], waiting) if row["name"] else ():
            reason = f"task {row['name']!r} has no result: it {Status(row['status']).name.lower()}"
            if self._wish(tx, each.job, Code.SIBLING_TASK_FAILED, reason):
                self._end(tx, each.job)
        if row["status"] == Status.FAILED and load_task(row["spec"]).propagate_failure:
            for other in self._others(tx, experiment, row["task_id"]):
                self.stop(tx, other["id"], Code.SIBLING_TASK_FAILED, "another task failed")

    def _others(self, tx: Transaction, experiment: str, task: str) -> list[Any]:
        """The jobs of an experiment's other tasks that have not ended."""
        rows = tx.execute(
            "SELECT id, node_id FROM jobs WHERE experiment_id = ? AND task_id != ? AND finalized IS NULL",
            (experiment, task),
        )
        return rows.fetchall()

    def _result(self, tx: Transaction, job: str, now: int) -> str:
        """Make a job's result dataset, and return its id."""
        result = self._ids.new()
        tx.execute(
            "INSERT INTO datasets (id, author_id, workspace_id, created, source_job_id)"
            " SELECT ?, author_id, workspace_id, ?, id FROM jobs WHERE id = ?",
            (result, now, job),
        )
        tx.execute("UPDATE jobs SET result_dataset_id = ? WHERE id = ?", (result, job))
        return result

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


def stopping(tx: Transaction) -> list[str]:
    """The jobs that have a place and are wished to stop, whoever wished it: all of them are to be told."""
    rows = tx.execute(
        "SELECT id FROM jobs WHERE finalized IS NULL AND canceled IS NOT NULL AND exited IS NULL"
        " AND node_id IS NOT NULL ORDER BY id"
    )
    return [str(row["id"]) for row in rows.fetchall()]
