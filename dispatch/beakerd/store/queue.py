"""Jobs that wait, jobs that have a place, and nodes: one consistent look at what a plan is made from.

Owns the reading, and what a spec means for placement, which does not change: each task's is read once, for
as long as it has a job that lives.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from dispatch.beakerd.schedule.values import (
    Amount,
    Node,
    Preemptibility,
    Running,
    Waiting,
    slots_of,
)
from dispatch.beakerd.spec import load_task
from dispatch.beakerd.store.database import Transaction
from dispatch.beakerd.store.lifecycle import Status

_CHUNK = 500


@dataclass(frozen=True)
class Look:
    """What was seen. ``running`` have their times as they are recorded. ``said``: what each waiting job was
    told last. A job that waits for results of other tasks is not queued, so it is not among them."""

    waiting: tuple[Waiting, ...]
    running: tuple[Running, ...]
    nodes: tuple[Node, ...]
    said: Mapping[str, str | None]


@dataclass(frozen=True)
class _Asked:
    """What a task asks for."""

    need: Amount
    clusters: tuple[str, ...]
    hostnames: tuple[str, ...]
    timeout: int | None
    yields: Preemptibility


class Queue:
    """Looks at the queue; for one thread."""

    def __init__(self) -> None:
        self._asked: dict[str, _Asked] = {}

    def look(self, tx: Transaction) -> Look:
        """See everything that matters to a plan, in an open transaction."""
        rows = tx.execute(
            "SELECT id, task_id, experiment_id, status, priority, queued, started, exited,"
            " canceled_code, waiting_for, node_id, gpus FROM jobs WHERE finalized IS NULL"
        ).fetchall()
        self._learn(tx, {row["task_id"] for row in rows})
        queued = [row for row in rows if row["status"] == Status.QUEUED]
        return Look(
            waiting=tuple(self._waiting(row) for row in queued),
            running=tuple(self._running(row) for row in rows if row["node_id"] is not None),
            nodes=tuple(nodes(tx)),
            said={row["id"]: row["waiting_for"] for row in queued},
        )

    def _learn(self, tx: Transaction, tasks: set[str]) -> None:
        for gone in self._asked.keys() - tasks:
            del self._asked[gone]
        for ids in _chunks(tasks - self._asked.keys()):
            marks = ", ".join("?" * len(ids))
            for row in tx.execute(f"SELECT id, spec FROM tasks WHERE id IN ({marks})", ids):
                self._asked[row["id"]] = _asked(row["spec"])

    def _waiting(self, row: Any) -> Waiting:
        asked = self._asked[row["task_id"]]
        return Waiting(
            id=row["id"],
            priority=row["priority"],
            queued=row["queued"],
            need=asked.need,
            clusters=asked.clusters,
            hostnames=asked.hostnames,
            timeout=asked.timeout,
            yields=asked.yields,
        )

    def _running(self, row: Any) -> Running:
        asked = self._asked[row["task_id"]]
        return Running(
            id=row["id"],
            node=row["node_id"],
            priority=row["priority"],
            need=asked.need,
            gpus=tuple(json.loads(row["gpus"])),
            since=row["started"],
            yields=asked.yields,
            stopping=row["canceled_code"] is not None,
            exited=row["exited"] is not None,
        )


def nodes(tx: Transaction) -> Iterable[Node]:
    """All nodes that the configuration names."""
    for row in tx.execute(
        "SELECT n.*, c.max_task_timeout, o.name || '/' || c.name AS cluster_name FROM nodes n"
        " JOIN clusters c ON c.id = n.cluster_id JOIN organizations o ON o.id = c.organization_id"
        " WHERE n.retired = 0 AND c.retired = 0"
    ):
        slots = slots_of(row["cpus"], row["gpus"], row["slots"])
        yield Node(
            id=row["id"],
            hostname=row["hostname"],
            cluster=row["cluster_id"],
            cluster_name=row["cluster_name"],
            capacity=Amount(slots, row["cpus"], row["memory"], row["gpus"]),
            closed=_closed(row),
            max_timeout=row["max_task_timeout"],
        )


def open_nodes(tx: Transaction) -> set[str]:
    """The ids of the nodes that take jobs at this moment."""
    return {node.id for node in nodes(tx) if not node.closed}


def queued_jobs(tx: Transaction, ids: Iterable[str]) -> set[str]:
    """Those of these jobs that still wait."""
    found: set[str] = set()
    for some in _chunks(ids):
        marks = ", ".join("?" * len(some))
        rows = tx.execute(f"SELECT id FROM jobs WHERE id IN ({marks}) AND status = ?", [*some, Status.QUEUED])
        found |= {row["id"] for row in rows}
    return found


def being_stopped(tx: Transaction) -> list[str]:
    """The jobs that run and are wished to stop, whoever wished it: whoever carries out stops them all."""
    rows = tx.execute(
        "SELECT id FROM jobs WHERE finalized IS NULL AND canceled_code IS NOT NULL AND node_id IS NOT NULL"
        " AND exited IS NULL ORDER BY id"
    )
    return [row["id"] for row in rows]


def _closed(row: Any) -> str:
    if row["lost"] is not None:
        return "lost"
    if row["cordoned"] is not None:
        return f"cordoned ({row['cordon_reason']})" if row["cordon_reason"] else "cordoned"
    return ""


def _asked(text: str) -> _Asked:
    task = load_task(text)
    return _Asked(
        need=Amount(1, round(task.resources.cpus * 1000), task.resources.memory, task.resources.gpus),
        clusters=task.clusters,
        hostnames=task.hostnames,
        timeout=task.timeout,
        yields=Preemptibility(task.preemptible, task.min_runtime),
    )


def _chunks(ids: Iterable[str]) -> Iterable[list[str]]:
    """A statement takes only so many values."""
    rest = iter(sorted(ids))
    while some := list(islice(rest, _CHUNK)):
        yield some
