"""What each user's clients read: a configuration of beaker-py, with the user's token.

Owns these files (``users/<name>/config.yml``, 0600) and the tokens in them: a token stays as long as its
file, and ends when the configuration names its user no more.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from dispatch.beakerd.access import ADMIN, Principal, Purpose
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.layout import write_private
from dispatch.beakerd.problems import Problem
from dispatch.beakerd.store.database import Transaction

_TOKEN = "user_token: "


def write_users(backend: Backend, tx: Transaction) -> None:
    """Write every user's file, for where the server listens now."""
    config = backend.config
    scheme = "https" if config.rest_tls else "http"
    write_private(backend.layout.default_user, config.users[0].name.encode())
    named = {user.name for user in config.users}
    for row in tx.execute("SELECT id, name FROM users").fetchall():
        path = backend.layout.users / row["name"] / "config.yml"
        if row["name"] not in named:
            path.unlink(missing_ok=True)
            tx.execute(
                "DELETE FROM tokens WHERE user_id = ? AND kind = ? AND subject IS NOT ?",
                (row["id"], Purpose.USER.value, ADMIN),
            )
            continue
        token = _token_in(path)
        if token is None or not _known(backend, tx, token, row["id"]):
            token = backend.access.issue(tx, Principal(row["id"], Purpose.USER))
        path.parent.mkdir(exist_ok=True, mode=0o700)
        text = (
            f"{_TOKEN}{token}\nagent_address: {scheme}://{backend.addresses.rest}\n"
            f"rpc_address: {backend.addresses.rpc}\n"
            f"default_org: {config.organizations[0]}\n"
            f"default_workspace: {config.workspaces[0].name}\n"
        )
        write_private(path, text.encode())


def _token_in(path: Path) -> str | None:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in path.read_text().splitlines():
            if line.startswith(_TOKEN):
                return line.removeprefix(_TOKEN).strip()
    return None


def _known(backend: Backend, tx: Transaction, token: str, user: str) -> bool:
    try:
        return backend.access.principal(tx, token, Purpose.USER).user_id == user
    except Problem:
        return False
