"""What each user's clients read: a configuration of beaker-py, with the user's token.

Owns these files (``users/<name>/config.yml``, 0600) and the tokens in them: a token stays as long as its
file, and ends when the configuration names its user no more, or the user is deactivated.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from dispatch.beakerd.access import ADMIN, ROLE_DEACTIVATED, Principal, Purpose
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.layout import write_private
from dispatch.beakerd.problems import Problem
from dispatch.beakerd.store.database import Transaction

_TOKEN = "user_token: "


def write_users(backend: Backend, tx: Transaction) -> None:
    """Write every user's file, for where the server listens now."""
    write_private(backend.layout.default_user, backend.config.users[0].name.encode())
    for row in tx.execute("SELECT id, name, role, origin FROM users").fetchall():
        if row["origin"] == "gone" or row["role"] == ROLE_DEACTIVATED:
            revoke(backend, tx, row["id"], row["name"])
            continue
        token = _token_in(_path(backend, row["name"]))
        if token is None or not _known(backend, tx, token, row["id"]):
            token = backend.access.issue(tx, Principal(row["id"], Purpose.USER))
        _write(backend, row["name"], token)


def give_token(backend: Backend, tx: Transaction, user: str, name: str) -> str:
    """End a user's tokens and make a new one, which is in the user's file from now on."""
    revoke(backend, tx, user, name)
    token = backend.access.issue(tx, Principal(user, Purpose.USER))
    _write(backend, name, token)
    return token


def revoke(backend: Backend, tx: Transaction, user: str, name: str) -> None:
    """End a user's tokens, and remove the file."""
    _path(backend, name).unlink(missing_ok=True)
    tx.execute(
        "DELETE FROM tokens WHERE user_id = ? AND kind = ? AND subject IS NOT ?",
        (user, Purpose.USER.value, ADMIN),
    )


def rename(backend: Backend, old: str, new: str) -> None:
    """Let a user's file follow the user's name."""
    token = _token_in(_path(backend, old))
    if token is not None:
        _write(backend, new, token)
        _path(backend, old).unlink()


def _path(backend: Backend, name: str) -> Path:
    return backend.layout.users / name / "config.yml"


def _write(backend: Backend, name: str, token: str) -> None:
    config, path = backend.config, _path(backend, name)
    scheme = "https" if config.rest_tls else "http"
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
