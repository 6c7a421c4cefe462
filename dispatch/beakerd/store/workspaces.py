"""Workspaces: found, made, changed, and what is moved between them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from dispatch.beakerd.access import Principal, require
from dispatch.beakerd.clock import Clock, Ids
from dispatch.beakerd.config import NameScope
from dispatch.beakerd.problems import in_use, invalid, not_found
from dispatch.beakerd.store.accounts import check_name, make_budget
from dispatch.beakerd.store.database import Transaction

# activity: when its last experiment was made, or itself. full_name is what the API calls its name.
_SELECT = """
SELECT * FROM (
    SELECT w.*, o.name || '/' || w.name AS full_name, o.name AS organization,
        o.created AS organization_created, u.name AS author, u.created AS author_created,
        coalesce((SELECT max(created) FROM experiments WHERE workspace_id = w.id), w.created) AS activity
    FROM workspaces w JOIN organizations o ON o.id = w.organization_id JOIN users u ON u.id = w.author_id
)
"""
# What may be moved, and what its name is called.
_MOVED = {"datasets": "dataset", "images": "image", "experiments": "experiment"}


def find(tx: Transaction, who: Principal, workspace_id: str) -> Any:
    """A workspace by id.

    :raises Problem: NOT_FOUND, or FORBIDDEN to this caller
    """
    row = tx.execute(f"{_SELECT} WHERE id = ?", (workspace_id,)).fetchone()
    if row is None:
        raise not_found("workspace", workspace_id)
    require(tx, who, workspace_id, f"workspace {row['full_name']!r}")
    return row


def resolve(tx: Transaction, who: Principal, owner: str, name: str) -> str:
    """The id of a name.

    :raises Problem: NOT_FOUND, or FORBIDDEN to this caller
    """
    row = tx.execute(
        "SELECT w.id FROM workspaces w JOIN organizations o ON o.id = w.organization_id"
        " WHERE o.name = ? AND w.name = ?",
        (owner, name),
    ).fetchone()
    if row is None:
        raise not_found("workspace", f"{owner}/{name}")
    require(tx, who, row["id"], f"workspace '{owner}/{name}'")
    return str(row["id"])


def select(
    tx: Transaction, who: Principal, filters: Iterable[tuple[str, Sequence[Any]]], order: str
) -> list[Any]:
    """Those that the caller may see and for which all filters hold (SQL and its values)."""
    parts = [
        ("organization_id IN (SELECT organization_id FROM members WHERE user_id = ?)", [who.user_id]),
        *filters,
    ]
    if who.workspace_id is not None:
        parts.append(("id = ?", [who.workspace_id]))
    where = " AND ".join(f"({sql})" for sql, _ in parts)
    return tx.execute(f"{_SELECT} WHERE {where} {order}", [v for _, each in parts for v in each]).fetchall()


def make(tx: Transaction, clock: Clock, ids: Ids, who: Principal, new: dict[str, Any]) -> str:
    """Make a workspace of ``name``, ``organization_id``, ``description``, ``budget_id``; return its id.

    Without a budget it has the organization's first, made if there is none: tools ask people for one else.

    :raises Problem: CONFLICT, when the name is taken; INVALID, when it is none
    """
    now, workspace = clock.now(), ids.new()
    budget = new["budget_id"]
    if not budget:
        first = tx.execute(
            "SELECT id FROM budgets WHERE organization_id = ? ORDER BY created LIMIT 1",
            (new["organization_id"],),
        ).fetchone()
        budget = first["id"] if first else ids.new()
        if first is None:
            make_budget(tx, budget, new["organization_id"], "default", now)
    try:
        tx.execute(
            "INSERT INTO workspaces (id, organization_id, author_id, name, description, budget_id, created,"
            " modified) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                workspace,
                new["organization_id"],
                who.user_id,
                check_name(new["name"]),
                new["description"],
                budget,
                now,
                now,
            ),
        )
    except sqlite3.IntegrityError as error:
        raise in_use("workspace", new["name"]) from error
    return workspace


def transfer(tx: Transaction, who: Principal, scope: NameScope, workspace: str, entity: str) -> None:
    """Move a dataset, an image or an experiment into a workspace. An experiment's results stay.

    :raises Problem: NOT_FOUND, FORBIDDEN; CONFLICT, when its name is taken there; INVALID, while it runs
    """
    rows = {
        table: tx.execute(f"SELECT workspace_id, name FROM {table} WHERE id = ?", (entity,)).fetchone()
        for table in _MOVED
    }
    table = next((table for table, row in rows.items() if row is not None), None)
    if table is None:
        raise not_found("dataset, image or experiment", entity)
    row, what = rows[table], _MOVED[table]
    require(tx, who, row["workspace_id"], f"{what} {entity!r}")
    if table == "experiments":
        _move_jobs(tx, entity, workspace)
    key = (
        "name_key"
        if scope is NameScope.AUTHOR
        else "CASE WHEN name_key IS NOT NULL THEN ?1 || '/' || name END"
    )
    try:
        tx.execute(
            f"UPDATE {table} SET workspace_id = ?1, name_key = {key} WHERE id = ?2", (workspace, entity)
        )
    except sqlite3.IntegrityError as error:
        raise in_use(what, row["name"]) from error


def _move_jobs(tx: Transaction, experiment: str, workspace: str) -> None:
    live = tx.execute(
        "SELECT 1 FROM jobs WHERE experiment_id = ? AND finalized IS NULL", (experiment,)
    ).fetchone()
    if live is not None:
        raise invalid(f"experiment {experiment!r}: its jobs have not ended yet")
    tx.execute("UPDATE jobs SET workspace_id = ? WHERE experiment_id = ?", (workspace, experiment))


def sizes(tx: Transaction, workspace: str) -> dict[str, int]:
    """How many datasets, experiments and images are in a workspace."""
    return {
        table: tx.execute(f"SELECT count(*) FROM {table} WHERE workspace_id = ?", (workspace,)).fetchone()[0]
        for table in _MOVED
    }
