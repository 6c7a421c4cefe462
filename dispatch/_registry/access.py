"""Who we are to a registry: the challenges it makes, and the tokens that answer them.

Owns the ``Authorization`` header. A password is shown only to who asked for one, and only over TLS, from this
machine to itself, or where the registry was declared insecure.

Source: the token authentication specification of distribution, and RFC 7235 for challenges.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from dispatch._registry.credentials import Login, Logins
from dispatch._registry.line import Answer, Line
from dispatch._registry.problems import RegistryBusyError, RegistryDeniedError, RegistryError
from dispatch._registry.way import Way

CLIENT = "dispatch"
# What a token lives where nobody says how long, and how long before its end it is not used any more.
_LIFE, _MARGIN = 60.0, 10.0
_SCHEME = re.compile(r"(?:^|,)\s*(Basic|Bearer)\b", re.IGNORECASE)
_PARAMETER = re.compile(r'([A-Za-z_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')

Scopes = tuple[str, ...]


@dataclass(frozen=True)
class Challenge:
    """What a registry wants to be shown: ``scheme`` is ``basic`` or ``bearer``."""

    scheme: str
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class _Token:
    header: str
    until: float


class Access:
    """Logs in to one registry. Safe to share between threads."""

    def __init__(
        self, host: str, logins: Logins, line: Line, way: Way, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._host = host
        self._logins = logins
        self._line = line
        self._way = way
        self._clock = clock
        self._lock = threading.Lock()
        self._challenge: Challenge | None = None
        self._login: Login | None = None
        self._tokens: dict[Scopes, _Token] = {}

    def header(self, scopes: Scopes) -> str | None:
        """Return what to show for ``scopes``, None before the registry has asked for anything."""
        with self._lock:
            if self._challenge is None:
                return None
            if self._challenge.scheme == "basic":
                return self._basic()
            token = self._tokens.get(scopes)
            if token is None or token.until <= self._clock():
                token = self._tokens[scopes] = self._fetched(self._challenge, scopes)
            return token.header

    def challenged(self, answer: Answer, scopes: Scopes, shown: str | None) -> None:
        """Take in what the registry wants to be shown instead of what it was ``shown``.

        :raises RegistryDeniedError: when it does not say so in a way that we know
        """
        challenge = read_challenge(answer.headers.get("www-authenticate", ""))
        if challenge is None:
            raise self.denied(answer)
        with self._lock:
            if self._challenge is None:
                self._login = self._logins.of(self._host)
            self._challenge = challenge
            token = self._tokens.get(scopes)
            # Another thread may have got a newer one.
            if token is not None and token.header == shown:
                del self._tokens[scopes]

    def denied(self, answer: Answer) -> RegistryDeniedError:
        """Return the error for a registry that has seen all that we can show."""
        said = f": {answer.detail}" if answer.detail else ""
        if self._login is None:
            return RegistryDeniedError(
                f"registry {self._host}: it asks for a login, and there is none{said}",
                f"log in with `docker login {self._host}`",
            )
        return RegistryDeniedError(
            f"registry {self._host}: our login does not let us{said}",
            f"log in with `docker login {self._host}` as somebody who may",
        )

    def _basic(self) -> str:
        login = self._login
        if login is None or not login.user:
            raise RegistryDeniedError(
                f"registry {self._host}: it asks for a login, and there is none",
                f"log in with `docker login {self._host}`",
            )
        return _basic(login)

    def _fetched(self, challenge: Challenge, scopes: Scopes) -> _Token:
        """Get a token from where the challenge says."""
        login = self._login
        if login is not None and login.bearer:
            return _Token(f"Bearer {login.bearer}", float("inf"))
        realm = challenge.parameters.get("realm", "")
        place = urlsplit(realm)
        plain = place.scheme == "http" and (self._way.may_be_plain(place.netloc))
        if place.scheme != "https" and not plain:
            raise RegistryDeniedError(
                f"registry {self._host}: it sends logins to {realm!r}, which is no place for them",
                "ask who runs it; or declare it insecure, if its network is trusted",
            )
        asked = scopes or tuple(challenge.parameters.get("scope", "").split())
        service = challenge.parameters.get("service", "")
        answer = self._line.send(*_token_request(realm, service, asked, login))
        return self._read(answer, place.netloc)

    def _read(self, answer: Answer, host: str) -> _Token:
        if answer.status in (400, 401, 403):
            raise RegistryDeniedError(
                f"registry {self._host}: {host} does not accept our login ({answer.status}): {answer.detail}",
                f"log in with `docker login {self._host}`",
            )
        if answer.status == 429 or answer.status >= 500:
            raise RegistryBusyError(f"registry {self._host}: {host} gives no token ({answer.status})")
        try:
            document = json.loads(answer.body)
            token = str(document.get("token") or document["access_token"])
            life = float(document.get("expires_in") or _LIFE)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RegistryError(
                f"registry {self._host}: what {host} answers is no token ({answer.status})"
            ) from error
        return _Token(f"Bearer {token}", self._clock() + max(life - _MARGIN, life / 2))


def read_challenge(text: str) -> Challenge | None:
    """Read a ``WWW-Authenticate`` header: of several challenges the Bearer, None where none is known."""
    found: dict[str, Challenge] = {}
    marks = list(_SCHEME.finditer(text))
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    for mark, end in zip(marks, ends, strict=False):
        part = text[mark.end() : end]
        pairs = {
            name.lower(): re.sub(r"\\(.)", r"\1", quoted) or bare
            for name, quoted, bare in _PARAMETER.findall(part)
        }
        found[mark.group(1).lower()] = Challenge(mark.group(1).lower(), pairs)
    return found.get("bearer") or found.get("basic")


def _basic(login: Login) -> str:
    return f"Basic {base64.b64encode(f'{login.user}:{login.password}'.encode()).decode('ascii')}"


def _token_request(
    realm: str, service: str, scopes: Scopes, login: Login | None
) -> tuple[str, str, dict[str, str], bytes | None]:
    """Return method, URL, headers and body of the request for a token."""
    if login is not None and login.identity:
        fields = {
            "grant_type": "refresh_token",
            "service": service,
            "client_id": CLIENT,
            "scope": " ".join(scopes),
            "refresh_token": login.identity,
        }
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return "POST", realm, kind, urlencode(fields).encode("ascii")
    query = [("service", service), *(("scope", scope) for scope in scopes)]
    if login is not None and login.user:
        query.append(("account", login.user))
    url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"
    return "GET", url, {"Authorization": _basic(login)} if login is not None and login.user else {}, None
