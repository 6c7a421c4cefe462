"""A bad line to a registry: a proxy that overloads, hangs up, cuts and corrupts, by chance or by plan.

Owns the faults, and counts those that came about. Speaks HTTP on both sides and changes nothing else.
"""

from __future__ import annotations

import contextlib
import enum
import http.client
import http.server
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator

_PIECE = 64 * 1024
_HOP = {"connection", "keep-alive", "transfer-encoding", "host"}


class Fault(enum.Enum):
    """What can happen to one request."""

    BUSY = "503"
    TOO_MANY = "429, with Retry-After"
    BROKEN = "500, without a word"
    RESET = "the connection is reset before the request is read"
    CUT_REQUEST = "the body of the request gets through by half"
    DAMAGED_REQUEST = "a byte of the request's body is another"
    LOST_ANSWER = "the registry has done it, and nobody hears of it"
    CUT_ANSWER = "the body of the answer comes by half"
    DAMAGED_ANSWER = "a byte of the answer's body is another"


_OF_BODIES = (Fault.CUT_REQUEST, Fault.DAMAGED_REQUEST)

Choose = Callable[[str, str], "Fault | None"]


class Chance:
    """Chooses a fault for so many requests of a hundred; safe to call from several threads."""

    def __init__(self, seed: int, percent: float, faults: tuple[Fault, ...] = tuple(Fault)) -> None:
        self._random = random.Random(seed)
        self._percent = percent
        self._faults = faults
        self._lock = threading.Lock()

    def __call__(self, method: str, path: str) -> Fault | None:  # noqa: ARG002
        """Choose."""
        with self._lock:
            if self._random.uniform(0, 100) >= self._percent:
                return None
            return self._random.choice(self._faults)


class BadLine:
    """The proxy in front of the registry at ``target``; ``choose`` may be replaced at any time.

    With ``elsewhere`` whoever shows a login is sent there for blobs, as by registries that keep them in an
    object store. ``requests`` are all that came, as ``(method, path)``; ``happened`` counts the faults.
    """

    def __init__(self, target: str, choose: Choose = lambda *_: None) -> None:
        self.target = target
        self.choose = choose
        self.requests: list[tuple[str, str]] = []
        self.happened: Counter[Fault] = Counter()
        self.host = ""
        self.elsewhere = ""

    @contextlib.contextmanager
    def serving(self) -> Iterator[BadLine]:
        """Serve on the loopback."""
        outer = self

        class Handler(_Handler):
            line = outer

        with _Server(("127.0.0.1", 0), Handler) as server:
            self.host = f"127.0.0.1:{server.server_port}"
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            yield self
            server.shutdown()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """What breaks here was to break."""


class _Hung(Exception):
    """The connection has been ended."""


class _Handler(http.server.BaseHTTPRequestHandler):
    line: BadLine
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        """Serve one request; every method there is."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        try:
            self._serve()
        except (_Hung, OSError, http.client.HTTPException):
            self.close_connection = True

    def _serve(self) -> None:
        self.line.requests.append((self.command, self.path))
        length = int(self.headers.get("Content-Length") or 0)
        fault = self.line.choose(self.command, self.path)
        if fault in _OF_BODIES and length < 2:
            fault = Fault.BUSY
        if fault is not None:
            self.line.happened[fault] += 1
        if fault is Fault.RESET:
            self._hang_up()
        if self.line.elsewhere and "/blobs/" in self.path and self.headers.get("Authorization"):
            self.send_response(307)
            self.send_header("Location", self.line.elsewhere)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        answers = {Fault.BUSY: 503, Fault.TOO_MANY: 429, Fault.BROKEN: 500}
        if fault in answers:
            self._drain(length)
            self._refuse(answers[fault], fault)
            return
        upstream = http.client.HTTPConnection(self.line.target, timeout=60)
        try:
            self._forward(upstream, length, fault)
            answer = upstream.getresponse()
            if fault is Fault.LOST_ANSWER:
                answer.read()
                self._hang_up()
            self._answer(answer, fault)
        finally:
            upstream.close()

    def _forward(self, upstream: http.client.HTTPConnection, length: int, fault: Fault | None) -> None:
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        # The registry writes addresses after the name it is called by.
        upstream.putheader("Host", self.headers.get("Host", self.line.host))
        for name, value in self.headers.items():
            if name.lower() not in _HOP:
                upstream.putheader(name, value)
        upstream.endheaders()
        left = length // 2 if fault is Fault.CUT_REQUEST else length
        damage = length // 3 if fault is Fault.DAMAGED_REQUEST else -1
        for piece in self._pieces(left, damage):
            upstream.send(piece)
        if fault is Fault.CUT_REQUEST:
            upstream.close()
            self._hang_up()

    def _answer(self, answer: http.client.HTTPResponse, fault: Fault | None) -> None:
        size = int(answer.headers.get("Content-Length") or 0)
        whole = self.command == "HEAD" or size < 2 or fault not in (Fault.CUT_ANSWER, Fault.DAMAGED_ANSWER)
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.end_headers()
        sent = 0
        while self.command != "HEAD" and (piece := answer.read(_PIECE)):
            if not whole and sent + len(piece) > size // 2:
                at = max(0, size // 2 - sent)
                if fault is Fault.CUT_ANSWER:
                    self.wfile.write(piece[:at])
                    self._hang_up()
                if sent <= size // 2:
                    piece = piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :]
            self.wfile.write(piece)
            sent += len(piece)

    def _pieces(self, length: int, damage: int) -> Iterator[bytes]:
        done = 0
        while done < length and (piece := self.rfile.read(min(_PIECE, length - done))):
            at = damage - done
            if 0 <= at < len(piece):
                piece = piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :]
            done += len(piece)
            yield piece

    def _drain(self, length: int) -> None:
        for _ in self._pieces(length, -1):
            pass

    def _refuse(self, status: int, fault: Fault) -> None:
        self.send_response(status)
        if fault is Fault.TOO_MANY:
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _hang_up(self) -> None:
        """End the connection so that the other side notices at once."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()
        raise _Hung

    def log_message(self, *_: object) -> None:
        """Say nothing."""
