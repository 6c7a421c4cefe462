"""What a run's driver tells of it, a line at a time, so that others can watch: one JSON object a line.

Owns the entries and their form. A line is appended by one write; a last line that was cut off says nothing,
and neither does a line that cannot be read, so a journal can be followed while it is written. It explains a
run and decides nothing: results and records do.
"""

from __future__ import annotations

import enum
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dispatch.workspace.disk import Disk

NAME = ".journal.jsonl"
# The longest piece that is read at once: a reader that comes late must not hold a long journal twice.
_PIECE = 1 << 22


class Kind(enum.Enum):
    """What an entry tells. A driver's own entries are those from an OPENED to the next one."""

    OPENED = "opened"
    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    RETRYING = "retrying"
    ENDED = "ended"
    SAID = "said"
    CLOSED = "closed"


@dataclass(frozen=True)
class JournalStep:
    """A step as its run's driver planned it: where it stands, and where it runs and leaves its result.

    ``place`` is ``container`` or ``process``; ``image`` is empty for the current environment.
    """

    name: str
    unique_id: str
    standing: str
    reason: str = ""
    image: str = ""
    place: str = ""


@dataclass(frozen=True)
class Entry:
    """One line. ``time`` is the driver's wall clock, in seconds since the epoch.

    OPENED has ``driver`` (its number), ``host``, ``pid`` and ``steps``; CLOSED ``driver`` and ``state``. Of a
    ``step``, STARTING has the ``attempt``, RUNNING ``since``, ``node`` and the job's ``key``, WAITING the
    ``reason``, RETRYING the ``reason`` and the ``delay`` in seconds, ENDED ``verdict`` and ``reason``. SAID
    has a ``reason``.
    """

    kind: Kind
    time: float
    step: str = ""
    reason: str = ""
    attempt: int = 0
    since: float = 0.0
    node: str = ""
    key: str = ""
    delay: float = 0.0
    verdict: str = ""
    driver: int = 0
    host: str = ""
    pid: int = 0
    state: str = ""
    steps: tuple[JournalStep, ...] = ()

    def to_line(self) -> bytes:
        """Return the line, with its end; what says nothing is left out."""
        data: dict[str, Any] = {"what": self.kind.value, "time": self.time}
        for name, default in _DEFAULTS.items():
            value = getattr(self, name)
            if value != default:
                data[name] = value
        if self.steps:
            data["steps"] = [_without_empty(step) for step in self.steps]
        return json.dumps(data).encode("ascii") + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Entry | None:
        """Read :meth:`to_line`'s line; None for anything else, as of a version to come."""
        try:
            data = json.loads(line)
            steps = tuple(JournalStep(**_known(_OF_STEP, step)) for step in data.get("steps", ()))
            known = {name: type(default)(data[name]) for name, default in _DEFAULTS.items() if name in data}
            return cls(Kind(data["what"]), float(data["time"]), steps=steps, **known)
        except (AttributeError, KeyError, TypeError, ValueError):
            return None


_DEFAULTS: dict[str, Any] = {
    each.name: each.default for each in fields(Entry) if each.name not in ("kind", "time", "steps")
}
_OF_STEP = tuple(each.name for each in fields(JournalStep))


def _known(names: tuple[str, ...], data: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(data[name]) for name in names if name in data}


def _without_empty(step: JournalStep) -> dict[str, str]:
    return {name: getattr(step, name) for name in _OF_STEP if getattr(step, name)}


class JournalWriter:
    """Appends to one journal. Only its driver does, from any of its threads."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self._path = path
        self._disk = disk
        self._lock = threading.Lock()
        self._torn = False
        self._looked = False

    def append(self, entry: Entry) -> None:
        """Write an entry at once; nothing is synced. OSError where the disk refuses."""
        line = entry.to_line()
        with self._lock:
            if not self._looked:
                # Whoever wrote before us may have been cut off in the middle of a line.
                self._torn = _is_torn(self._path)
                self._looked = True
            torn, self._torn = self._torn, True
            self._disk.append(self._path, b"\n" + line if torn else line)
            self._torn = False


def _is_torn(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except FileNotFoundError:
        return False


class JournalReader:
    """Reads one journal from its beginning, a bit at a time.

    A journal that is not there yet is empty. One that got shorter is gone on with from its new end, and
    another file in its place from that one's beginning.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._file: tuple[int, int] | None = None

    def read(self) -> list[Entry]:
        """Return the entries that came since the last call. Waits for nothing."""
        # Opened anew each time: only so does a drive over the network show what another machine wrote.
        try:
            handle = os.open(self._path, os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            facts = os.fstat(handle)
            self._settle((facts.st_dev, facts.st_ino), facts.st_size, handle)
            return self._entries(handle, facts.st_size)
        finally:
            os.close(handle)

    def _settle(self, file: tuple[int, int], size: int, handle: int) -> None:
        if self._file not in (None, file):
            self._offset = 0
        elif size < self._offset:
            self._offset = os.pread(handle, size, 0).rfind(b"\n") + 1
        self._file = file

    def _entries(self, handle: int, size: int) -> list[Entry]:
        found: list[Entry] = []
        rest = b""
        at = self._offset
        while at < size:
            piece = os.pread(handle, min(_PIECE, size - at), at)
            if not piece:
                break
            at += len(piece)
            *lines, rest = (rest + piece).split(b"\n")
            found += [entry for line in lines if (entry := Entry.from_line(line)) is not None]
        self._offset = at - len(rest)
        return found


def section(entries: list[Entry]) -> list[Entry]:
    """Return the entries of the latest driver: those from the last OPENED on."""
    for at in range(len(entries) - 1, -1, -1):
        if entries[at].kind is Kind.OPENED:
            return entries[at:]
    return []
