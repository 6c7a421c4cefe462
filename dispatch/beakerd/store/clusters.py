"""Clusters and nodes as they are seen: what they have, and how much of it jobs have taken.

Owns what a slot is to clients: a GPU where a node has any, since tools show slots as GPUs; else one of the
jobs that the node holds at once. Everybody sees every cluster, since everybody's jobs may run there; the
members of its organization change it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dispatch.beakerd.access import Principal, may_administer
from dispatch.beakerd.problems import forbidden, not_found
from dispatch.beakerd.schedule.values import slots_of
from dispatch.beakerd.spec import load_task
from dispatch.beakerd.store.accounts import is_member, person
from dispatch.beakerd.store.database import Transaction
from dispatch.beakerd.store.states import Status

_CLUSTERS = (
    "SELECT c.*, o.name AS organization FROM clusters c JOIN organizations o ON o.id = c.organization_id"
)


@dataclass(frozen=True)
class Slots:
    """How many there are, have a job, and have none but get none either, since their node takes no jobs."""

    total: int = 0
    assigned: int = 0
    cordoned: int = 0

    @property
    def available(self) -> int:
        """Those that jobs can have."""
        return self.total - self.assigned - self.cordoned

    def plus(self, other: Slots) -> Slots:
        """Both together."""
        return Slots(self.total + other.total, self.assigned + other.assigned, self.cordoned + other.cordoned)


@dataclass(frozen=True)
class Node:
    """A node, its row, and the jobs that have a place on it. ``activity`` is when the user that was asked for
    had a job scheduled there last, or 0."""

    row: Any
    jobs: int = 0
    gpus_taken: int = 0
    activity: int = 0

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.row["id"])

    @property
    def slots(self) -> Slots:
        """See the module."""
        gpus = self.row["gpus"]
        total = gpus or slots_of(self.row["cpus"], 0, self.row["slots"])
        assigned = min(total, self.gpus_taken if gpus else self.jobs)
        closed = self.row["cordoned"] is not None or self.row["lost"] is not None
        return Slots(total, assigned, total - assigned if closed else 0)

    @property
    def free_gpus(self) -> int:
        """Those that jobs can have."""
        return self.slots.available if self.row["gpus"] else 0


@dataclass(frozen=True)
class Cluster:
    """A cluster, its row, and those of its nodes that the configuration names."""

    row: Any
    nodes: tuple[Node, ...]

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.row["id"])

    @property
    def slots(self) -> Slots:
        """Those of all of its nodes."""
        found = Slots()
        for node in self.nodes:
            found = found.plus(node.slots)
        return found


def nodes(tx: Transaction, condition: str, values: Iterable[Any], user: str = "") -> list[Node]:
    """The nodes for which a condition on ``n`` holds; ``user`` is whose activity matters."""
    rows = tx.execute(
        "WITH live AS (SELECT node_id, count(*) AS jobs, sum(json_array_length(gpus)) AS taken FROM jobs"
        " WHERE finalized IS NULL AND node_id IS NOT NULL GROUP BY node_id)"
        " SELECT n.*, coalesce(live.jobs, 0) AS jobs, coalesce(live.taken, 0) AS taken,"
        " CASE WHEN ? = '' THEN 0 ELSE"
        " coalesce((SELECT max(j.scheduled) FROM jobs j WHERE j.node_id = n.id AND j.author_id = ?), 0)"
        " END AS activity"
        f" FROM nodes n LEFT JOIN live ON live.node_id = n.id WHERE {condition}",
        (user, user, *values),
    )
    return [Node(row, row["jobs"], row["taken"], row["activity"]) for row in rows.fetchall()]


def node(tx: Transaction, node_id: str) -> Node:
    """A node by id; also one that the configuration no longer names, since jobs have run there.

    :raises Problem: NOT_FOUND
    """
    found = nodes(tx, "n.id = ?", (node_id,))
    if not found:
        raise not_found("node", node_id)
    return found[0]


def cluster(tx: Transaction, cluster_id: str) -> Cluster:
    """A cluster by id; also one that the configuration no longer names.

    :raises Problem: NOT_FOUND
    """
    row = tx.execute(f"{_CLUSTERS} WHERE c.id = ?", (cluster_id,)).fetchone()
    if row is None:
        raise not_found("cluster", cluster_id)
    return Cluster(row, tuple(nodes(tx, "n.cluster_id = ? AND NOT n.retired", (cluster_id,))))


def clusters(tx: Transaction, organization: str | None) -> list[Cluster]:
    """Those that the configuration names, of one organization or of all."""
    by_cluster: dict[str, list[Node]] = {}
    for each in nodes(tx, "NOT n.retired", ()):
        by_cluster.setdefault(each.row["cluster_id"], []).append(each)
    rows = tx.execute(
        f"{_CLUSTERS} WHERE NOT c.retired AND (?1 IS NULL OR c.organization_id = ?1)", (organization,)
    )
    return [Cluster(row, tuple(by_cluster.get(row["id"], ()))) for row in rows.fetchall()]


def waiting(tx: Transaction) -> Counter[str]:
    """How many jobs wait that may be given a place in a cluster, by its id; most may be in several."""
    found: Counter[str] = Counter()
    every = [row["id"] for row in tx.execute("SELECT id FROM clusters WHERE NOT retired").fetchall()]
    rows = tx.execute(
        "SELECT t.spec, count(*) AS jobs FROM jobs j JOIN tasks t ON t.id = j.task_id"
        " WHERE j.finalized IS NULL AND j.status = ? GROUP BY t.spec",
        (Status.QUEUED,),
    )
    for row in rows.fetchall():
        for cluster_id in load_task(row["spec"]).clusters or every:
            found[cluster_id] += row["jobs"]
    return found


def resolve(tx: Transaction, owner: str, name: str) -> str:
    """The id of a name or an alias; names go before aliases.

    :raises Problem: NOT_FOUND
    """
    row = tx.execute(
        "SELECT c.id FROM clusters c JOIN organizations o ON o.id = c.organization_id"
        " WHERE o.name = ?1 AND NOT c.retired AND"
        " (c.name = ?2 OR EXISTS (SELECT 1 FROM json_each(c.aliases) WHERE value = ?2))"
        " ORDER BY c.name = ?2 DESC LIMIT 1",
        (owner, name),
    ).fetchone()
    if row is None:
        raise not_found("cluster", f"{owner}/{name}")
    return str(row["id"])


def may_change(tx: Transaction, who: Principal, cluster_id: str, what: str) -> Any:
    """The row of a cluster that the caller may change.

    :raises Problem: NOT_FOUND; FORBIDDEN to jobs, and to strangers that are no administrators
    """
    person(who, what)
    row = cluster(tx, cluster_id).row
    if not is_member(tx, who, row["organization_id"]) and not may_administer(tx, who):
        raise forbidden(f"{what}: you are no member of the cluster's organization")
    return row


def words(row: Any, column: str) -> list[str]:
    """The ``aliases`` or ``tags`` of a cluster."""
    found: list[str] = json.loads(row[column])
    return found


def set_words(tx: Transaction, row: Any, column: str, found: Iterable[str]) -> None:
    """Change the ``aliases`` or ``tags`` of a cluster."""
    tx.execute(f"UPDATE clusters SET {column} = ? WHERE id = ?", (json.dumps([*found]), row["id"]))


def cordon(tx: Transaction, node_id: str, when: int | None, reason: str, agent: str) -> None:
    """Let a node take no more jobs from ``when`` on; with None it takes them again."""
    if when is None:
        reason = agent = ""
    tx.execute(
        "UPDATE nodes SET cordoned = CASE WHEN ?1 IS NULL THEN NULL ELSE coalesce(cordoned, ?1) END,"
        " cordon_reason = ?2, cordon_agent = ?3 WHERE id = ?4",
        (when, reason, agent, node_id),
    )
