"""Answer for another host: a proxy through which a tool that insists on that host works offline.

Owns the proxy (HTTP CONNECT, RFC 9110 §9.3.6) on loopback, a certificate for the one host from the local
authority, and what jobs need to clone from the mirrors instead. gantry asks ``https://github.com/OWNER/NAME``
whether a repository is public: here it is, if there is a mirror of it. It is off unless asked for, with a
warning, since it is what its name says: whoever uses the proxy and trusts the authority takes this server for
that host. Connections to any other host are refused, not passed on.
"""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dispatch.beakerd.authority import certificate_for
from dispatch.beakerd.config import Interception

LOOPBACK = "127.0.0.1"
TIMEOUT = 30.0
HEAD_LIMIT = 64 * 1024
IN_JOBS = "/run/beaker-git"
_REQUEST = re.compile(rb"([A-Z]{1,16}) (\S{1,4096}) HTTP/1\.[01]")
_REPOSITORY = re.compile(r"/([A-Za-z0-9][A-Za-z0-9_.-]*)/([A-Za-z0-9][A-Za-z0-9_.-]*?)(?:\.git)?/?")


@dataclass(frozen=True)
class MirrorMount:
    """What a job gets, so that git fetches from the mirrors: a directory to bind read-only, and variables."""

    source: Path
    target: str
    env: Mapping[str, str]


def mirror_mount(intercept: Interception) -> MirrorMount:
    """See :class:`MirrorMount`. git reads these variables from 2.31 on."""
    return MirrorMount(
        intercept.mirrors,
        IN_JOBS,
        {
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": f"url.file://{IN_JOBS}/.insteadOf",
            "GIT_CONFIG_VALUE_0": f"https://{intercept.host}/",
            # The mirrors belong to another user than the job's.
            "GIT_CONFIG_KEY_1": "safe.directory",
            "GIT_CONFIG_VALUE_1": "*",
        },
    )


class Interceptor:
    """The proxy. :meth:`start` it once; ``tls`` is the directory of the authority."""

    def __init__(self, intercept: Interception, tls: Path, now: datetime):
        self._intercept = intercept
        self._tls = tls
        self._now = now
        self._server: socketserver.ThreadingTCPServer | None = None

    def start(self, port: int = 0) -> int:
        """Listen on loopback, and return the port."""
        certificate = certificate_for(self._tls, [self._intercept.host], self._now, stem="intercept")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate.chain_path, certificate.key_path)
        intercept = self._intercept

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError, ValueError):
                    _serve(self.request, intercept, context)

        server = _Server((LOOPBACK, port), Handler)
        threading.Thread(target=server.serve_forever, name="intercept", daemon=True).start()
        self._server = server
        return int(server.server_address[1])

    def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False


def _serve(line: socket.socket, intercept: Interception, context: ssl.SSLContext) -> None:
    line.settimeout(TIMEOUT)
    method, target = _request(_head(line))
    if method != "CONNECT" or target != f"{intercept.host}:443":
        _answer(
            line, "403 Forbidden", f"this proxy answers for {intercept.host} alone; it passes nothing on\n"
        )
        return
    line.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
    with context.wrap_socket(line, server_side=True) as secure:
        method, target = _request(_head(secure))
        if method in ("GET", "HEAD") and is_mirrored(intercept.mirrors, target):
            _answer(secure, "200 OK", f"{target}: mirrored by a local Beaker\n", body=method == "GET")
        else:
            _answer(secure, "404 Not Found", f"{target}: no such mirror in this local Beaker\n")


def is_mirrored(mirrors: Path, path: str) -> bool:
    """Whether there is a bare repository for ``/owner/name``, with ``.git`` or without, below the mirrors."""
    match = _REPOSITORY.fullmatch(path.partition("?")[0])
    return match is not None and (mirrors / match[1] / f"{match[2]}.git" / "HEAD").is_file()


def _head(line: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        piece = line.recv(4096)
        if not piece or len(head) > HEAD_LIMIT:
            raise ValueError("no request")
        head += piece
    return head


def _request(head: bytes) -> tuple[str, str]:
    match = _REQUEST.fullmatch(head.partition(b"\r\n")[0])
    if match is None:
        raise ValueError("no request")
    return match[1].decode(), match[2].decode("ascii", "replace")


def _answer(line: socket.socket, status: str, text: str, body: bool = True) -> None:
    content = text.encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    line.sendall(head.encode() + (content if body else b""))
