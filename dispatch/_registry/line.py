"""HTTP to registries: one request, one answer.

Owns connections (kept by urllib3, and given back), and what is said of one that cannot be made or breaks off.
Refuses to log in, to follow and to repeat: ``calls`` does.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dispatch._registry.problems import (
    RegistryAbsentError,
    RegistryBusyError,
    RegistryError,
    RegistryUnreachableError,
    RegistryUntrustedError,
)
from dispatch._registry.way import CERTIFICATES, Way

if TYPE_CHECKING:
    import urllib3

CONNECT_TIMEOUT = 20.0
# A registry that puts a large blob in its place says nothing while it does.
READ_TIMEOUT = 300.0
PIECE = 1 << 20
# Manifests and configurations are small; whoever sends more is no registry.
LONGEST_BODY = 8 << 20
AGENT = "dispatch"


@dataclass(frozen=True)
class Answer:
    """What came back; header names are in lower case. ``raw`` is a body that was asked for as a stream."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    raw: Any = None

    @property
    def detail(self) -> str:
        """The registry's own sentences about an error."""
        try:
            errors = json.loads(self.body)["errors"]
            said = [str(each.get("message") or each.get("code")) for each in errors]
        except (ValueError, KeyError, TypeError, AttributeError):
            said = [self.body.decode("utf-8", "replace")]
        return " ".join("; ".join(said).split())[:300]

    def pieces(self, what: str) -> Iterator[bytes]:
        """Yield the body of a stream, and close it.

        :raises RegistryBusyError: when it ends before its end
        """
        try:
            with _Translating(what):
                # What came before a break is kept: `read` would wait for all of a piece, and drop it.
                while piece := self.raw.read1(PIECE):
                    yield piece
        finally:
            self.close()

    def close(self) -> None:
        """Drop a stream that is not read to its end, with its connection."""
        if self.raw is not None:
            self.raw.close()


class Body:
    """What a request sends: so many bytes, which come once. ``failure`` is what stopped them on our side."""

    def __init__(self, chunks: Iterable[bytes], size: int) -> None:
        self._chunks = chunks
        self.size = size
        self.failure: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._chunks
        except Exception as error:
            # The client might take an error of a disk of ours for one of the connection.
            self.failure = error
            raise


class Line:
    """Requests to one registry, and to where it sends us. Safe to share between threads."""

    def __init__(self, host: str, way: Way) -> None:
        self._host = host
        self._way = way

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | bytes | None = None,
        stream: bool = False,
    ) -> Answer:
        """Send one request and return the answer, whatever its status.

        With ``stream`` the body of a good answer is left to be read by ``pieces``.

        :raises RegistryUnreachableError: when no answer comes; a RegistryBusyError where one may yet come
        """
        host = urlsplit(url).netloc
        sent = {"User-Agent": AGENT, "Accept-Encoding": "identity", **headers}
        if isinstance(body, Body):
            sent["Content-Length"] = str(body.size)
        try:
            with _Translating(f"registry {host}"):
                pool = self._own if host == self._host else self._others
                raw = pool.request(
                    method,
                    url,
                    body=body,
                    headers=sent,
                    preload_content=False,
                    decode_content=False,
                    redirect=False,
                    retries=False,
                )
                found = {name.lower(): value for name, value in raw.headers.items()}
                if stream and raw.status < 300:
                    return Answer(raw.status, found, b"", url, raw)
                content = raw.read(LONGEST_BODY + 1)
        except RegistryBusyError:
            if isinstance(body, Body) and body.failure is not None:
                raise body.failure from None
            raise
        if len(content) > LONGEST_BODY:
            raw.close()
            raise RegistryError(f"registry {host}: it answers with more than a registry has to say")
        raw.release_conn()
        return Answer(raw.status, found, content, url)

    @cached_property
    def _own(self) -> urllib3.PoolManager:
        return self._pool(self._way)

    @cached_property
    def _others(self) -> urllib3.PoolManager:
        """Who is declared insecure vouches for nobody else."""
        return self._pool(Way(False, self._way.authority, self._way.certificates, self._way.proxy))

    def _pool(self, way: Way) -> urllib3.PoolManager:
        import urllib3

        settings: dict[str, Any] = {
            "timeout": urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT),
            "maxsize": 8,
            "ssl_context": way.context(self._host),
        }
        if way.insecure:
            settings["assert_hostname"] = False
            # Whoever declared it insecure has been told.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        if way.proxy:
            return urllib3.ProxyManager(way.proxy, **settings)
        return urllib3.PoolManager(**settings)


class _Translating:
    """A context that lets nothing of urllib3 through."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, RegistryError):
            return
        import urllib3.exceptions

        if isinstance(error, (urllib3.exceptions.HTTPError, ssl.SSLError, ConnectionError, TimeoutError)):
            raise _translated(self._what, error) from error


def _translated(what: str, error: BaseException) -> RegistryUnreachableError:
    """Return what an error of a connection means."""
    import urllib3.exceptions as vendor

    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return RegistryUntrustedError(
                f"{what}: its certificate is not trusted: {cause.verify_message}",
                f"put the certificate of the authority that signed it into {CERTIFICATES}/HOST/ca.crt,"
                " or name its file where the registry is declared",
            )
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return RegistryUnreachableError(f"{what}: no host of this name is known", "mend its name")
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return RegistryAbsentError(f"{what}: nobody listens there", "see that it runs, and on this port")
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return RegistryUnreachableError(
            f"{what}: no TLS connection comes about: {_reason(causes)}",
            "see that this is its HTTPS port; one that only speaks HTTP has to be declared insecure",
        )
    if isinstance(error, (vendor.TimeoutError, TimeoutError)):
        return RegistryBusyError(
            f"{what}: it does not answer", "see that it runs and that no firewall is between"
        )
    if isinstance(error, vendor.ProxyError):
        return RegistryBusyError(
            f"{what}: the proxy to it fails: {_reason(causes)}", "see HTTPS_PROXY and NO_PROXY"
        )
    return RegistryBusyError(f"{what}: the line to it broke off", "see that it runs, then repeat the command")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what is behind it; urllib3 keeps that in its arguments and attributes."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseException) and id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += [*each.args, getattr(each, "reason", None), each.__cause__, each.__context__]


def _reason(causes: list[BaseException]) -> str:
    last = causes[-1]
    return str(getattr(last, "strerror", None) or last)[:200]
