"""HTTP/1.1 over sockets: cheroot's server, made strict where it trusts its clients.

Owns connections: how long a client may take, how long headers may be, where bodies end, and what becomes of
a connection whose request was refused. Every refusal is 4xx and JSON, as public clients read them. Refuses to
know paths.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import time
import traceback
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from cheroot import wsgi
from cheroot.makefile import StreamReader, StreamWriter
from cheroot.server import HTTPConnection, HTTPRequest
from cheroot.ssl import Adapter

from dispatch.beakerd.rest.body import Body, ChunkedBody

THREADS = 64
BACKLOG = 1024
KEPT_ALIVE = 512
HEADER_LIMIT = 64 * 1024
# For all of a request's headers, and for each piece of a body.
HEADER_TIMEOUT = 10.0
BODY_TIMEOUT = 60.0
STOP_TIMEOUT = 0.5
# What is left of a refused body is read up to here, so that the connection can be used again; of a longer one
# as much as comes in a moment, or the client would be reset before it has read why.
DRAINED = 64 * 1024
LINGER = 2.0
LINGERED = 64 * 1024 * 1024
_BLOCK = 1 << 16
_LENGTH = re.compile(rb"[0-9]{1,18}")


class _TimedSocket(socket.SocketIO):
    """Reads until a deadline, when there is one, however small the pieces are that come."""

    deadline: float | None = None

    def readinto(self, buffer: Any) -> int | None:
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            self._sock.settimeout(left)  # type: ignore[attr-defined]
        return super().readinto(buffer)


class _Reader(StreamReader):  # type: ignore[misc]
    """The connection's reader; ``timed`` is where its bytes come from, in the place of cheroot's own."""

    timed: _TimedSocket

    def __init__(self, sock: socket.socket, size: int):
        super().__init__(sock, "rb", size)
        self.timed = self._raw = _TimedSocket(sock, "r")

    def fill(self, target: memoryview) -> int:
        """See :class:`dispatch.beakerd.rest.body.Source`: without a buffer between, but for what is in it."""
        held = len(self._read_buf) - self._read_pos
        done: int = min(held, len(target))
        if done:
            target[:done] = self.read(done)
        while done < len(target):
            got = self.timed.readinto(target[done:])
            if not got:
                break
            done += got
        return done


def _make_file(sock: socket.socket, mode: str = "rb", size: int = _BLOCK) -> Any:
    return _Reader(sock, size) if "r" in mode else StreamWriter(sock, mode, size)


class _Request(HTTPRequest):  # type: ignore[misc]
    """One request, and its answer."""

    body: Body | None = None

    def parse_request(self) -> None:
        """Read line and headers, within the time that a client has for them."""
        timed = self.conn.rfile.timed
        timed.deadline = time.monotonic() + self.server.header_timeout
        try:
            super().parse_request()
        finally:
            timed.deadline = None
            self.conn.socket.settimeout(BODY_TIMEOUT)

    def read_request_line(self) -> bool:
        """Read the line. All of the path is unquoted: cheroot leaves ``%2F``, and ``%252F`` becomes that."""
        if not super().read_request_line():
            return False
        path = urlsplit(b"//host" + self.uri if self.uri.startswith(b"/") else self.uri).path
        self.path = unquote_to_bytes(path) or b"/"
        return True

    def read_request_headers(self) -> bool:
        """Read the headers, and refuse bodies of which it is not clear how long they are."""
        if not super().read_request_headers():
            return False
        length = self.inheaders.get(b"Content-Length")
        if length is not None and (self.chunked_read or not _LENGTH.fullmatch(length.strip())):
            self.simple_response("400 Bad Request", "Content-Length: it is not clear how long the body is")
            return False
        return True

    def respond(self) -> None:
        """Have the request answered. No body is left half read in a connection that is used again."""
        length = int(self.inheaders.get(b"Content-Length", 0))
        self.body = ChunkedBody(self.conn.rfile) if self.chunked_read else Body(self.conn.rfile, length)
        self.rfile = self.body
        self.server.gateway(self).respond()
        if self.chunked_write:
            self.conn.wfile.write(b"0\r\n\r\n")
        if self.close_connection and not self.body.finished:
            self.conn.wait_for_reader()

    def send_headers(self) -> None:
        """Send them; before, see to what is left of the body."""
        body = self.body
        if body is not None and not body.finished:
            if body.remaining is None or body.remaining > DRAINED:
                self.close_connection = True
            else:
                with contextlib.suppress(Exception):
                    body.read(body.remaining)
                self.close_connection = self.close_connection or not body.finished
        super().send_headers()

    def simple_response(self, status: str, msg: str = "") -> None:
        """Refuse what never reached a route. What this server does not implement is a bad request, too."""
        code = int(str(status)[:3])
        if code > HTTPStatus.INTERNAL_SERVER_ERROR:
            code = HTTPStatus.BAD_REQUEST
        phrase = HTTPStatus(code).phrase
        text = json.dumps({"message": msg or phrase}).encode()
        head = (
            f"HTTP/1.1 {code} {phrase}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n"
        )
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.conn.wfile.write(head.encode() + text)
            if code != HTTPStatus.REQUEST_TIMEOUT:
                self.conn.wait_for_reader()


class _Connection(HTTPConnection):  # type: ignore[misc]
    """One connection, with readers and writers of ours."""

    RequestHandlerClass = _Request
    wbufsize = _BLOCK

    def __init__(self, server: Any, sock: socket.socket, _makefile: Any = None):
        super().__init__(server, sock, _make_file)
        self._shaken = not isinstance(sock, ssl.SSLSocket)

    def communicate(self) -> bool:
        """Answer one request; whether there may be another one."""
        if not self._shaken:
            try:
                self.socket.settimeout(self.server.header_timeout)
                self.socket.do_handshake()
            except (OSError, ValueError):
                return False  # whoever it is does not speak TLS
            self._shaken = True
        more: bool = super().communicate()
        return more

    def wait_for_reader(self) -> None:
        """End our side, and wait a moment for the other to read and end its own."""
        end, got = time.monotonic() + LINGER, 0
        with contextlib.suppress(OSError, ValueError):
            self.socket.shutdown(socket.SHUT_WR)
            while (left := end - time.monotonic()) > 0 and got < LINGERED:
                self.socket.settimeout(left)
                piece = self.socket.recv(_BLOCK)
                if not piece:
                    return
                got += len(piece)

    def close(self) -> None:
        """Close it; a connection that broke is closed, too."""
        with contextlib.suppress(OSError):
            super().close()


class _Tls(Adapter):  # type: ignore[misc]
    """TLS of which the handshake is done by who serves the connection: who accepts it never waits."""

    def __init__(self, certificate: Path, key: Path):
        super().__init__(str(certificate), str(key))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)

    def bind(self, sock: socket.socket) -> socket.socket:
        return sock

    def wrap(self, sock: socket.socket) -> tuple[socket.socket, dict[str, str]]:
        return self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False), {}

    def get_environ(self) -> dict[str, str]:
        return {}

    def makefile(self, sock: socket.socket, mode: str = "r", bufsize: int = _BLOCK) -> Any:
        return _make_file(sock, mode, bufsize)


class HttpServer(wsgi.Server):  # type: ignore[misc]
    """A server on one address. ``prepare`` binds it (OSError where that cannot be), ``serve`` answers.

    ``tls`` are the paths of certificate and key, None for plain HTTP; ``say`` takes a line for the log.
    ``header_timeout`` is how long all headers of a request may take, in seconds.
    """

    ConnectionClass = _Connection
    max_request_header_size = HEADER_LIMIT
    keep_alive_conn_limit = KEPT_ALIVE

    def __init__(
        self,
        address: tuple[str, int],
        app: Any,
        tls: tuple[Path, Path] | None,
        say: Callable[[str], None],
        header_timeout: float = HEADER_TIMEOUT,
    ):
        super().__init__(
            address,
            app,
            numthreads=THREADS,
            server_name="dispatch-beaker",
            request_queue_size=BACKLOG,
            timeout=BODY_TIMEOUT,
            shutdown_timeout=STOP_TIMEOUT,
        )
        self._say = say
        self.header_timeout = header_timeout
        if tls is not None:
            self.ssl_adapter = _Tls(*tls)

    def process_conn(self, conn: Any) -> None:
        """Give a connection to a thread, once there is something to read of it: silence holds none."""
        if conn.last_used is None:
            self._connections.put(conn)
        else:
            super().process_conn(conn)

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:  # noqa: ARG002
        """A problem of ours: one entry of the log."""
        self._say(f"http: {msg}" + (f"\n{_trace()}" if traceback else ""))


def _trace() -> str:
    return traceback.format_exc().rstrip()
