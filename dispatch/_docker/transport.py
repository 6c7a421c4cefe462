"""Connections to an engine, and the one that needs nothing: a unix socket of this machine.

Owns what a connection is, and what is said when none can be made. Refuses to know what goes over it. The ways
to other machines are ``tcp`` and ``ssh``, each loaded when an address asks for it.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from typing import BinaryIO, Literal, Protocol

from dispatch._docker.address import VARIABLE, Address
from dispatch.errors import EngineError

START_ONE = "start one with `dispatch engine start` (`make engine` in a checkout)"
CONNECT_TIMEOUT = 30
PIECE = 16 * 1024
ALIVE_EVERY, ALIVE_TIMES = 15, 4


class EngineAbsentError(EngineError):
    """Nobody listens at the engine's address."""


class Connection:
    """An open connection: the few methods of a socket that are needed. ``shut`` wakes a reader elsewhere."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def fileno(self) -> int:
        """The descriptor to wait at; see :meth:`pending`."""
        return self._line.fileno()

    def settimeout(self, timeout: float | None) -> None:
        """Bound each wait for bytes, in seconds; 0 waits for none."""
        self._line.settimeout(timeout)

    def setblocking(self, flag: bool) -> None:
        """Wait for bytes, or not."""
        self._line.setblocking(flag)

    def sendall(self, content: bytes) -> None:
        """Send all of it."""
        self._line.sendall(content)

    def send_some(self, content: bytes) -> int:
        """Send what fits without waiting, and return how much; where that cannot be had, a piece of it."""
        if hasattr(self._line, "pending"):
            return self._line.send(content[:PIECE])
        try:
            return self._line.send(content, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def recv(self, count: int) -> bytes:
        """Return what has come, at most so much; nothing at the end."""
        return self._line.recv(count)

    def pending(self) -> bool:
        """Whether something has come that the descriptor does not show, because it was decrypted before."""
        ready: Callable[[], int] | None = getattr(self._line, "pending", None)
        return ready is not None and ready() > 0

    def makefile(self, mode: Literal["rb"] = "rb") -> BinaryIO:
        """Return what comes in as a file."""
        return self._line.makefile(mode)

    def end_sending(self) -> None:
        """Say that nothing more will be sent, where the kind of connection can say so."""
        if not hasattr(self._line, "pending"):
            with contextlib.suppress(OSError):
                self._line.shutdown(socket.SHUT_WR)

    def shut(self) -> None:
        """End both directions."""
        with contextlib.suppress(OSError):  # the other end may have closed already
            self._line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give everything back."""
        self._line.close()

    def fault(self) -> EngineError | None:
        """Say why the connection broke off, where its own kind knows more than that it did."""
        return None


class Transport(Protocol):
    """Makes connections to one engine. Errors are EngineError, EngineAbsentError where nobody listens."""

    def connect(self, timeout: float | None) -> Connection:
        """Return a new connection; ``timeout`` bounds each wait for bytes."""


def transport_of(address: Address) -> Transport:
    """Return what makes connections to an address."""
    if address.is_local:
        return UnixTransport(address)
    if address.scheme == "ssh":
        from dispatch._docker.ssh import SshTransport

        return SshTransport(address)
    from dispatch._docker.tcp import TcpTransport

    return TcpTransport(address)


class UnixTransport:
    """A unix socket of this machine."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def connect(self, timeout: float | None) -> Connection:
        """See :class:`Transport`."""
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.settimeout(timeout)
        try:
            line.connect(self._address.socket_path)
        except OSError as error:
            line.close()
            raise self._unreachable(error) from error
        return Connection(line)

    def _unreachable(self, error: OSError) -> EngineError:
        path = self._address.socket_path
        elsewhere = f"or mend {VARIABLE}" if self._address.chosen else f"or name another in {VARIABLE}"
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            return EngineAbsentError(
                f"Docker Engine: there is no socket at {path}", f"{START_ONE}, {elsewhere}"
            )
        if isinstance(error, ConnectionRefusedError):
            return EngineAbsentError(f"Docker Engine: nobody listens at {path}", f"{START_ONE}, {elsewhere}")
        if isinstance(error, PermissionError):
            return EngineError(
                f"Docker Engine: this user may not use {path}",
                "add yourself to the group `docker` (`sudo usermod -aG docker $USER`) and log in again",
            )
        return broken(self._address, error)


def broken(address: Address, error: Exception | None) -> EngineError:
    """What it means that a connection that stood broke off."""
    why = (
        "took too long to answer"
        if isinstance(error, TimeoutError)
        else "broke off in the middle of an answer"
    )
    return EngineError(
        f"Docker Engine: the engine at {address} {why}",
        "see whether it still runs (`dispatch doctor`), then repeat the command",
    )


def peer(address: Address) -> tuple[int, int] | None:
    """Return pid and uid of who made the socket of a local engine, None where that cannot be told."""
    if not address.is_local:
        return None
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.connect(address.socket_path)
            stored = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError:
        return None
    pid, uid, _ = struct.unpack("3i", stored)
    return (pid, uid) if pid > 0 else None
