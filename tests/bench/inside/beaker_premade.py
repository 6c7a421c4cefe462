"""What a client can read at most: a server of nothing but the messages of one log, made beforehand.

It speaks as much HTTP/2 as the gRPC client needs, and sends whenever the client takes more.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from beaker import beaker_pb2 as pb2

from dispatch.beakerd.authority import certificate_for

HEADERS = b"\x88\x0f\x10\x10application/grpc"
TRAILERS = b"\x00\x0bgrpc-status\x010"
DATA, HEAD, SETTINGS, PING, WINDOW = 0, 1, 4, 6, 8


def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    """One frame of HTTP/2."""
    return struct.pack(">I", len(content))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + content


def frames(connection: Any) -> Iterator[tuple[int, int, int, bytes]]:
    """What the client sends, after its preface."""
    file = connection.makefile("rb")
    file.read(24)
    while head := file.read(9):
        yield head[3], head[4], int.from_bytes(head[5:], "big"), file.read(int.from_bytes(head[:3], "big"))


def serve(connection: Any, log: bytes) -> None:
    """Answer every call on a connection with the whole log."""
    connection.sendall(frame(SETTINGS, 0, 0, b""))
    initial, windows, left = 65535, {0: 65535}, {}
    for kind, flags, stream, content in frames(connection):
        if kind == SETTINGS and not flags & 1:
            for key, value in struct.iter_unpack(">HI", content):
                if key == 4:
                    windows = {n: w + (value - initial if n else 0) for n, w in windows.items()}
                    initial = value
            connection.sendall(frame(SETTINGS, 1, 0, b""))
        elif kind == PING and not flags & 1:
            connection.sendall(frame(PING, 1, 0, content))
        elif kind == WINDOW:
            windows[stream] = windows.get(stream, initial) + int.from_bytes(content, "big")
        elif kind == DATA and flags & 1:
            connection.sendall(frame(HEAD, 4, stream, HEADERS))
            left[stream] = memoryview(log)
        for number in list(left):
            while size := max(
                0, min(len(left[number]), windows[0], windows.setdefault(number, initial), 16384)
            ):
                connection.sendall(frame(DATA, 0, number, left[number][:size]))
                left[number] = left[number][size:]
                windows[0] -= size
                windows[number] -= size
            if not left[number]:
                connection.sendall(frame(HEAD, 5, number, TRAILERS))
                del left[number]


def main(root: Path, lines: int) -> None:
    """Say where it is, as JSON on one line, and serve one connection after the other."""
    certificate = certificate_for(root, ["localhost"], datetime.now(timezone.utc))
    (root / "pair.pem").write_bytes(certificate.key + certificate.chain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(root / "pair.pem")
    context.set_alpn_protocols(["h2"])
    log, message = bytearray(), pb2.JobLog()
    for n in range(lines):
        message.timestamp.FromNanoseconds(1_700_000_000_000_000_005 + 1000 * n)
        message.message = b"line %d of a log with some words in it" % n
        content = message.SerializeToString()
        log += b"\0" + struct.pack(">I", len(content)) + content
    listener = socket.create_server(("127.0.0.1", 0))
    config = root / "config.yml"
    config.write_text(f"user_token: x\nrpc_address: localhost:{listener.getsockname()[1]}\n")
    print(json.dumps({"ca": str(root / "ca.pem"), "config": str(config), "job": "x"}), flush=True)
    while True:
        accepted, _ = listener.accept()
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with context.wrap_socket(accepted, server_side=True) as connection:
                serve(connection, bytes(log))
        except OSError:
            continue


main(Path(sys.argv[1]), int(sys.argv[2]))
