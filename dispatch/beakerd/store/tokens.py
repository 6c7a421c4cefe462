"""Tokens of users, taken away and given back: what an administrator does to try a client."""

from __future__ import annotations

from dispatch.beakerd.access import ADMIN, Purpose, digest
from dispatch.beakerd.store.database import Transaction

# An end that no token has otherwise, by which those that were taken away are known again.
_REVOKED = 1


def user_of(tx: Transaction, token: str) -> str | None:
    """The name of the user that a token is of, whether or not it still opens anything."""
    row = tx.execute(
        "SELECT u.name FROM tokens t JOIN users u ON u.id = t.user_id WHERE t.hash = ?", (digest(token),)
    ).fetchone()
    return None if row is None else str(row["name"])


def revoke(tx: Transaction, user_id: str, but: str) -> int:
    """Let a user's own tokens open nothing more, but for one and the one of this machine; return how many."""
    return tx.execute(
        "UPDATE tokens SET expires = ? WHERE user_id = ? AND kind = ? AND expires IS NULL AND hash != ?"
        " AND subject IS NOT ?",
        (_REVOKED, user_id, Purpose.USER.value, digest(but), ADMIN),
    ).rowcount


def restore(tx: Transaction, user_id: str) -> int:
    """Let the tokens that were revoked open again what they did."""
    return tx.execute(
        "UPDATE tokens SET expires = NULL WHERE user_id = ? AND kind = ? AND expires = ?",
        (user_id, Purpose.USER.value, _REVOKED),
    ).rowcount
