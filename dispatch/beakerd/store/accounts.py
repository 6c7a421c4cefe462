"""Users, organizations and budgets: found, made, changed.

Owns who may see an organization: its members, and of a job's token only the one of the job's workspace. Users
are known to everybody, since full names begin with them.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from typing import Any

from dispatch.beakerd.access import Principal, Purpose
from dispatch.beakerd.problems import forbidden, in_use, invalid, not_found
from dispatch.beakerd.store.database import Transaction

# Beaker's own rule; ASCII alone, so that a name is a name in paths and addresses, too.
_NAME = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9._][A-Za-z0-9._-]{0,254}")
_BUDGETS = (
    "SELECT * FROM (SELECT b.*, o.name AS organization FROM budgets b"
    " JOIN organizations o ON o.id = b.organization_id)"
)


def check_name(name: str) -> str:
    """A name as it is.

    :raises Problem: INVALID, when it can be none
    """
    if _NAME.fullmatch(name) is None:
        raise invalid(
            f"name: {name[:300]!a} may have letters, digits, periods, dashes and underscores, 255 at most,"
            " and does not begin with a dash"
        )
    return name


def person(who: Principal, what: str) -> None:
    """Refuse a job's token.

    :raises Problem: FORBIDDEN
    """
    if who.purpose is not Purpose.USER:
        raise forbidden(f"{what}: a job's token may not do that")


def user(tx: Transaction, user_id: str) -> Any:
    """A user by id.

    :raises Problem: NOT_FOUND
    """
    row = tx.execute("SELECT * FROM users WHERE id = ?", (user_id,)).fetchone()
    if row is None:
        raise not_found("user", user_id)
    return row


def is_member(tx: Transaction, who: Principal, organization: str) -> bool:
    """Whether a caller may see an organization."""
    query, values = (
        "SELECT 1 FROM members WHERE organization_id = ? AND user_id = ?",
        [organization, who.user_id],
    )
    if who.workspace_id is not None:
        query += " AND organization_id = (SELECT organization_id FROM workspaces WHERE id = ?)"
        values.append(who.workspace_id)
    return tx.execute(query, values).fetchone() is not None


def organization(tx: Transaction, who: Principal, column: str, value: str) -> Any:
    """An organization by its ``id`` or ``name`` (the column), for one of its members.

    :raises Problem: NOT_FOUND, or FORBIDDEN to this caller
    """
    row = tx.execute(f"SELECT * FROM organizations WHERE {column} = ?", (value,)).fetchone()
    if row is None:
        raise not_found("organization", value)
    if not is_member(tx, who, row["id"]):
        raise forbidden(f"organization {value!r}: you are no member")
    return row


def organizations(tx: Transaction, who: Principal, member: str | None, page: Sequence[Any]) -> list[Any]:
    """Those that a caller may see, of which ``member`` is one; ``page`` is what ``keyset`` returned."""
    condition, order, values = page
    sql = "id IN (SELECT organization_id FROM members WHERE user_id = ?)"
    conditions, found = [sql, condition], [who.user_id, *values]
    if member is not None:
        conditions.append(sql)
        found.append(member)
    if who.workspace_id is not None:
        conditions.append("id = (SELECT organization_id FROM workspaces WHERE id = ?)")
        found.append(who.workspace_id)
    return tx.execute(
        f"SELECT * FROM organizations WHERE {' AND '.join(conditions)} {order}", found
    ).fetchall()


def users(tx: Transaction, organization_id: str | None, page: Sequence[Any]) -> list[Any]:
    """The members of an organization, or everybody."""
    condition, order, values = page
    within, found = "1", list(values)
    if organization_id is not None:
        within = "id IN (SELECT user_id FROM members WHERE organization_id = ?)"
        found.insert(0, organization_id)
    return tx.execute(f"SELECT * FROM users WHERE {within} AND {condition} {order}", found).fetchall()


def make_user(tx: Transaction, row: tuple[str, str, str, int], maker: str, role: int) -> None:
    """Make a user of (id, name, email, when), a member of every organization of its maker.

    :raises Problem: CONFLICT, when the name is taken
    """
    user_id, name, email, now = row
    try:
        tx.execute(
            "INSERT INTO users (id, name, email, created, role) VALUES (?, ?, ?, ?, ?)",
            (user_id, check_name(name), email, now, role),
        )
    except sqlite3.IntegrityError as error:
        raise in_use("user", name) from error
    tx.execute(
        "INSERT INTO members SELECT organization_id, ? FROM members WHERE user_id = ?", (user_id, maker)
    )


def change(tx: Transaction, table: str, row_id: str, changes: dict[str, Any], what: str) -> None:
    """Set columns of a row; ``what`` is what a name of it is called.

    :raises Problem: CONFLICT, when the name is taken
    """
    if not changes:
        return
    sets = ", ".join(f"{column} = ?" for column in changes)
    try:
        tx.execute(f"UPDATE {table} SET {sets} WHERE id = ?", (*changes.values(), row_id))
    except sqlite3.IntegrityError as error:
        raise in_use(what, str(changes.get("name"))) from error


def budget(tx: Transaction, who: Principal, budget_id: str) -> Any:
    """A budget by id, for a member of its organization.

    :raises Problem: NOT_FOUND, or FORBIDDEN to this caller
    """
    row = tx.execute(f"{_BUDGETS} WHERE id = ?", (budget_id,)).fetchone()
    if row is None:
        raise not_found("budget", budget_id)
    organization(tx, who, "id", row["organization_id"])
    return row


def budgets(tx: Transaction, organization_id: str, page: Sequence[Any]) -> list[Any]:
    """The budgets of an organization."""
    condition, order, values = page
    return tx.execute(
        f"{_BUDGETS} WHERE organization_id = ? AND {condition} {order}", (organization_id, *values)
    ).fetchall()


def make_budget(tx: Transaction, budget_id: str, organization_id: str, name: str, now: int) -> None:
    """Make a budget.

    :raises Problem: CONFLICT, when the name is taken
    """
    try:
        tx.execute(
            "INSERT INTO budgets (id, organization_id, name, created) VALUES (?, ?, ?, ?)",
            (budget_id, organization_id, check_name(name), now),
        )
    except sqlite3.IntegrityError as error:
        raise in_use("budget", name) from error
