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
_VALUE = "value"


def write(backend: Backend, who: Principal, request: Request, workspace: str, _name: str) -> Response:
    """Make a secret, or give it another value."""
    name = store.checked_name(_name_in(request))
    body = b"".join(BoundedBody(request, backend.config.limits.secret).pieces())
    with backend.database.write() as tx:
        store.enter(tx, who, workspace)
        store.write(tx, workspace, name, body, who.user_id, backend.clock.now())
    return reply({"name": name})


def read(backend: Backend, who: Principal, request: Request, workspace: str, _name: str) -> Response:
    """A secret's value."""
    with backend.database.read() as tx:
        store.enter(tx, who, workspace)
        value = store.value(tx, workspace, _name_in(request))
    # No part of it is guessed to be text, and no one on the way keeps it.
    return Response(value, mimetype="application/octet-stream", headers={"Cache-Control": "no-store"})


def delete(backend: Backend, who: Principal, request: Request, workspace: str, _name: str) -> Response:
    """Remove a secret."""
    with backend.database.write() as tx:
        store.enter(tx, who, workspace)
        store.delete(tx, workspace, _name_in(request))
    backend.database.settle()
    return Response(status=204)


def _name_in(request: Request) -> str:
    """The name, which may have slashes itself: all that stands behind ``secrets/``, but for ``/value``."""
    parts = segments(request)
    end = None if request.method == "DELETE" else -1
    if parts[_NAME_AT - 1 : _NAME_AT] != ["secrets"] or (end and parts[-1] != _VALUE):
        # Slashes of the route itself were quoted: it fits as text, but these are other parts.
        raise not_found("route", request.path)
    return "/".join(parts[_NAME_AT:end])


_SECRET = "/api/v3/workspaces/<workspace>/secrets/<path:_name>"
ROUTES = [
    Route("PUT", f"{_SECRET}/value", write, largest=None),
    Route("GET", f"{_SECRET}/value", read),
    Route("DELETE", _SECRET, delete),
]
