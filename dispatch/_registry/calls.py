"""Calls to one registry: requests with a login, followed where they lead, and errors told apart.

Owns the address (HTTPS, or HTTP where that may be), the login on demand, redirects, and what a refusal means.
Refuses to know what is asked, and to repeat it: that does who calls (``patience``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

from dispatch._registry.access import Access, Scopes
from dispatch._registry.credentials import Logins
from dispatch._registry.line import Answer, Body, Line
from dispatch._registry.problems import (
    RegistryAbsentError,
    RegistryBusyError,
    RegistryDeniedError,
    RegistryError,
    RegistryFullError,
    RegistryNotFoundError,
    RegistryUnreachableError,
)
from dispatch._registry.reference import DOCKER_HUB
from dispatch._registry.way import Way

_HUB_API = "registry-1.docker.io"
_REDIRECTS = (301, 302, 303, 307, 308)
_REDIRECTS_OF_ALL = (307, 308)
_MOST_REDIRECTS = 5
_BUSY = (408, 425, 429, 500, 502, 503, 504)
# What registries say of a full disk, beside the status that is made for it: "Err":28 is Linux's ENOSPC.
_FULL = ('"err":28', "no space left", "quota", "insufficient storage")


class Calls:
    """Requests to the registry at ``host``. Making one sends nothing; safe to share between threads."""

    def __init__(
        self,
        host: str,
        logins: Logins,
        way: Way,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.host = host
        self._api = _HUB_API if host == DOCKER_HUB else host
        self._way = way
        self._line = Line(self._api, way)
        self._access = Access(host, logins, self._line, way, clock)
        self._now = now
        self._lock = threading.Lock()
        self._base = ""

    def ask(
        self,
        method: str,
        path: str,
        scopes: Scopes,
        headers: Mapping[str, str] | None = None,
        body: Callable[[], Body] | bytes | None = None,
        stream: bool = False,
    ) -> Answer:
        """Send a request and return its good answer, or that of 404 and 416, which mean several things.

        ``path`` may be a whole URL that the registry has given. ``body`` is called again where a request has
        to be sent again with a login.

        :raises RegistryError: for what else it answers; RegistryBusyError where asking again may help
        """
        url = urljoin(self._address(), path)
        answer = self._allowed(method, url, scopes, headers or {}, body, stream)
        for _ in range(_MOST_REDIRECTS):
            if answer.status not in (_REDIRECTS if method in ("GET", "HEAD") else _REDIRECTS_OF_ALL):
                break
            url = self._next(answer)
            answer = self._allowed(method, url, scopes, headers or {}, body, stream)
        if answer.status < 300 or answer.status in (404, 416):
            return answer
        raise self._refusal(answer)

    def _allowed(
        self,
        method: str,
        url: str,
        scopes: Scopes,
        headers: Mapping[str, str],
        body: Callable[[], Body] | bytes | None,
        stream: bool,
    ) -> Answer:
        """Send one request, with a login where the registry wants one; nobody else is shown it."""
        ours = urlsplit(url).netloc == self._api
        for _ in range(2):
            shown = self._access.header(scopes) if ours else None
            sent = {**headers, "Authorization": shown} if shown else headers
            answer = self._line.send(method, url, sent, body() if callable(body) else body, stream)
            if answer.status != 401 or not ours:
                return answer
            self._access.challenged(answer, scopes, shown)
        raise self._access.denied(answer)

    def _address(self) -> str:
        """Return ``https://host``, or ``http://host`` where that is all there is and it may be used."""
        with self._lock:
            if not self._base:
                plain = self._way.may_be_plain(self._api) and self._speaks_plainly()
                self._base = f"{'http' if plain else 'https'}://{self._api}"
            return self._base

    def _speaks_plainly(self) -> bool:
        """Ask over HTTP, with nothing secret. What wants TLS says something else, or hangs up."""
        # A line that breaks off may be a TLS server's way, or an accident, which does not happen twice.
        for _ in range(2):
            try:
                answer = self._line.send("GET", f"http://{self._api}/v2/", {})
            except RegistryAbsentError:
                # Without a port the two have ports of their own.
                if urlsplit(f"//{self._api}").port is not None:
                    raise
                return False
            except RegistryError:
                continue
            if answer.status in _BUSY:
                raise self._refusal(answer)
            return answer.status in (200, 401, 403)
        return False

    def _next(self, answer: Answer) -> str:
        """Return where a redirect leads."""
        target = urljoin(answer.url, answer.headers.get("location", ""))
        place = urlsplit(target)
        plain = place.scheme == "http" and self._way.may_be_plain(place.netloc)
        if place.scheme != "https" and not plain:
            raise RegistryError(
                f"registry {self.host}: it sends us to {place.scheme}://{place.netloc}, without TLS"
            )
        return target

    def _refusal(self, answer: Answer) -> RegistryError:
        what = f"registry {self.host}"
        said = f" ({answer.status}): {answer.detail}" if answer.detail else f" ({answer.status})"
        text = answer.body.decode("utf-8", "replace").lower()
        if answer.status == 507 or (answer.status >= 400 and any(mark in text for mark in _FULL)):
            return RegistryFullError(f"{what}: it has no room{said}", "make room there, or ask who runs it")
        if answer.status in (401, 403):
            return RegistryDeniedError(
                f"{what}: it does not let us{said}",
                f"log in with `docker login {self.host}` as somebody who may",
            )
        if answer.status in _BUSY:
            return RegistryBusyError(
                f"{what}: it cannot answer now{said}", "repeat the command later", self._wait(answer)
            )
        if "blob_unknown" in text:
            return missing(f"{what}: a part of the image", answer.detail)
        if answer.status == 413:
            return RegistryError(
                f"{what}: it does not take a request of this size{said}",
                "raise the limit of the proxy in front of it",
            )
        return RegistryError(f"{what}: it refuses{said}")

    def _wait(self, answer: Answer) -> float:
        """Return the seconds that ``Retry-After`` asks for: a number, or a date."""
        text = answer.headers.get("retry-after", "")
        try:
            return max(0.0, float(text))
        except ValueError:
            pass
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - self._now())
        except (ValueError, TypeError):
            return 0.0


def missing(what: str, detail: str = "") -> RegistryNotFoundError:
    """Return the error of what is not there."""
    return RegistryNotFoundError(f"{what}: the registry does not have it{f': {detail}' if detail else ''}")


def unintelligible(host: str, fact: str) -> RegistryUnreachableError:
    """Return the error of an answer that no registry gives."""
    return RegistryUnreachableError(
        f"registry {host}: what answers there is no registry: {fact}", "see that its name and port are right"
    )
