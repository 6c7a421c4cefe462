"""Jobs that wait, jobs that have a place, and nodes: one consistent look at what a plan is made from.

Owns the reading, and what a spec means for placement. Specs do not change, so each task's is read once as long
as it is looked at.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
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
    """What was seen. ``running`` have their times as they are recorded. ``unready``: jobs that wait for the
    results of other tasks, and what to say of them. ``said``: what each waiting job was told last."""

    waiting: tuple[Waiting, ...]
    running: tuple[Running, ...]
    nodes: tuple[Node, ...]
    unready: Mapping[str, str]
    said: Mapping[str, str | None]


@dataclass(frozen=True)
class _Asked:
    """What a task asks for. ``results`` are names of the tasks whose results it needs."""

    need: Amount
    clusters: tuple[str, ...]
    hostnames: tuple[str, ...]
    timeout: int | None
    yields: Preemptibility
    results: tuple[str, ...]


class Queue:
    """Looks at the queue; for one thread."""

    def __init__(self) -> None:
        self._asked: dict[str, _Asked] = {}

    def look(self, tx: Transaction) -> Look:
        """See everything that matters to a plan, in an open transaction."""
        rows = tx.execute(
            "SELECT id, task_id, experiment_id, status, priority, queued, started, canceled_code,"
            " waiting_for, node_id, gpus FROM jobs WHERE finalized IS NULL"
        ).fetchall()
        self._learn(tx, {row["task_id"] for row in rows})
        queued = [row for row in rows if row["status"] == Status.QUEUED]
        unready = self._unready(tx, queued)
        return Look(
            waiting=tuple(self._waiting(row) for row in queued if row["id"] not in unready),
            running=tuple(self._running(row) for row in rows if row["node_id"] is not None),
            nodes=tuple(nodes(tx)),
            unready=unready,
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
        )

    def _unready(self, tx: Transaction, queued: Sequence[Any]) -> dict[str, str]:
        needing = {row["id"]: row for row in queued if self._asked[row["task_id"]].results}
        statuses: dict[str, dict[str, int]] = defaultdict(dict)
        for ids in _chunks({row["experiment_id"] for row in needing.values()}):
            marks = ", ".join("?" * len(ids))
            for task in tx.execute(
                f"SELECT experiment_id, name, status FROM tasks WHERE experiment_id IN ({marks})", ids
            ):
                statuses[task["experiment_id"]][task["name"]] = task["status"]
        found: dict[str, str] = {}
        for job, row in needing.items():
            tasks = statuses[row["experiment_id"]]
            missing = [
                name for name in self._asked[row["task_id"]].results if tasks.get(name) != Status.SUCCEEDED
            ]
            if missing:
                found[job] = _awaits(missing, tasks)
        return found


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
        results=tuple(mount.result for mount in task.mounts if mount.result is not None),
    )


def _awaits(missing: Sequence[str], tasks: Mapping[str, int]) -> str:
    for name in missing:
        if tasks.get(name) in (Status.FAILED, Status.CANCELED):
            how = "failed" if tasks[name] == Status.FAILED else "been canceled"
            return f"waits for the result of task {name!r}, which has {how}"
    return f"waits for the result of task {', '.join(map(repr, missing))}"


def _chunks(ids: Iterable[str]) -> Iterable[list[str]]:
    """A statement takes only so many values."""
    rest = iter(sorted(ids))
    while some := list(islice(rest, _CHUNK)):
        yield some
