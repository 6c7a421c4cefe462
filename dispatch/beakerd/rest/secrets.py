"""Routes of secrets: values as raw bytes. Names may hold anything, slashes too: they are read as sent."""

from __future__ import annotations

from werkzeug.wrappers import Request, Response

from dispatch.beakerd.access import Principal
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.problems import not_found
from dispatch.beakerd.rest.app import Route, reply
from dispatch.beakerd.rest.bodies import BoundedBody, segments
from dispatch.beakerd.store import secrets as store

_NAME_AT = 5


def _sent(request: Request, behind: int) -> str:
    """The name in the path, which has so many parts behind it."""
    parts = segments(request)
    if len(parts) != _NAME_AT + 1 + behind:
        raise not_found("secret", "/".join(parts[_NAME_AT:]))
    return parts[_NAME_AT]


def write(backend: Backend, who: Principal, request: Request, workspace: str, _name: str) -> Response:
    """Make a secret, or give it another value."""
    name = store.checked_name(_sent(request, 1))
    body = b"".join(map(bytes, BoundedBody(request, backend.config.limits.secret).pieces()))
    with backend.database.write() as tx:
        store.enter(tx, who, workspace)
        store.write(tx, workspace, name, body, who.user_id, backend.clock.now())
    return reply({"name": name})


def read(backend: Backend, who: Principal, request: Request, workspace: str, _name: str) -> Response:
    """A secret's value."""
    with backend.database.read() as tx:
        store.enter(tx, who, workspace)
        value = store.value(tx, workspace, _sent(request, 1))
    # No part of it is guessed to be text, and no one on the way keeps it.
    return Response(value, mimetype="application/octet-stream", headers={"Cache-Control": "no-store"})


def delete(backend: Backend, who: Principal, request: Request, workspace: str, _name: str) -> Response:
    """Remove a secret."""
    with backend.database.write() as tx:
        store.enter(tx, who, workspace)
        store.delete(tx, workspace, _sent(request, 0))
    return Response(status=204)


_SECRET = "/api/v3/workspaces/<workspace>/secrets/<path:_name>"
ROUTES = [
    Route("PUT", f"{_SECRET}/value", write, largest=None),
    Route("GET", f"{_SECRET}/value", read),
    Route("DELETE", _SECRET, delete),
]
