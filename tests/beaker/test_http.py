"""HTTP as clients should not speak it: whatever comes, the answer is 4xx and JSON, and the server goes on."""

from __future__ import annotations

import http.client
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from werkzeug.wrappers import Request, Response

from dispatch.beakerd.access import Principal
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.rest.app import RestApp, Route, json_body, reply
from dispatch.beakerd.rest.http import HttpServer
from dispatch.testing.beaker import Beakers, LocalBeaker

LARGEST = 100_000


def echo(_backend: Backend, _who: Principal | None, request: Request, path: str) -> Response:
    """Say what came."""
    return reply({"path": path, "body": len(request.stream.read())})


def read_json(_backend: Backend, _who: Principal | None, request: Request) -> Response:
    """Give back the JSON that came."""
    return reply(dict(json_body(request, LARGEST)))


def unread(_backend: Backend, _who: Principal | None, _request: Request) -> Response:
    """Answer without a look at the body."""
    return reply({})


ROUTES = [
    Route("PUT", "/echo/<path:path>", echo, purposes=(), largest=LARGEST),
    Route("PUT", "/any/<path:path>", echo, purposes=(), largest=None),
    Route("POST", "/json", read_json, purposes=()),
    Route("POST", "/unread", unread, purposes=(), largest=None),
    Route("GET", "/mine", unread),
]


@dataclass
class Answer:
    """One answer, as it came."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def message(self) -> str:
        """What a public client shows of an error."""
        return str(json.loads(self.body)["message"])


@dataclass
class Web:
    """A server with routes of the tests' own; ``lines`` is what it said."""

    port: int
    lines: list[str] = field(default_factory=list)

    def raw(self, data: bytes, *, end: bool = True) -> list[Answer]:
        """Send bytes, and return all answers until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), 30) as line:
            line.sendall(data)
            if end:
                line.shutdown(socket.SHUT_WR)
            return answers(line)

    def alive(self) -> bool:
        """Whether a good request is answered."""
        (answer,) = self.raw(b"POST /json HTTP/1.1\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        return answer.status == 200


def answers(line: socket.socket) -> list[Answer]:
    """All answers on a connection, until it is closed."""
    found: list[Answer] = []
    file = line.makefile("rb")
    while True:
        first = file.readline()
        if first.startswith(b"HTTP/1.1 100"):
            file.readline()
            continue
        if not first:
            return found
        headers = {}
        while (text := file.readline().strip()) != b"":
            name, _, value = text.decode().partition(": ")
            headers[name.lower()] = value
        body = file.read(int(headers["content-length"]))
        found.append(Answer(int(first.split()[1]), body, headers))


@pytest.fixture(scope="module")
def serve(authority: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Web]]:
    """Makes servers with the tests' routes."""
    beakers = Beakers(tmp_path_factory.mktemp("http"), tls=authority / "tls")
    beaker = beakers.start()
    assert beaker.server.backend is not None
    app = RestApp(beaker.server.backend, ROUTES)
    running: list[Any] = []

    def make(**options: float) -> Web:
        web = Web(0, [])
        server = HttpServer(("127.0.0.1", 0), app, None, web.lines.append, **options)
        server.prepare()
        threading.Thread(target=server.serve, daemon=True).start()
        running.append(server)
        web.port = server.bind_addr[1]
        return web

    yield make
    for server in running:
        server.stop()
    beakers.close()


@pytest.fixture(scope="module")
def web(serve: Callable[..., Web]) -> Web:
    """A server with the tests' routes."""
    return serve()


