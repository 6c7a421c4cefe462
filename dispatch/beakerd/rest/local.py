"""Routes of this server's own, under ``/local/``, for ``dispatch beaker``: they take the admin's token."""

from __future__ import annotations

from werkzeug.wrappers import Request, Response

from dispatch.beakerd.access import Principal
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.rest.app import Route, reply


def health(_backend: Backend, _who: Principal | None, _request: Request) -> Response:
    """Say that the server answers."""
    return reply({"status": "ok"})


ROUTES = [Route("GET", "/local/health", health, purposes=())]
