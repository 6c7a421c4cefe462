"""Something that answers like an engine, as far as connections and bodies are concerned."""

from __future__ import annotations

import contextlib
import shlex
import socketserver
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

PONG = b"OK"
_ANSWER = b"HTTP/1.0 200 OK\r\nServer: Docker/1\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\n" + PONG
_NETCAT = """
import os, socket, sys, threading
line = socket.socket(socket.AF_UNIX); line.connect(sys.argv[1])
def out():
    while data := os.read(0, 65536): line.sendall(data)
threading.Thread(target=out, daemon=True).start()
while data := line.recv(65536):
    while data: data = data[os.write(1, data):]
"""


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    bodies: list[bytes]


class _Reply(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        """Read a request, note its body if that is in whole chunks, and answer."""
        chunked = False
        while line := self.rfile.readline().strip():
            chunked = chunked or line.lower() == b"transfer-encoding: chunked"
        body = b""
        while chunked:
            size = self.rfile.readline().strip()
            if not size:
                return
            if int(size, 16) == 0:
                self.rfile.readline()
                self.server.bodies.append(body)
                break
            body += self.rfile.read(int(size, 16))
            self.rfile.readline()
        self.wfile.write(_ANSWER)


class Answering:
    """The server's socket, the bodies that it was sent in chunks, and a command that connects to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.server = _Server(str(path), _Reply)
        self.bodies = self.server.bodies = []

    @property
    def netcat(self) -> str:
        """A shell command whose input and output are those of a connection."""
        return shlex.join([sys.executable, "-S", "-c", _NETCAT, str(self.path)])


@contextlib.contextmanager
def answering(path: Path) -> Iterator[Answering]:
    """Answer at a unix socket."""
    engine = Answering(path)
    threading.Thread(target=engine.server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield engine
    finally:
        engine.server.shutdown()
        engine.server.server_close()
