"""A container at the user's terminal: what is typed goes in, what it prints comes out, until it ends.

Owns the terminal's mode, its size, and the bytes between two descriptors and the engine. The terminal is raw
meanwhile: Ctrl-C and the like are typed into the container, and its own terminal makes signals of them.
Refuses to create or start anything.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

from dispatch._docker.containers import STDERR, Containers
from dispatch._docker.socket import Stream
from dispatch.errors import EngineError

_PIECE = 64 * 1024
_HEADER = 8


class HungUpError(Exception):
    """The terminal went away."""


@dataclass(frozen=True)
class Descriptors:
    """Where the user is: descriptors to read from and to write to."""

    stdin: int = 0
    stdout: int = 1
    stderr: int = 2

    @property
    def terminal(self) -> bool:
        """Whether a person sits there, who both types and reads."""
        return os.isatty(self.stdin) and os.isatty(self.stdout)


class Connection:
    """The user at one container, whose attachment is open before it starts. ``run`` once."""

    def __init__(self, attached: Stream, user: Descriptors, *, terminal: bool) -> None:
        self._attached = attached
        self._user = user
        self._terminal = terminal
        self._rest = b""
        self._typed = b""
        self._ended = False

    def run(self) -> None:
        """Carry bytes until the container closes its side.

        :raises HungUpError: when the terminal goes away
        :raises EngineError: when the engine does
        """
        while True:
            # Nothing waits for room to send: the container may wait for us to take what it prints.
            sources: list[int | Stream] = [self._attached]
            sources += [] if self._typed or self._ended else [self._user.stdin]
            read, write, _ = select.select(sources, [self._attached] if self._typed else [], [])
            if self._attached in read:
                data = self._attached.receive()
                if not data:
                    return
                self._show(data)
                while self._attached.pending():
                    self._show(self._attached.receive())
            if self._user.stdin in read:
                self._read()
            if self._typed and (write or self._user.stdin in read):
                self._send()

    def _read(self) -> None:
        """Take what was typed, or note that there is no more."""
        try:
            self._typed = os.read(self._user.stdin, _PIECE)
        except OSError:
            self._typed = b""
        if self._typed:
            return
        if self._terminal:
            raise HungUpError
        self._ended = True
        self._attached.finish_sending()

    def _send(self) -> None:
        """Send what was typed, as much as fits."""
        try:
            self._typed = self._typed[self._attached.send_some(self._typed) :]
        except EngineError:
            # A container that has ended takes nothing more; its end is seen on the other side.
            self._typed, self._ended = b"", True

    def _show(self, data: bytes) -> None:
        """Write output; without a terminal it comes in frames that name the stream."""
        if self._terminal:
            self._write(self._user.stdout, data)
            return
        self._rest += data
        while len(self._rest) >= _HEADER:
            end = _HEADER + int.from_bytes(self._rest[4:_HEADER], "big")
            if len(self._rest) < end:
                return
            to = self._user.stderr if self._rest[0] == STDERR else self._user.stdout
            self._write(to, self._rest[_HEADER:end])
            self._rest = self._rest[end:]

    def _write(self, to: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(to, view) :]
            except BlockingIOError:
                select.select([], [to], [])
            except OSError as error:
                raise HungUpError from error


@contextlib.contextmanager
def raw(descriptor: int) -> Iterator[None]:
    """Let a terminal pass on every key as it is; its former mode comes back at the end."""
    before = termios.tcgetattr(descriptor)
    # Not TCSAFLUSH: what was typed ahead while the image was built or the container started is not lost.
    tty.setraw(descriptor, termios.TCSADRAIN)
    try:
        yield
    finally:
        # TCSADRAIN: what is still to be shown is shown in the mode it was meant for.
        with contextlib.suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextlib.contextmanager
def resized(containers: Containers, name: str, descriptor: int) -> Iterator[Callable[[], None]]:
    """Hand the terminal's size on whenever it changes; yields what hands it on at once."""

    def hand_on(*_: int | FrameType | None) -> None:
        with contextlib.suppress(OSError, EngineError):
            size = os.get_terminal_size(descriptor)
            containers.resize(name, size.lines, size.columns)

    before = signal.signal(signal.SIGWINCH, hand_on)
    try:
        yield hand_on
    finally:
        signal.signal(signal.SIGWINCH, before)
