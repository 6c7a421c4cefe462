"""HTTP to the engine, by hand.

Owns calls, status lines and the translation of what can go wrong with them. HTTP/1.0 is spoken on purpose:
the engine then answers without chunks and closes, so a body ends where the stream ends, and one connection
a call costs less than keeping them. How a connection is made is ``transport``'s part; what is asked is not
known here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from dispatch._docker.address import VARIABLE, Address
from dispatch._docker.transport import Connection, EngineAbsentError, Transport, broken, transport_of
from dispatch.errors import EngineError

__all__ = ["ApiError", "EngineAbsentError", "EngineSocket", "Reply", "Stream"]

CALL_TIMEOUT = 120.0
_PIECE = 64 * 1024
# What an engine does with bytes before it answers takes as long as its disk needs.
SEND_TIMEOUT = 900.0


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

    def __init__(self, connection: Connection, address: Address) -> None:
        self._connection = connection
        self._address = address
        self._file = connection.makefile()

    def readline(self) -> bytes:
        """Return the next line with its end, or an empty string at the end of the stream."""
        try:
            return self._file.readline()
        except (OSError, ValueError) as error:
            raise self._fault(error) from error

    def read(self, count: int = -1) -> bytes:
        """Return exactly ``count`` bytes, fewer only at the end of the stream; all the rest by default."""
        try:
            return self._file.read(count)
        except (OSError, ValueError) as error:
            raise self._fault(error) from error

    def fileno(self) -> int:
        """The connection's descriptor, to wait for bytes with."""
        return self._connection.fileno()

    def receive(self) -> bytes:
        """Return what has come, waiting for it; empty at the end. For streams that only this method reads."""
        try:
            return self._connection.recv(_PIECE)
        except OSError as error:
            raise self._fault(error) from error

    def pending(self) -> bool:
        """Whether something has come that the descriptor does not show."""
        return self._connection.pending()

    def send_some(self, data: bytes) -> int:
        """Send to the other side of a hijacked connection what fits without waiting; return how much."""
        try:
            return self._connection.send_some(data)
        except OSError as error:
            raise self._fault(error) from error

    def finish_sending(self) -> None:
        """Tell the other side that nothing more comes; it may go on sending."""
        self._connection.end_sending()

    def send(self, data: bytes) -> None:
        """Send more, where the other side takes it."""
        try:
            self._connection.sendall(data)
        except (OSError, ValueError) as error:
            raise self._fault(error) from error

    def close(self) -> None:
        """End the stream."""
        self._connection.shut()
        self._file.close()
        self._connection.close()

    def _fault(self, error: Exception | None) -> EngineError:
        known = None if isinstance(error, TimeoutError) else self._connection.fault()
        return known or broken(self._address, error)

    def head(self) -> tuple[int, dict[str, str]]:
        """Read status and headers."""
        words = self.readline().split(b" ", 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
            raise self._fault(None)
        headers: dict[str, str] = {}
        while (line := self.readline().rstrip(b"\r\n")) != b"":
            name, _, value = line.partition(b":")
            headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()
        return int(words[1]), headers


class EngineSocket:
    """Calls to the engine at one address. Holds no connection; safe to share between threads."""

    def __init__(self, address: Address, transport: Transport | None = None) -> None:
        self.address = address
        self.transport = transport or transport_of(address)

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
            raise broken(self.address, None)
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
            raise refused(method, path, reply)
        return reply

    def open(
        self, path: str, query: Mapping[str, str] | None = None, timeout: float | None = CALL_TIMEOUT
    ) -> Stream:
        """Send a GET and return its body as a stream, once the engine has accepted it."""
        return self._accepted("GET", path, query, timeout)

    def hijack(
        self, path: str, query: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> Stream:
        """Send a POST and return the connection, once the engine has accepted it and begins its answer.

        What the engine hijacks carries bytes both ways from then on; reads wait for ever by default.
        """
        return self._accepted("POST", path, query, timeout)

    def _accepted(
        self, method: str, path: str, query: Mapping[str, str] | None, timeout: float | None
    ) -> Stream:
        stream = self._send(method, path, query, None, timeout)
        try:
            status, headers = stream.head()
            if status >= 400:
                raise refused(method, path, Reply(status, headers, stream.read()))
        except BaseException:
            stream.close()
            raise
        return stream

    def send(self, method: str, path: str, query: Mapping[str, str], chunks: Iterable[bytes]) -> Reply:
        """Send a request whose body is made while it goes out, and return the answer.

        An error of ``chunks`` breaks the body off, which the engine notices, and comes out here. An answer
        that comes before the end of the body (the engine refuses it) ends the sending.
        """
        connection = self.transport.connect(SEND_TIMEOUT)
        try:
            try:
                connection.sendall(
                    f"{method} {_target(path, query)} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n"
                    "Content-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n".encode("ascii")
                )
                for chunk in chunks:
                    if chunk:
                        connection.sendall(b"%x\r\n" % len(chunk) + chunk + b"\r\n")
                connection.sendall(b"0\r\n\r\n")
            except (BrokenPipeError, ConnectionResetError):
                pass  # the answer, if there is one, says why
            return self._answer(connection, method)
        except OSError as error:
            raise broken(self.address, error) from error
        finally:
            connection.shut()
            connection.close()

    def upload(self, path: str, query: Mapping[str, str], size: int, chunks: Iterable[bytes]) -> Stream:
        """Post a tar of ``size`` bytes, and return the answer, head included, as a stream without timeout.

        An error of ``chunks`` breaks the body off, which the engine notices, and comes out here. Where the
        engine answers before the end of the body, its answer says why.
        """
        connection = self.transport.connect(SEND_TIMEOUT)
        head = (
            f"POST {_target(path, query)} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/x-tar\r\n"
            f"Content-Length: {size}\r\n\r\n"
        )
        try:
            try:
                connection.sendall(head.encode("ascii"))
                for chunk in chunks:
                    connection.sendall(chunk)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the answer, if there is one, says why
            connection.settimeout(None)
        except OSError as error:
            connection.close()
            raise broken(self.address, error) from error
        except BaseException:
            connection.shut()
            connection.close()
            raise
        return Stream(connection, self.address)

    def _answer(self, connection: Connection, method: str) -> Reply:
        """Read an answer that may come in chunks of its own."""
        from http.client import HTTPException, HTTPResponse

        class _Line:
            """All that HTTPResponse wants of a socket."""

            def makefile(self, mode: str) -> Any:  # noqa: ARG002
                return connection.makefile()

        response = HTTPResponse(_Line(), method=method)  # type: ignore[arg-type]
        try:
            response.begin()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, headers, response.read())
        except HTTPException as error:
            raise connection.fault() or broken(self.address, error) from error
        finally:
            response.close()

    def connect(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        timeout: float | None = CALL_TIMEOUT,
    ) -> Connection:
        """Send one request and return the connection, on which nothing of the answer has been read yet."""
        content = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {_target(path, query)} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        connection = self.transport.connect(timeout)
        try:
            connection.sendall(head.encode("ascii") + content)
        except OSError as error:
            fault = connection.fault()
            connection.close()
            raise fault or broken(self.address, error) from error
        return connection

    def _send(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Any, timeout: float | None
    ) -> Stream:
        return Stream(self.connect(method, path, query, body, timeout), self.address)


def _target(path: str, query: Mapping[str, str] | None) -> str:
    return quote(path, safe="/:@") + (f"?{urlencode(query)}" if query else "")


def refused(method: str, path: str, reply: Reply) -> ApiError:
    """Return the error that an answer stands for, with the engine's own sentence."""
    try:
        detail = str(json.loads(reply.body)["message"]).strip()
    except (ValueError, KeyError, TypeError):
        detail = reply.body.decode("utf-8", "replace").strip()
    return ApiError(
        f"Docker Engine: {method} {path} was refused ({reply.status}): {detail}", reply.status, detail
    )
