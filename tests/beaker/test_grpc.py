"""gRPC as clients should not speak it, and streams that do not end by themselves."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from beaker import beaker_pb2 as pb2

from dispatch.beakerd.authority import certificate_for
from dispatch.beakerd.layout import Layout
from dispatch.beakerd.rpc.server import MESSAGE_LIMIT, SERVICE, RpcServer
from dispatch.testing.beaker import Beakers, LocalBeaker

DEADLINE = 60.0


class Followers:
    """Streams that never end, as followed logs are until their jobs do."""

    def __init__(self, backend: Any, layout: Layout):
        self.opened = threading.Semaphore(0)
        self._server = RpcServer(backend, {}, {"StreamJobLogs": self._stream})
        self._layout = layout
        self.port = 0

    def start(self) -> None:
        """Listen."""
        certificate = certificate_for(self._layout.authority, ["localhost", "127.0.0.1"], _now())

        def bind(add: Callable[[str], int]) -> None:
            self.port = add("127.0.0.1:0")

        self._server.start(bind, certificate.key, certificate.chain)

    def stop(self) -> None:
        """End."""
        self._server.stop(0.5)

    def _stream(self, _backend: Any, _who: Any, _request: Any, alive: Callable[[], bool]) -> Iterator[Any]:
        self.opened.release()
        while alive():
            yield [pb2.JobLog().SerializeToString()]
            time.sleep(0.05)


def test_open_streams_do_not_keep_it_from_ending(beaker: LocalBeaker) -> None:
    """With fifty followers it ends in a moment, and they hear that they may come again: UNAVAILABLE."""
    assert beaker.server.backend is not None
    followers = Followers(beaker.server.backend, beaker.layout)
    followers.start()
    codes: list[grpc.StatusCode] = []

    def follow() -> None:
        with channel_to(f"127.0.0.1:{followers.port}", beaker) as channel:
            call = channel.unary_stream(f"/{SERVICE}/StreamJobLogs")
            try:
                for _ in call(b"", metadata=bearer(beaker.token())):
                    pass
            except grpc.RpcError as error:
                codes.append(error.code())

    threads = [threading.Thread(target=follow) for _ in range(50)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert followers.opened.acquire(timeout=DEADLINE)
    before = time.monotonic()
    beaker.server.backend.closing.set()
    followers.stop()
    took = time.monotonic() - before
    for thread in threads:
        thread.join(DEADLINE)
    assert codes == [grpc.StatusCode.UNAVAILABLE] * 50
    assert took < 10, "it is bound by the grace, not by the streams"


def channel_to(address: str, beaker: Any) -> grpc.Channel:
    """A secure channel that trusts the server's authority."""
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(Path(beaker.endpoint.ca).read_bytes()))


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """The metadata that carries a token."""
    return (("authorization", f"bearer {token}"),)


def refusal(beaker: LocalBeaker, method: str, request: bytes, **options: Any) -> grpc.StatusCode:
    """The status with which a call is refused."""
    with channel_to(beaker.endpoint.rpc, beaker) as channel, pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary(f"/{SERVICE}/{method}")(request, **options)
    code: grpc.StatusCode = raised.value.code()
    return code


@pytest.mark.parametrize(
    "metadata",
    [(), *((("authorization", value),) for value in ("bearer", "bearer x", "basic eDp5"))],
)
def test_a_call_without_a_good_token_is_refused(beaker: LocalBeaker, metadata: Any) -> None:
    """UNAUTHENTICATED, which public clients do not repeat."""
    assert refusal(beaker, "GetUser", b"", metadata=metadata) is grpc.StatusCode.UNAUTHENTICATED


def test_bad_calls_are_the_callers_fault(beaker: LocalBeaker) -> None:
    """What is unknown is UNIMPLEMENTED, what cannot be read INVALID_ARGUMENT; what is too large is said."""
    good = bearer(beaker.token())
    assert refusal(beaker, "NoSuchMethod", b"", metadata=good) is grpc.StatusCode.UNIMPLEMENTED
    assert refusal(beaker, "GetUser", b"\xff\xff\xff", metadata=good) is grpc.StatusCode.INVALID_ARGUMENT
    large = b"\x0a" + b"x" * (MESSAGE_LIMIT + 1)
    assert refusal(beaker, "GetUser", large, metadata=good) is grpc.StatusCode.RESOURCE_EXHAUSTED
    late = refusal(beaker, "GetUser", b"", metadata=good, timeout=0.000001)
    assert late is grpc.StatusCode.DEADLINE_EXCEEDED
    assert beaker.lines == []
    with beaker.client() as client:
        assert client.user.get().name == "me"


def test_garbage_on_the_port_of_grpc_harms_nobody(beakers: Beakers) -> None:
    """Bytes that are no TLS, plain HTTP and silence: the server goes on, and its log does not grow."""
    running = beakers.spawn()
    before = running.layout.log.read_text()
    host, _, port = running.endpoint.rpc.partition(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(50)]
    for data in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(5000), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
        with socket.create_connection((host, int(port))) as line:
            line.sendall(data)
            line.settimeout(10)
            try:
                while line.recv(4096):
                    pass
            except OSError:
                pass
    with running.client() as client:
        assert client.user.get().name == "me"
    assert running.layout.log.read_text() == before
    for each in silent:
        each.close()


def _now() -> Any:
    from datetime import datetime, timezone

    return datetime.now(timezone.utc)
