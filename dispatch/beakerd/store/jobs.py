"""Jobs and what was said of them, as they are read; their changes are ``lifecycle``'s.

Owns the queries, and the order of a queue: priority, then who waits longest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from dispatch.beakerd.access import Principal, require
from dispatch.beakerd.problems import not_found
from dispatch.beakerd.store.database import Transaction

# queue_place: text, so that one value sorts by both. Priorities are below 10, nanoseconds have 19 digits.
_SELECT = """
SELECT * FROM (
    SELECT j.*, t.spec, e.budget_id, e.created AS workload_created, n.cluster_id, n.cpus AS node_cpus,
        n.memory AS node_memory, printf('%d%019d', 9 - j.priority, j.queued) AS queue_place,
        (SELECT o.name || '/' || w.name FROM workspaces w JOIN organizations o ON o.id = w.organization_id
            WHERE w.id = j.workspace_id) AS workspace,
        (SELECT name FROM users WHERE id = j.author_id) AS author
    FROM jobs j JOIN tasks t ON t.id = j.task_id JOIN experiments e ON e.id = j.experiment_id
        LEFT JOIN nodes n ON n.id = j.node_id
)
"""


def find(tx: Transaction, who: Principal, job: str) -> Any:
    """A job by its id.

    :raises Problem: NOT_FOUND, or FORBIDDEN to this caller
    """
    row = tx.execute(f"{_SELECT} WHERE id = ?", (job,)).fetchone()
    if row is None:
        raise not_found("job", job)
    require(tx, who, row["workspace_id"], f"job {job!r}")
    return row


def select(tx: Transaction, conditions: Iterable[tuple[str, Sequence[Any]]], order: str) -> list[Any]:
    """Jobs for which all conditions hold (SQL and its values)."""
    parts = list(conditions)
    where = " AND ".join(f"({sql})" for sql, _ in parts) or "1"
    values = [value for _, each in parts for value in each]
    return tx.execute(f"{_SELECT} WHERE {where} {order}", values).fetchall()


def events(tx: Transaction, job: str, condition: str, order: str, values: Sequence[Any]) -> list[Any]:
    """What was said of a job."""
    return tx.execute(
        f"SELECT * FROM job_events WHERE job_id = ? AND {condition} {order}", (job, *values)
    ).fetchall()


def summarized(tx: Transaction, job: str, condition: str, order: str, values: Sequence[Any]) -> list[Any]:
    """What was said of a job, once for each status (here ``id``), with the last message of each."""
    return tx.execute(
        "SELECT * FROM (SELECT e.status AS id, count(*) AS occurrences, min(e.created) AS earliest,"
        " max(e.created) AS latest, (SELECT m.message FROM job_events m WHERE m.job_id = e.job_id"
        " AND m.status = e.status ORDER BY m.created DESC LIMIT 1) AS message"
        " FROM job_events e WHERE e.job_id = ? GROUP BY e.status)"
        f" WHERE {condition} {order}",
        (job, *values),
    ).fetchall()
