"""The WSGI application: routes, who calls, how large a body may be, and refusals as JSON.

Owns what all routes share. A bug is a 500, said in the server's log with its traceback; a bad request never
is.
"""

from __future__ import annotations

import base64
import binascii
import json
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from dispatch.beakerd.access import Principal, Purpose
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.problems import Kind, Problem, invalid
from dispatch.beakerd.rest.bodies import discard

Handler = Callable[..., Response]
Gate = Callable[[str, str], Response | None]


def open_gate(_method: str, _path: str) -> Response | None:
    """Let every request in."""
    return None


@dataclass(frozen=True)
class Route:
    """One thing that is answered: ``handler(backend, principal, request, **parts of the path)``.

    ``path`` is a werkzeug rule. ``purposes`` are the tokens that open it; none: nobody is asked, and the
    principal is None. ``largest`` bounds the body in bytes; None leaves it to the handler, which streams it.
    """

    method: str
    path: str
    handler: Handler
    purposes: tuple[Purpose, ...] = (Purpose.USER, Purpose.JOB)
    largest: int | None = 64 * 1024


class RestApp:
    """The application, for any WSGI server. ``gate`` sees each request before its route and may answer it."""

    def __init__(self, backend: Backend, routes: Iterable[Route], gate: Gate = open_gate):
        self._backend = backend
        self._gate = gate
        self._map = Map(
            [Rule(route.path, methods=[route.method], endpoint=route) for route in routes],
            strict_slashes=False,
            merge_slashes=False,
        )

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request."""
        request = Request(environ)
        try:
            response = self._gate(request.method, request.path) or self._answer(request)
        except Problem as problem:
            response = refusal(problem)
        except HTTPException as error:
            response = message(error.code or 400, f"{request.method} {request.path}: {error.name}")
        except Exception:
            self._backend.say(f"{request.method} {request.path}: {traceback.format_exc()}")
            response = message(500, "the server failed; its log says why")
        if response.status_code >= 400 and not discard(environ, self._backend.config.limits.file_body):
            # The server below ends the connection of this status alone.
            response.status_code = 413
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        route, parts = self._map.bind_to_environ(request.environ).match()
        if route.largest is not None and (request.content_length or 0) > route.largest:
            raise Problem(Kind.TOO_LARGE, f"the body is larger than {route.largest} bytes")
        principal = self._principal(request, route.purposes) if route.purposes else None
        answer: Response = route.handler(self._backend, principal, request, **parts)
        return answer

    def _principal(self, request: Request, purposes: tuple[Purpose, ...]) -> Principal:
        token = bearer(request.headers.get("Authorization", ""))
        with self._backend.database.read() as tx:
            return self._backend.access.principal(tx, token, *purposes)


def bearer(header: str) -> str:
    """The token in an Authorization header: bearer, or the password of basic.

    :raises Problem: UNAUTHENTICATED, where there is none
    """
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    if scheme.lower() == "basic":
        try:
            _, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            password = ""
        if password:
            return password
    raise Problem(Kind.UNAUTHENTICATED, "the request has no token: header `Authorization: Bearer TOKEN`")


def json_body(request: Request, largest: int) -> Mapping[str, Any]:
    """Read a body that is one JSON object.

    :raises Problem: INVALID or TOO_LARGE
    """
    body = request.stream.read(largest + 1)
    if len(body) > largest:
        raise Problem(Kind.TOO_LARGE, f"the body is larger than {largest} bytes")
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise invalid("the body is not JSON") from error
    if not isinstance(value, dict):
        raise invalid("the body is not a JSON object")
    return value


def reply(value: Mapping[str, Any], status: int = 200) -> Response:
    """A JSON answer."""
    return Response(json.dumps(value), status=status, mimetype="application/json")


def message(status: int, text: str) -> Response:
    """What public clients read of an error."""
    return reply({"message": text}, status)


def refusal(problem: Problem) -> Response:
    """A refused request."""
    return message(problem.kind.http, problem.message)
