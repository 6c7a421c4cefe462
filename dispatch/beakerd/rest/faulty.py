"""Faults in the HTTP side: a WSGI application around the real one.

Owns how a fault looks to a client of HTTP; which request has one is :mod:`dispatch.beakerd.faults`'s. The
server's own routes have none, so that whoever asked for a fault can end it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from werkzeug.wrappers import Response

from dispatch.beakerd.backend import Backend
from dispatch.beakerd.connections import cut
from dispatch.beakerd.faults import REST, Kind, Strike
from dispatch.beakerd.problems import Problem
from dispatch.beakerd.rest.app import bearer, message
from dispatch.beakerd.store.tokens import user_of

OWN = "/local/"
# The exact text by which public clients know a conflict that is to be tried again.
RETRYABLE = "a retryable database conflict occurred"
_ANSWERS = {
    Kind.UNAVAILABLE: (503, "unavailable, as was asked for"),
    Kind.TOO_MANY: (429, "too many requests, as was asked for"),
    Kind.SERVER_ERROR: (500, "failed, as was asked for"),
    Kind.CONFLICT: (409, RETRYABLE),
}
_DIGESTS = ("digest", "docker-content-digest")
# The first character of the digest itself, behind the algorithm's name.
_FIRST = re.compile(r"[ :=]([0-9A-Za-z+/])")

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


class FaultyRest:
    """Lets requests go wrong as the backend's faults say."""

    def __init__(self, app: Application, backend: Backend):
        self._app = app
        self._backend = backend

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request, or not."""
        path = environ.get("PATH_INFO", "")
        if path.startswith(OWN):
            return self._app(environ, start_response)
        request = f"{environ['REQUEST_METHOD']} {path.encode('latin-1').decode('utf-8', 'replace')}"
        strike = self._backend.faults.strike(REST, request, lambda: self._user(environ))
        self._wait(strike.latency)
        if strike.kind is None:
            return self._app(environ, start_response)
        self._wait(strike.seconds)
        if strike.kind in _ANSWERS:
            return message(*_ANSWERS[strike.kind])(environ, start_response)
        if strike.kind in (Kind.DROP, Kind.LOSE):
            if strike.kind is Kind.LOSE:
                _run(self._app, environ)
            _hang_up(environ)
            return Response(status=503)(environ, start_response)
        return self._spoiled(strike, environ, start_response)

    def _spoiled(self, strike: Strike, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """The real answer, made wrong; one that has nothing to spoil does not count."""
        length: list[int] = []

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            if strike.kind is Kind.WRONG_DIGEST:
                spoiled = [
                    (name, _other(value) if name.lower() in _DIGESTS else value) for name, value in headers
                ]
                if spoiled == headers:
                    self._backend.faults.missed(strike)
                headers = spoiled
            length[:] = [int(value) for name, value in headers if name.lower() == "content-length"]
            return start_response(status, headers, *more)

        body = self._app(environ, start)
        if strike.kind is Kind.CORRUPT:
            return _corrupted(body)
        if strike.kind is Kind.TRUNCATE:
            return _truncated(body, length, environ)
        return body

    def _wait(self, seconds: float) -> None:
        if seconds:
            self._backend.closing.wait(seconds)

    def _user(self, environ: dict[str, Any]) -> str | None:
        with suppress(Problem):
            token = bearer(environ.get("HTTP_AUTHORIZATION", ""))
            with self._backend.database.read() as tx:
                return user_of(tx, token)
        return None


def _run(app: Application, environ: dict[str, Any]) -> None:
    body = app(environ, lambda *_: lambda _: None)
    try:
        for _ in body:
            pass
    finally:
        _close(body)


def _corrupted(body: Iterable[bytes]) -> Iterator[bytes]:
    """The same with another first byte."""
    done = False
    try:
        for chunk in body:
            if chunk and not done:
                done = True
                yield bytes([chunk[0] ^ 0xFF]) + chunk[1:]
            else:
                yield chunk
    finally:
        _close(body)


def _truncated(body: Iterable[bytes], length: list[int], environ: dict[str, Any]) -> Iterator[bytes]:
    """Half of what is announced, then nothing: the connection goes, or the client would wait for the rest.

    A body whose length is not announced ends after its first piece.
    """
    left = length[0] // 2 if length else None
    try:
        for chunk in body:
            part = chunk if left is None else chunk[:left]
            if part:
                yield part
            if left is None or len(part) == left:
                break
            left -= len(part)
    finally:
        _close(body)
    _hang_up(environ)


def _hang_up(environ: dict[str, Any]) -> None:
    cut(environ.get("REMOTE_ADDR", ""), int(environ.get("REMOTE_PORT") or 0))


def _close(body: Iterable[bytes]) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        close()


def _other(digest: str) -> str:
    found = _FIRST.search(digest)
    if found is None:
        return digest
    place = found.start(1)
    return f"{digest[:place]}{'1' if digest[place] == '0' else '0'}{digest[place + 1 :]}"
