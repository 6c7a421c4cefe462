"""The logs of a run's steps as they grow: many at once, whole lines only, every attempt from its beginning.

Owns which logs those are and when each is complete. Logs are polled, for that works on any drive that several
machines see. Changes nothing, and prints nothing.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch.app.watching import Watch, views
from dispatch.workspace.journal import Entry, Kind

if TYPE_CHECKING:
    from dispatch.workspace.base import Workspace

# So much of one log is shown before it is another's turn.
PIECE = 1 << 18


@dataclass
class Tail:
    """Reads one log that may grow, as whole lines. ``find`` says where it is once there is one."""

    find: Callable[[], Path | None]
    is_complete: bool = False
    _path: Path | None = None
    _offset: int = 0
    _rest: bytes = field(default=b"", repr=False)

    def read(self) -> bytes:
        """Return the next lines, at most about ``PIECE`` bytes; empty where there are none yet.

        Of a log that is complete, a last line without an end is returned with one.
        """
        while piece := self._piece():
            whole, newline, rest = piece.rpartition(b"\n")
            if newline:
                block, self._rest = self._rest + whole + newline, rest
                return block
            self._rest += rest
        if self.is_complete and self._rest:
            block, self._rest = self._rest + b"\n", b""
            return block
        return b""

    @property
    def is_done(self) -> bool:
        """Whether everything was read of a log that is complete; to be asked after a read of nothing."""
        return self.is_complete and not self._rest

    def _piece(self) -> bytes:
        self._path = self._path or self.find()
        if self._path is None:
            return b""
        # Opened anew each time: a file may be replaced by the same text in full, and a drive over the network
        # shows what another machine wrote.
        try:
            handle = os.open(self._path, os.O_RDONLY)
        except OSError:
            return b""
        try:
            piece = os.pread(handle, PIECE, self._offset)
        finally:
            os.close(handle)
        self._offset += len(piece)
        return piece


class LogFollower:
    """Follows the logs of some steps of a run, all of them without ``wanted``.

    ``attempt`` limits that to attempts of one number.
    """

    def __init__(
        self, workspace: Workspace, watch: Watch, wanted: Container[str] | None, attempt: int | None = None
    ) -> None:
        self._workspace = workspace
        self._watch = watch
        self._wanted = wanted
        self._attempt = attempt
        self._ids: dict[str, str] = {}
        self._tails: dict[tuple[str, int], Tail] = {}
        self._open: dict[tuple[str, int], Tail] = {}
        # An earlier driver's attempts belong to the run, too.
        self._take(workspace.journal(watch.run).read())

    def lines(self) -> Iterator[tuple[str, bytes]]:
        """Yield steps with lines of theirs, as they come, until the run or all wanted steps have ended."""
        while True:
            self._take(self._watch.look())
            over = bool(self._watch.state) or self._all_over()
            if over:
                for tail in self._open.values():
                    tail.is_complete = True
            yielded = False
            for key, tail in list(self._open.items()):
                block = tail.read()
                if block:
                    yielded = True
                    yield key[0], block
                elif tail.is_done:
                    del self._open[key]
            if over and not self._open:
                return
            if not yielded:
                self._watch.pause()

    def _take(self, entries: list[Entry]) -> None:
        for entry in entries:
            for step in entry.steps:
                self._ids[step.name] = step.unique_id
            if entry.kind is Kind.STARTING:
                self._begin(entry.step, entry.attempt)
            elif entry.kind in (Kind.ENDED, Kind.RETRYING):
                self._complete(entry.step)

    def _begin(self, step: str, number: int) -> None:
        """Go on with the log of an attempt, which another client may have begun, and end those before it."""
        if (self._wanted is not None and step not in self._wanted) or self._attempt not in (None, number):
            return
        self._complete(step)
        unique_id = self._ids.get(step, "")
        find = functools.partial(self._workspace.log_of_attempt, unique_id, number)
        tail = self._tails.setdefault((step, number), Tail(find))
        tail.is_complete = False
        self._open[step, number] = tail

    def _complete(self, step: str) -> None:
        for key, tail in self._open.items():
            if key[0] == step:
                tail.is_complete = True

    def _all_over(self) -> bool:
        if self._wanted is None:
            return False
        known = views(self._watch.entries)
        return bool(known) and all(view.is_over for name, view in known.items() if name in self._wanted)
