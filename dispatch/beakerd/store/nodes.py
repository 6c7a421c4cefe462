"""Nodes that are lost and come back: what an administrator does to try a client."""

from __future__ import annotations

from dataclasses import dataclass

from dispatch.beakerd.problems import invalid, not_found
from dispatch.beakerd.store.database import Transaction


@dataclass(frozen=True)
class Named:
    """A node that was asked for."""

    id: str
    hostname: str


def named(tx: Transaction, name: str) -> Named:
    """The node of an id or a hostname.

    :raises Problem: NOT_FOUND; INVALID, where several clusters have a node of that name
    """
    rows = tx.execute(
        "SELECT id, hostname FROM nodes WHERE (id = ?1 OR hostname = ?1) AND retired = 0", (name,)
    ).fetchall()
    if not rows:
        raise not_found("node", name)
    if len(rows) > 1:
        raise invalid(f"node {name!r}: {len(rows)} nodes are named so; say which by its id")
    return Named(rows[0]["id"], rows[0]["hostname"])


def lose(tx: Transaction, node: str, when: int) -> None:
    """Write down that a node is gone; what becomes of its jobs is the caller's."""
    tx.execute("UPDATE nodes SET lost = ? WHERE id = ? AND lost IS NULL", (when, node))


def restore(tx: Transaction, node: str) -> None:
    """Write down that it is there again."""
    tx.execute("UPDATE nodes SET lost = NULL WHERE id = ?", (node,))


def jobs_on(tx: Transaction, node: str) -> list[str]:
    """The jobs that have a place on a node and have not exited."""
    rows = tx.execute(
        "SELECT id FROM jobs WHERE node_id = ? AND finalized IS NULL AND exited IS NULL ORDER BY id", (node,)
    )
    return [row["id"] for row in rows.fetchall()]
