"""Who is calling, and what that caller may see.

Owns tokens and principals. A token is random, 256 bits, kept as its SHA-256 only; a job's token sees its own
workspace, and ends with the job. Members of an organization share all of its workspaces.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from dispatch.beakerd.clock import Clock
from dispatch.beakerd.problems import Kind, Problem, forbidden
from dispatch.beakerd.store.database import Transaction

TOKEN_BYTES = 32
ADMIN = "admin"
ROLE_DEACTIVATED, ROLE_ADMIN = 1, 4  # the API's AUTH_ROLE_…


class Purpose(Enum):
    """What a token is for. Only USER and JOB open the API; the others open one dataset or image."""

    USER = "user"
    JOB = "job"
    STORAGE = "storage"
    REGISTRY = "registry"


@dataclass(frozen=True)
class Principal:
    """Whoever a token stands for. ``workspace_id`` bounds what a job may see; ``subject`` what a
    storage or registry token is for; ADMIN is the one of this machine, whoever runs the server."""

    user_id: str
    purpose: Purpose
    workspace_id: str | None = None
    job_id: str | None = None
    subject: str | None = None


class Access:
    """Makes tokens and knows them again. ``entropy(n)`` returns n random bytes."""

    def __init__(self, clock: Clock, entropy: Callable[[int], bytes]):
        self._clock = clock
        self._entropy = entropy

    def issue(
        self, tx: Transaction, who: Principal, lifetime: float | None = None, token: str | None = None
    ) -> str:
        """Make a token (or take the one given) for a principal; ``lifetime`` in seconds, None without end."""
        token = token or self._entropy(TOKEN_BYTES).hex()
        now = self._clock.now()
        tx.execute(
            "INSERT OR REPLACE INTO tokens (hash, kind, user_id, workspace_id, job_id, subject, created,"
            " expires) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                digest(token),
                who.purpose.value,
                who.user_id,
                who.workspace_id,
                who.job_id,
                who.subject,
                now,
                None if lifetime is None else now + round(lifetime * 1e9),
            ),
        )
        return token

    def principal(self, tx: Transaction, token: str, *purposes: Purpose) -> Principal:
        """Whoever the token stands for.

        :raises Problem: UNAUTHENTICATED, when it is unknown, has ended, or is for something else
        """
        row = tx.execute("SELECT * FROM tokens WHERE hash = ?", (digest(token),)).fetchone()
        known = row is not None and (row["expires"] is None or row["expires"] > self._clock.now())
        if not known or Purpose(row["kind"]) not in (purposes or (Purpose.USER, Purpose.JOB)):
            raise Problem(Kind.UNAUTHENTICATED, "the token is not valid here, or no longer")
        return Principal(
            row["user_id"], Purpose(row["kind"]), row["workspace_id"], row["job_id"], row["subject"]
        )


def digest(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def may_use(tx: Transaction, who: Principal, workspace_id: str) -> bool:
    """Whether a caller may see and change what is in a workspace."""
    if who.workspace_id is not None and who.workspace_id != workspace_id:
        return False
    return (
        tx.execute(
            "SELECT 1 FROM workspaces w JOIN members m ON m.organization_id = w.organization_id"
            " WHERE w.id = ? AND m.user_id = ?",
            (workspace_id, who.user_id),
        ).fetchone()
        is not None
    )


def may_administer(tx: Transaction, who: Principal) -> bool:
    """Whether a caller may see and change the server itself: its own token, or that of an administrator."""
    if who.purpose is not Purpose.USER:
        return False
    row = tx.execute("SELECT role FROM users WHERE id = ?", (who.user_id,)).fetchone()
    return who.subject == ADMIN or (row is not None and row["role"] == ROLE_ADMIN)


def require(tx: Transaction, who: Principal, workspace_id: str, what: str) -> None:
    """Refuse a caller who may not use the workspace; ``what`` names what was asked for."""
    if not may_use(tx, who, workspace_id):
        raise forbidden(f"{what}: you have no access to its workspace")
