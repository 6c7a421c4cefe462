"""Connections of this process, cut from outside of whoever serves them.

Owns finding a socket by its peer: neither the gRPC server nor a WSGI server lets go of a connection when
asked to, and a client must see what it sees when a cable is pulled.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from urllib.parse import unquote

_DESCRIPTORS = Path("/proc/self/fd")


def cut(host: str, port: int) -> bool:
    """Shut down every connection of this process whose other end is there; False where there is none.

    What was written before still arrives.
    """
    found = False
    for entry in _DESCRIPTORS.iterdir():
        with contextlib.suppress(OSError):
            found = _cut(entry, host, port) or found
    return found


def cut_peer(peer: str) -> bool:
    """Shut down the connection of a gRPC peer, ``ipv4:host:port`` or ``ipv6:[host]:port``."""
    _, _, address = unquote(peer).partition(":")
    host, _, port = address.rpartition(":")
    return port.isdigit() and cut(host.strip("[]"), int(port))


def _cut(entry: Path, host: str, port: int) -> bool:
    if not str(entry.readlink()).startswith("socket:"):
        return False
    # A copy: the descriptor itself belongs to who serves it, and may be closed and given out again meanwhile.
    with socket.socket(fileno=os.dup(int(entry.name))) as connection:
        if connection.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        peer = connection.getpeername()
        if (peer[0].removeprefix("::ffff:"), peer[1]) != (host, port):
            return False
        connection.shutdown(socket.SHUT_RDWR)
    return True