def head(method: str, path: str, *headers: str) -> bytes:
    """A request without its body."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode("latin-1")


BAD = {
    "no HTTP at all": (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    "no version": (b"GET /\r\n\r\n", 400),
    "another version": (b"GET / HTTP/7.0\r\n\r\n", 400),
    "a version that is none": (b"GET / HTTP/x\r\n\r\n", 400),
    "bare line feeds": (b"GET / HTTP/1.1\nHost: x\n\n", 400),
    "a lower-case method": (b"get / HTTP/1.1\r\n\r\n", 400),
    "an absolute address": (b"GET http://other/ HTTP/1.1\r\n\r\n", 400),
    "a fragment": (b"GET /x#y HTTP/1.1\r\n\r\n", 400),
    "CONNECT": (b"CONNECT x:443 HTTP/1.1\r\n\r\n", 405),
    "a header without a colon": (b"GET / HTTP/1.1\r\nrubbish\r\n\r\n", 400),
    "a path beyond all limits": (b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\n\r\n", 414),
    "headers beyond all limits": (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 50_000 + b"\r\n", 413),
    "one header beyond all limits": (b"GET / HTTP/1.1\r\nA: " + b"b" * 200_000 + b"\r\n\r\n", 413),
    "a length that is none": (head("PUT", "/echo/x", "Content-Length: ten"), 400),
    "a negative length": (head("PUT", "/echo/x", "Content-Length: -1"), 400),
    "a signed length": (head("PUT", "/echo/x", "Content-Length: +1"), 400),
    "an endless length": (head("PUT", "/echo/x", f"Content-Length: {10**30}"), 400),
    "two lengths": (head("PUT", "/echo/x", "Content-Length: 5", "Transfer-Encoding: chunked"), 400),
    "an encoding that nobody knows": (head("PUT", "/echo/x", "Transfer-Encoding: gzip"), 400),
    "a chunk without a size": (head("PUT", "/echo/x", "Transfer-Encoding: chunked") + b"x\r\n", 400),
    "a negative chunk": (head("PUT", "/echo/x", "Transfer-Encoding: chunked") + b"-5\r\nhello\r\n", 400),
    "a huge chunk": (head("PUT", "/echo/x", "Transfer-Encoding: chunked") + b"f" * 40 + b"\r\n", 400),
    "a chunk too long": (head("PUT", "/echo/x", "Transfer-Encoding: chunked") + b"2\r\nhello\r\n", 400),
    "half a body": (head("PUT", "/echo/x", "Content-Length: 10") + b"half", 400),
    "half a chunk": (head("PUT", "/echo/x", "Transfer-Encoding: chunked") + b"a\r\nhalf", 400),
    "endless trailers": (
        head("PUT", "/echo/x", "Transfer-Encoding: chunked") + b"0\r\n" + b"A: b\r\n" * 1000,
        400,
    ),
    "a body that is too long": (head("PUT", "/echo/x", f"Content-Length: {LARGEST + 1}"), 413),
    "a path that is not UTF-8": (head("PUT", "/echo/%ff%fe"), 400),
    "a raw byte that is not UTF-8": (head("PUT", "/echo/\xff"), 400),
    "NUL in the path": (head("PUT", "/echo/a%00b"), 400),
    "a line feed in the path": (head("PUT", "/echo/a%0ab"), 400),
    "a path that nobody answers": (head("GET", "/../../etc/passwd"), 404),
    "slashes alone": (head("GET", "//"), 404),
    "a method that the path has not": (head("DELETE", "/json"), 405),
    "no token": (head("GET", "/mine"), 401),
    "a token that is none": (head("GET", "/mine", "Authorization: Bearer \xff\xfe"), 401),
    "no JSON": (head("POST", "/json", "Content-Length: 1") + b"{", 400),
    "JSON that is no object": (head("POST", "/json", "Content-Length: 2") + b"[]", 400),
    "deep JSON": (head("POST", "/json", "Content-Length: 60000") + b"[" * 60000, 400),
    "half a character": (head("POST", "/json", "Content-Length: 14") + b'{"a":"\\ud800"}', 400),
    "no number": (head("POST", "/json", "Content-Length: 9") + b'{"a":NaN}', 400),
}


@pytest.mark.parametrize(("data", "status"), BAD.values(), ids=BAD)
def test_bad_requests_are_refused_in_json(web: Web, data: bytes, status: int) -> None:
    """Each is answered with 4xx and a message, nothing is said of it in the log, and the server goes on."""
    (answer,) = web.raw(data)
    assert answer.status == status, answer
    assert answer.message
    assert web.alive()
    assert web.lines == []


@pytest.mark.parametrize("seed", range(8))
def test_rubbish_is_never_a_fault_of_the_server(web: Web, seed: int) -> None:
    """Good requests with bytes changed, left out and put in are answered, or not, but never with 5xx."""
    chance = random.Random(seed)
    good = [data for data, _ in BAD.values() if len(data) < 2000]
    good.append(head("PUT", "/echo/a/b", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n")
    for _ in range(60):
        data = bytearray(chance.choice(good))
        for _ in range(chance.randint(1, 6)):
            place = chance.randrange(len(data) + 1)
            how = chance.randrange(3)
            if how == 0:
                data[place:place] = chance.choice([b"\r\n", b"\x00", b"%", b"\xff", b" ", b":", b"0"])
            elif how == 1:
                del data[place : place + chance.randint(1, 4)]
            elif place < len(data):
                data[place] = chance.randrange(256)
        for answer in web.raw(bytes(data)):
            assert answer.status < 500, (bytes(data), answer)
    assert web.alive()
    assert web.lines == []


def test_bodies_in_chunks_are_bodies(web: Web) -> None:
    """A body in chunks is read to its end, trailers and all, and the connection is used again."""
    body = b"5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: x\r\n\r\n"
    request = head("PUT", "/echo/x", "Transfer-Encoding: chunked") + body
    assert [json.loads(answer.body)["body"] for answer in web.raw(request * 3)] == [11, 11, 11]


@pytest.mark.parametrize("path", ["/echo/x", "/any/x"])
def test_a_body_in_chunks_is_bounded_like_any_other(web: Web, path: str) -> None:
    """Where a route has a limit, a body that does not say its length is refused when it is beyond it."""
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    (answer,) = web.raw(head("PUT", path, "Transfer-Encoding: chunked") + chunk * 10 + b"0\r\n\r\n")
    assert answer.status == (413 if path == "/echo/x" else 200)


def test_a_connection_is_good_after_a_refusal(web: Web) -> None:
    """A small body that nobody read is passed over; the next request on the connection is answered."""
    small = head("POST", "/unread", "Content-Length: 1000") + b"x" * 1000
    lost = head("POST", "/nowhere", "Content-Length: 10") + b"x" * 10
    found = web.raw(small + lost + small)
    assert [answer.status for answer in found] == [200, 404, 200]


@pytest.mark.parametrize("framing", ["Content-Length: 20000000", "Transfer-Encoding: chunked"])
def test_who_sends_too_much_reads_why(web: Web, framing: str) -> None:
    """A client that sends a large body to the end gets the refusal, not a reset, and no more on that line."""
    data = head("PUT", "/echo/x", framing)
    if "chunked" in framing:
        data += (b"10000\r\n" + b"x" * 0x10000 + b"\r\n") * 300 + b"0\r\n\r\n"
    else:
        data += b"x" * 20_000_000
    (answer,) = web.raw(data + head("GET", "/json"))
    assert answer.status == 413
    assert answer.headers["connection"] == "close"


def test_a_path_is_unquoted_once_and_whole(web: Web) -> None:
    """A quoted slash is a slash, as clients that quote a whole path mean it; a quoted percent sign is one."""
    for quoted, path in {"a%2Fb": "a/b", "a%252Fb": "a%2Fb", "%C3%A9%20": "é ", "a/../b": "a/../b"}.items():
        (answer,) = web.raw(head("PUT", f"/echo/{quoted}"))
        assert json.loads(answer.body)["path"] == path


def test_head_is_answered_without_a_body(beaker: LocalBeaker) -> None:
    """HEAD has the headers of GET, and the connection can be used again."""
    host, _, port = beaker.endpoint.rest.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    for _ in range(3):
        connection.request("HEAD", "/local/health")
        reply = connection.getresponse()
        assert (reply.status, reply.read()) == (200, b"")
        assert int(reply.headers["Content-Length"]) > 0
    connection.close()


def test_slow_clients_hold_nobody_up(serve: Callable[..., Web]) -> None:
    """Headers that come byte by byte end with 408; silent connections hold no thread at all."""
    web = serve(header_timeout=1.0)
    silent = [socket.create_connection(("127.0.0.1", web.port)) for _ in range(200)]
    assert web.alive()
    slow = socket.create_connection(("127.0.0.1", web.port), 30)
    slow.sendall(b"GET / HTTP/1.1\r\nA: ")
    ended = time.monotonic() + 30
    with pytest.raises(OSError):
        while time.monotonic() < ended:
            slow.sendall(b"x")
            time.sleep(0.1)
    assert web.alive()
    assert web.lines == []
    for each in (*silent, slow):
        each.close()


def test_many_slow_clients_let_others_in(serve: Callable[..., Web]) -> None:
    """With more half requests than threads a good one is answered once their time is over."""
    web = serve(header_timeout=2.0)
    half = [socket.create_connection(("127.0.0.1", web.port)) for _ in range(150)]
    for each in half:
        each.sendall(b"GET / HT")
    assert web.alive()
    for each in half:
        each.close()
