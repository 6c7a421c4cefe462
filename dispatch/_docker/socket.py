"""HTTP to the engine over its unix socket, by hand.

Owns connections, status lines and the translation of what can go wrong with them. HTTP/1.0 is spoken on
purpose: the engine then answers without chunks and closes, so a body ends where the stream ends, and one
connection a call costs less than keeping them. Refuses remote engines, and knows nothing of what is asked.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from dispatch._docker.address import VARIABLE, Address
from dispatch.errors import EngineError

CALL_TIMEOUT = 120.0
_PIECE = 64 * 1024
START_ONE = "start one with `dispatch engine start` (`make engine` in a checkout)"


class EngineAbsentError(EngineError):
    """Nobody listens at the engine's address."""


class ApiError(EngineError):
    """The engine answered a call with an error. ``detail`` is its own sentence."""

    def __init__(self, message: str, status: int, detail: str) -> None:
        super().__init__(message, "the engine's own log says more; `dispatch doctor` checks the rest")
        self.status = status
        self.detail = detail


@dataclass(frozen=True)
class Reply:
    """A whole answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON.

        :raises EngineError: when it is none, which happens when another program owns the socket
        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise EngineError(
                "Docker Engine: what answers on its socket is not an engine (no JSON)",
                f"look at what {VARIABLE} names",
            ) from error


class Stream:
    """An answer that is read while it comes; ``close`` from another thread wakes its reader."""

    def __init__(self, connection: socket.socket, address: Address) -> None:
        self._connection = connection
        self._address = address
        self._file = connection.makefile("rb")

    def readline(self) -> bytes:
        """Return the next line with its end, or an empty string at the end of the stream."""
        try:
            return self._file.readline()
        except (OSError, ValueError) as error:
            raise _broken(self._address, error) from error

    def read(self, count: int = -1) -> bytes:
        """Return exactly ``count`` bytes, fewer only at the end of the stream; all the rest by default."""
        try:
            return self._file.read(count)
        except (OSError, ValueError) as error:
            raise _broken(self._address, error) from error

    def fileno(self) -> int:
        """The connection's descriptor, to wait for bytes with."""
        return self._connection.fileno()

    def receive(self) -> bytes:
        """Return what has come, waiting for it; empty at the end. For streams that only this method reads."""
        try:
            return self._connection.recv(_PIECE)
        except OSError as error:
            raise _broken(self._address, error) from error

    def send_some(self, data: bytes) -> int:
        """Send to the other side of a hijacked connection what fits without waiting; return how much."""
        try:
            return self._connection.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise _broken(self._address, error) from error

    def finish_sending(self) -> None:
        """Tell the other side that nothing more comes; it may go on sending."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    def send(self, data: bytes) -> None:
        """Send more, where the other side takes it."""
        try:
            self._connection.sendall(data)
        except (OSError, ValueError) as error:
            raise _broken(self._address, error) from error

    def close(self) -> None:
        """End the stream."""
        with contextlib.suppress(OSError):  # the engine may have closed its end already
            self._connection.shutdown(socket.SHUT_RDWR)
        self._file.close()
        self._connection.close()

    def head(self) -> tuple[int, dict[str, str]]:
        """Read status and headers."""
        words = self.readline().split(b" ", 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
            raise _broken(self._address, None)
        headers: dict[str, str] = {}
        while (line := self.readline().rstrip(b"\r\n")) != b"":
            name, _, value = line.partition(b":")
            headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()
        return int(words[1]), headers


class EngineSocket:
    """Calls to the engine at one address. Holds no connection; safe to share between threads."""

    def __init__(self, address: Address) -> None:
        self.address = address

    def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        timeout: float | None = CALL_TIMEOUT,
    ) -> Reply:
        """Send one request and return the answer, whatever its status.

        ``timeout`` bounds each wait for bytes, in seconds; None waits for ever.
        """
        stream = self._send(method, path, query, body, timeout)
        try:
            status, headers = stream.head()
            content = stream.read()
        finally:
            stream.close()
        if headers.get("content-length", str(len(content))) != str(len(content)):
            raise _broken(self.address, None)
        return Reply(status, headers, content)

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        timeout: float | None = CALL_TIMEOUT,
    ) -> Reply:
        """As :meth:`call`, but raise :class:`ApiError` for every answer that is an error."""
        reply = self.call(method, path, query, body, timeout)
        if reply.status >= 400:
            raise _refused(method, path, reply)
        return reply

    def open(
        self, path: str, query: Mapping[str, str] | None = None, timeout: float | None = CALL_TIMEOUT
    ) -> Stream:
        """Send a GET and return its body as a stream, once the engine has accepted it."""
        return self._accepted("GET", path, query, timeout)

    def hijack(self, path: str, query: Mapping[str, str] | None = None) -> Stream:
        """Send a POST and return the connection, once the engine has accepted it and begins its answer.

        What the engine hijacks carries bytes both ways from then on; reads wait for ever.
        """
        return self._accepted("POST", path, query, None)

    def attach(self, path: str, query: Mapping[str, str]) -> Stream:
        """Send a POST that turns its connection into a stream both ways."""
        return self._accepted("POST", path, query, CALL_TIMEOUT)

    def _accepted(
        self, method: str, path: str, query: Mapping[str, str] | None, timeout: float | None
    ) -> Stream:
        stream = self._send(method, path, query, None, timeout)
        try:
            status, headers = stream.head()
            if status >= 400:
                raise _refused(method, path, Reply(status, headers, stream.read()))
        except BaseException:
            stream.close()
            raise
        return stream

    def connect(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        timeout: float | None = CALL_TIMEOUT,
    ) -> socket.socket:
        """Send one request and return the connection, on which nothing of the answer has been read yet."""
        content = b"" if body is None else json.dumps(body).encode()
        target = quote(path, safe="/:@") + (f"?{urlencode(query)}" if query else "")
        head = (
            f"{method} {target} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        path_of_socket = self.address.socket_path
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout)
        try:
            connection.connect(path_of_socket)
            connection.sendall(head.encode("ascii") + content)
        except OSError as error:
            connection.close()
            raise _unreachable(self.address, error) from error
        return connection

    def _send(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Any, timeout: float | None
    ) -> Stream:
        return Stream(self.connect(method, path, query, body, timeout), self.address)


def _unreachable(address: Address, error: OSError) -> EngineError:
    path = address.socket_path
    elsewhere = f"or mend {VARIABLE}" if address.chosen else f"or name another in {VARIABLE}"
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return EngineAbsentError(f"Docker Engine: there is no socket at {path}", f"{START_ONE}, {elsewhere}")
    if isinstance(error, ConnectionRefusedError):
        return EngineAbsentError(f"Docker Engine: nobody listens at {path}", f"{START_ONE}, {elsewhere}")
    if isinstance(error, PermissionError):
        return EngineError(
            f"Docker Engine: this user may not use {path}",
            "add yourself to the group `docker` (`sudo usermod -aG docker $USER`) and log in again",
        )
    return _broken(address, error)


def _broken(address: Address, error: Exception | None) -> EngineError:
    why = (
        "took too long to answer"
        if isinstance(error, TimeoutError)
        else "broke off in the middle of an answer"
    )
    return EngineError(
        f"Docker Engine: the engine at {address} {why}",
        "see whether it still runs (`dispatch doctor`), then repeat the command",
    )


def _refused(method: str, path: str, reply: Reply) -> ApiError:
    try:
        detail = str(json.loads(reply.body)["message"]).strip()
    except (ValueError, KeyError, TypeError):
        detail = reply.body.decode("utf-8", "replace").strip()
    return ApiError(
        f"Docker Engine: {method} {path} was refused ({reply.status}): {detail}", reply.status, detail
    )
