"""Secrets of workspaces.

Owns their rows. A value is returned to who asks for it by name, and is in nothing that is said or listed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from dispatch.beakerd.access import Principal, require
from dispatch.beakerd.problems import invalid, not_found
from dispatch.beakerd.store.database import Transaction

Row = sqlite3.Row
NAME_BYTES = 255
_SHOWN = "name, name AS id, workspace_id, author_id, created, updated"


def checked_name(name: str) -> str:
    """Return a name as it is; any text will do.

    :raises Problem: INVALID, for one that is empty, too long or holds a zero byte
    """
    if not name or "\0" in name or len(name.encode("utf-8", "surrogatepass")) > NAME_BYTES:
        raise invalid(f"secret name {name[:300]!a}: is empty, longer than {NAME_BYTES} bytes, or has a zero")
    return name


def enter(tx: Transaction, who: Principal, workspace: str) -> None:
    """Refuse a caller who may not use the workspace.

    :raises Problem: NOT_FOUND, FORBIDDEN
    """
    if tx.execute("SELECT 1 FROM workspaces WHERE id = ?", (workspace,)).fetchone() is None:
        raise not_found("workspace", workspace)
    require(tx, who, workspace, f"workspace {workspace!r}")


def write(tx: Transaction, workspace: str, name: str, value: bytes, author: str, when: int) -> None:
    """Make a secret, or give it another value."""
    tx.execute(
        "INSERT INTO secrets (workspace_id, name, value, author_id, created, updated)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?5) ON CONFLICT (workspace_id, name)"
        " DO UPDATE SET value = excluded.value, updated = excluded.updated",
        (workspace, name, value, author, when),
    )


def find(tx: Transaction, workspace: str, name: str) -> Row:
    """What is known of a secret, but its value.

    :raises Problem: NOT_FOUND
    """
    row: Row | None = tx.execute(
        f"SELECT {_SHOWN} FROM secrets WHERE workspace_id = ? AND name = ?", (workspace, name)
    ).fetchone()
    if row is None:
        raise not_found("secret", name)
    return row


def value(tx: Transaction, workspace: str, name: str) -> bytes:
    """A secret's value.

    :raises Problem: NOT_FOUND
    """
    row = tx.execute(
        "SELECT value FROM secrets WHERE workspace_id = ? AND name = ?", (workspace, name)
    ).fetchone()
    if row is None:
        raise not_found("secret", name)
    return bytes(row["value"])


def delete(tx: Transaction, workspace: str, name: str) -> None:
    """Remove a secret.

    :raises Problem: NOT_FOUND
    """
    find(tx, workspace, name)
    tx.execute("DELETE FROM secrets WHERE workspace_id = ? AND name = ?", (workspace, name))


def select(tx: Transaction, workspace: str, condition: str, values: Sequence[Any], order: str) -> list[Row]:
    """A page of a workspace's secrets, as columns of ``s``; the name is the id, too."""
    return tx.execute(
        f"SELECT * FROM (SELECT {_SHOWN} FROM secrets WHERE workspace_id = ?) s WHERE {condition} {order}",
        (workspace, *values),
    ).fetchall()
