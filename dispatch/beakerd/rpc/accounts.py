"""Users, organizations, workspaces and budgets."""

from __future__ import annotations

from typing import Any

from beaker import beaker_pb2 as pb2

from dispatch.beakerd.access import Principal
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.problems import not_found
from dispatch.beakerd.rpc.server import Method


def get_user(backend: Backend, who: Principal, request: Any) -> Any:
    """A user by id, or the caller."""
    wanted = request.user_id or who.user_id
    with backend.database.read() as tx:
        row = tx.execute("SELECT * FROM users WHERE id = ?", (wanted,)).fetchone()
    if row is None:
        raise not_found("user", wanted)
    user = pb2.User(id=row["id"], name=row["name"], display_name=row["display_name"])
    user.created.FromNanoseconds(row["created"])
    return pb2.GetUserResponse(user=user)


METHODS: dict[str, Method] = {"GetUser": get_user}
