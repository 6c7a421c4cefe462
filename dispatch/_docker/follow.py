"""A container's log while it is written: a connection that is never waited for, and what comes out of it.

Owns the answer's head and the frames, pieced together as their bytes come. Refuses to own a thread: whoever
watches the descriptor reads when there is something. With TLS, bytes may have come that the descriptor knows
nothing of: ``pending`` says so.
"""

from __future__ import annotations

import socket

from dispatch._docker.containers import STAMP_LENGTH, LogFrame
from dispatch._docker.transport import Connection

_BLOCK = 1 << 18
_HEAD_LIMIT = 1 << 16
# The engine cuts lines into frames of 16 KiB.
_FRAME_LIMIT = 1 << 24
_HEADER = 8
_WOULD_BLOCK = ("SSLWantReadError", "SSLWantWriteError")


class LogFeed:
    """A followed log, with the engine's times. Made from a connection on which the request was sent."""

    def __init__(self, connection: socket.socket | Connection) -> None:
        self._connection = connection
        self._connection.setblocking(False)
        self._buffer = b""
        self._in_head = True

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._connection.fileno()

    @property
    def pending(self) -> bool:
        """Whether bytes have come that no longer make the descriptor readable."""
        asked = getattr(self._connection, "pending", None)
        return bool(asked is not None and asked())

    def read(self) -> list[LogFrame] | None:
        """Return the frames that have come, perhaps none; None where the stream has ended or is broken."""
        try:
            block = self._connection.recv(_BLOCK)
        except BlockingIOError:
            return []
        except OSError as error:
            # By name: without TLS nobody has loaded the module.
            return [] if type(error).__name__ in _WOULD_BLOCK else None
        if not block:
            return None
        self._buffer += block
        if self._in_head and not self._skip_head():
            return None if len(self._buffer) > _HEAD_LIMIT else []
        return self._frames()

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _skip_head(self) -> bool:
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return False
        words = head.split(b" ", 2)
        self._in_head = False
        # An error's body is no log: its absence of frames says enough, for whoever concludes asks again.
        self._buffer = rest if len(words) > 1 and words[1] == b"200" else b""
        return True

    def _frames(self) -> list[LogFrame] | None:
        buffer, at, found = self._buffer, 0, []
        while at + _HEADER <= len(buffer):
            size = int.from_bytes(buffer[at + 4 : at + _HEADER], "big")
            if size > _FRAME_LIMIT:
                return None
            end = at + _HEADER + size
            if end > len(buffer):
                break
            found.append(_frame(buffer[at], buffer[at + _HEADER : end]))
            at = end
        self._buffer = buffer[at:]
        return found


def _frame(stream: int, data: bytes) -> LogFrame:
    stamp = data[: STAMP_LENGTH - 1].decode("ascii", "replace")
    return LogFrame(stream, stamp, data[STAMP_LENGTH:])
