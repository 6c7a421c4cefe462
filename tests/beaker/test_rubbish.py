"""Every method and every route, asked for what makes no sense: the caller's fault, never the server's."""

from __future__ import annotations

import http.client
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from beaker import beaker_pb2 as pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from dispatch.beakerd.config import Config
from dispatch.beakerd.rest.table import ROUTES
from dispatch.beakerd.rpc.server import SERVICE
from dispatch.beakerd.rpc.table import METHODS, STREAMS
from dispatch.testing.beaker import Beakers, LocalBeaker

# What public clients repeat, some of them for ever, and what says that the server has a bug.
FAULTS = {
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
TEXTS = [
    "",
    "x",
    "a/b",
    "ai2/my-workspace",
    "me",
    "\x00",
    "é" * 300,
    "../..",
    "%",
    "'; DROP TABLE jobs; --",
    "\n",
]
NUMBERS = [0, 1, -1, 2**31 - 1, -(2**31), 7]
LONG = [*NUMBERS, 2**63 - 1, -(2**63)]
BODIES = [
    b"",
    b"{",
    b"[]",
    b"{}",
    b"null",
    b'{"workspace": 5}',
    b'{"workspace": "\\u0000"}',
    b'{"workspace": "me", "imageId": {}, "commit": "yes", "tasks": [[]]}',
    b'{"version": "v2", "tasks": [{"image": 3, "command": {}, "timeout": 1e400}]}',
    b'{"commit": true, "description": ' + b"9" * 400 + b"}",
    b"\xff\xfe\x00",
    b"x" * 70_000,
]


@pytest.fixture(scope="module")
def server(authority: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBeaker]:
    """One server for all of it."""
    beakers = Beakers(tmp_path_factory.mktemp("rubbish"), tls=authority / "tls")
    yield beakers.start(Config(control=True))
    beakers.close()


def rubbish(message: Any, kind: Descriptor, chance: random.Random, depth: int = 0) -> Any:
    """Fill a message with what its fields may hold, but nobody means."""
    for field in kind.fields:
        if chance.random() < 0.4 or (field.message_type is not None and depth > 4):
            continue
        several = chance.randrange(3) if field.is_repeated else 1
        for _ in range(several):
            fill(message, field, chance, depth)
    return message


def fill(message: Any, field: FieldDescriptor, chance: random.Random, depth: int) -> None:
    """Give one field a value, or a list one more."""
    if field.message_type is not None:
        if field.message_type.GetOptions().map_entry:
            return
        inner = getattr(message, field.name)
        target = inner.add() if field.is_repeated else inner
        rubbish(target, field.message_type, chance, depth + 1)
        if not field.is_repeated:
            target.SetInParent()
        return
    value = value_for(field, chance)
    if field.is_repeated:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)


def value_for(field: FieldDescriptor, chance: random.Random) -> Any:
    """A value of a field's type."""
    kinds = FieldDescriptor
    if field.type == kinds.TYPE_STRING:
        return chance.choice(TEXTS)
    if field.type == kinds.TYPE_BYTES:
        return chance.choice([b"", b"\xff" * 40])
    if field.type == kinds.TYPE_BOOL:
        return chance.random() < 0.5
    if field.type in (kinds.TYPE_DOUBLE, kinds.TYPE_FLOAT):
        return chance.choice([0.0, -1.0, float("inf"), float("nan")])
    if field.type == kinds.TYPE_ENUM:
        return chance.choice([0, 1, 2, 999])
    if field.type in (kinds.TYPE_INT64, kinds.TYPE_SINT64, kinds.TYPE_SFIXED64):
        return chance.choice(LONG)
    if field.type in (kinds.TYPE_UINT32, kinds.TYPE_UINT64, kinds.TYPE_FIXED32, kinds.TYPE_FIXED64):
        return chance.choice([0, 1, 7, 2**32 - 1])
    return chance.choice(NUMBERS)


@pytest.mark.parametrize("name", [*sorted(METHODS), *sorted(STREAMS)])
def test_no_request_is_a_fault_of_a_method(server: LocalBeaker, name: str) -> None:
    """Fifty requests of rubbish each: answered or refused, never INTERNAL, and nothing in the log."""
    method = pb2.DESCRIPTOR.services_by_name["Beaker"].methods_by_name[name]
    chance = random.Random(name)
    before = len(server.lines)
    credentials = grpc.ssl_channel_credentials(Path(server.endpoint.ca).read_bytes())
    with grpc.secure_channel(server.endpoint.rpc, credentials) as channel:
        stub = channel.unary_stream if name in STREAMS else channel.unary_unary
        call = stub(f"/{SERVICE}/{name}")
        for number in range(50):
            message = GetMessageClass(method.input_type)()
            if number:
                rubbish(message, method.input_type, chance)
            try:
                answer = call(
                    message.SerializeToString(),
                    metadata=(("authorization", f"bearer {server.token()}"),),
                    timeout=30,
                )
                if name in STREAMS:
                    list(answer)
            except grpc.RpcError as error:
                assert error.code() not in FAULTS, (
                    error.code(),
                    error.details(),
                    message,
                    server.lines[before:],
                )
    assert server.lines[before:] == []


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_no_request_is_a_fault_of_a_route(server: LocalBeaker, route: Any) -> None:
    """Rubbish in every part of a path, as query and as body: 2xx to 4xx, and nothing in the log."""
    before = len(server.lines)
    host, _, port = server.endpoint.rest.partition(":")
    for part in ("x", "..", "%2e%2e%2f%2e%2e", "%C3%A9", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "a" * 400, "%27%3B--"):
        path = re.sub(r"<[^>]+>", part, route.path)
        for number, body in enumerate(BODIES):
            connection = http.client.HTTPConnection(host, int(port), timeout=30)
            headers = {"Authorization": f"Bearer {server.token()}"}
            if number % 3 == 1:
                headers |= {
                    "Range": "bytes=5-1",
                    "Digest": "SHA256 x",
                    "Upload-Length": "-1",
                    "Upload-Offset": "x",
                }
            if number % 3 == 2:
                headers |= {"Upload-Length": "9" * 30, "Content-Range": "0-x", "Accept": "\xff", "Range": "x"}
            query = "?" + "&".join(["name=" + part, "upload=maybe", "digest=sha256:x", "from=%00", "n=-1"])
            try:
                connection.request(route.method, path + query * (number % 2), body=body, headers=headers)
                reply = connection.getresponse()
                said = reply.read()
            finally:
                connection.close()
            assert reply.status < 500, (route.method, path, body[:80], said, server.lines[before:])
    assert server.lines[before:] == []
