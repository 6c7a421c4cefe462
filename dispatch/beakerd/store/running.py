"""What whoever runs jobs reads of them, and writes of their results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from dispatch.beakerd.spec import TaskSpec, load_task
from dispatch.beakerd.store.database import Transaction
from dispatch.beakerd.store.datasets import FileRow, add_files
from dispatch.beakerd.store.lifecycle import Code, Status


@dataclass(frozen=True)
class Node:
    """Where a job runs. ``cpus`` in thousandths; ``simulated`` says what the host lacks."""

    id: str
    hostname: str
    cpus: int
    simulated: str


@dataclass(frozen=True)
class Job:
    """A job that was assigned, as it is now. Times in nanoseconds since the epoch."""

    id: str
    task_id: str
    experiment_id: str
    workspace_id: str
    workspace: str
    author_id: str
    author: str
    task: TaskSpec
    node: Node
    gpus: tuple[str, ...]
    container: str | None
    result_dataset_id: str
    scheduled: int
    started: int | None
    exited: int | None
    exit_code: int | None
    finalized: int | None
    canceled: int | None
    canceled_code: Code | None


def load_job(tx: Transaction, job: str) -> Job | None:
    """The job, None where it is gone or was never assigned."""
    row = tx.execute(
        "SELECT j.*, t.spec, u.name AS author, o.name || '/' || w.name AS workspace, n.hostname,"
        " n.cpus AS node_cpus, n.simulated FROM jobs j JOIN tasks t ON t.id = j.task_id"
        " JOIN users u ON u.id = j.author_id JOIN workspaces w ON w.id = j.workspace_id"
        " JOIN organizations o ON o.id = w.organization_id JOIN nodes n ON n.id = j.node_id WHERE j.id = ?",
        (job,),
    ).fetchone()
    if row is None:
        return None
    return Job(
        id=row["id"],
        task_id=row["task_id"],
        experiment_id=row["experiment_id"],
        workspace_id=row["workspace_id"],
        workspace=row["workspace"],
        author_id=row["author_id"],
        author=row["author"],
        task=load_task(row["spec"]),
        node=Node(row["node_id"], row["hostname"], row["node_cpus"], row["simulated"]),
        gpus=tuple(str(each) for each in json.loads(row["gpus"])),
        container=row["container"],
        result_dataset_id=row["result_dataset_id"],
        scheduled=row["scheduled"],
        started=row["started"],
        exited=row["exited"],
        exit_code=row["exit_code"],
        finalized=row["finalized"],
        canceled=row["canceled"],
        canceled_code=None if row["canceled_code"] is None else Code(row["canceled_code"]),
    )


def unfinished(tx: Transaction) -> list[str]:
    """The jobs that were assigned and have not ended, the oldest first."""
    rows = tx.execute(
        "SELECT id FROM jobs WHERE finalized IS NULL AND scheduled IS NOT NULL ORDER BY scheduled"
    ).fetchall()
    return [row[0] for row in rows]


def is_unfinished(tx: Transaction, job: str) -> bool:
    """Whether there is such a job that has not ended."""
    row = tx.execute("SELECT 1 FROM jobs WHERE id = ? AND finalized IS NULL", (job,)).fetchone()
    return row is not None


def replace_files(tx: Transaction, dataset: str, rows: Sequence[FileRow]) -> None:
    """Record these files of a result, and none but these; a dataset that is gone stays gone."""
    if tx.execute("SELECT 1 FROM datasets WHERE id = ?", (dataset,)).fetchone() is None:
        return
    tx.execute("DELETE FROM dataset_files WHERE dataset_id = ?", (dataset,))
    add_files(tx, dataset, rows)


def secret(tx: Transaction, workspace: str, name: str) -> bytes | None:
    """The value of a workspace's secret."""
    row = tx.execute(
        "SELECT value FROM secrets WHERE workspace_id = ? AND name = ?", (workspace, name)
    ).fetchone()
    return None if row is None else bytes(row[0])


def is_committed(tx: Transaction, dataset: str) -> bool | None:
    """Whether a dataset is committed; None where there is none."""
    row = tx.execute("SELECT committed FROM datasets WHERE id = ?", (dataset,)).fetchone()
    return None if row is None else row[0] is not None


def result_of(tx: Transaction, experiment: str, task: str) -> str | None:
    """The result dataset of the last job of a task that succeeded, by the task's name."""
    row = tx.execute(
        "SELECT j.result_dataset_id FROM jobs j JOIN tasks t ON t.id = j.task_id"
        " WHERE t.experiment_id = ? AND t.name = ? AND j.status = ? ORDER BY j.created DESC LIMIT 1",
        (experiment, task, Status.SUCCEEDED),
    ).fetchone()
    return None if row is None else row[0]
