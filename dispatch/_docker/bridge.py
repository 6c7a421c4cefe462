"""A unix socket of our own that leads to a remote engine, for docker-py.

docker-py has transports of its own, but they would be second ones: another ssh client (paramiko) that does
not know the user's, other errors, other certificates. Through this socket it goes the way of all our calls.
Owns one listening thread, and two for each connection. Refuses to look at what passes.
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from dispatch._docker.transport import Transport
from dispatch.errors import EngineError

_BLOCK = 1 << 16


class Bridge:
    """Listens from its construction until ``close``; only this user can connect to it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._place = tempfile.TemporaryDirectory(prefix="dispatch-")
        self.path = Path(self._place.name) / "engine.sock"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen()
        threading.Thread(target=self._accept, name="dispatch-docker-bridge", daemon=True).start()

    def close(self) -> None:
        """Accept nothing more. Connections that stand end with their clients."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._place.cleanup()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Forward until both sides have ended. A client that gets no connection sees this one end."""
        with client:
            try:
                engine = self._transport.connect(None)
            except EngineError:
                return
            out = threading.Thread(
                target=_forward, args=(client.recv, engine.sendall, engine.end_sending), daemon=True
            )
            out.start()
            _forward(engine.recv, client.sendall, lambda: client.shutdown(socket.SHUT_RDWR))
            engine.shut()
            out.join()
            engine.close()


def _forward(receive: Callable[[int], bytes], send: Callable[[bytes], None], end: Callable[[], None]) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := receive(_BLOCK):
            send(data)
    with contextlib.suppress(OSError, ValueError):
        end()
