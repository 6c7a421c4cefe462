"""Deterministic tar streams: POSIX ustar, with a PAX header only where ustar cannot hold a value.

Refuses to know what an archive contains: entries come in ready, in any order. Nothing of the host gets in:
owner 0:0 without names, one time for all, sorted by the bytes of the names. Written by hand because
``tarfile`` spends more time on the headers of a Python environment than the disk does on its files.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dispatch.errors import ImageError

BLOCK = 512
CHUNK = 1 << 20
END = bytes(2 * BLOCK)
CAPABILITY = "security.capability"
_USTAR_SIZE = 0o77777777777
_ENCODING = ("utf-8", "surrogateescape")


class Kind(enum.Enum):
    """What an entry is, by its type flag in a tar header."""

    FILE = b"0"
    HARDLINK = b"1"
    SYMLINK = b"2"
    DIRECTORY = b"5"


@dataclass(frozen=True)
class Entry:
    """One name in a layer.

    ``path`` is relative to the root, with ``/`` between its parts and no ``.`` or ``..`` among them. A file's
    content is ``data``, or ``size`` bytes of the file ``source`` (a path of the host, as bytes so that no
    locale can change it). ``target`` is where a link points, for a hard link another path of the layer.
    ``capability`` is the value of the extended attribute by which a program may do more than its user; every
    hard link to it has to have it too, as an engine takes it away with every name that it makes.
    """

    path: str
    kind: Kind = Kind.FILE
    mode: int = 0o644
    size: int = 0
    data: bytes | None = None
    source: bytes | None = None
    target: str = ""
    capability: bytes = b""

    @staticmethod
    def file(path: str, data: bytes, mode: int = 0o644) -> Entry:
        """Return a file with the given content."""
        return Entry(path, Kind.FILE, mode, len(data), data)

    @staticmethod
    def directory(path: str) -> Entry:
        """Return a directory that everyone may read."""
        return Entry(path, Kind.DIRECTORY, 0o755)

    @staticmethod
    def symlink(path: str, target: str) -> Entry:
        """Return a symbolic link."""
        return Entry(path, Kind.SYMLINK, 0o777, target=target)


class Stream(Protocol):
    """Bytes that can be produced once or more, of a length that is known before."""

    @property
    def size(self) -> int:
        """The number of bytes ``chunks`` yields."""

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes; no chunk is empty."""


class TarStream:
    """Entries as a tar archive, sorted, read from disk while it is consumed."""

    def __init__(self, entries: Iterable[Entry], mtime: int) -> None:
        ordered = sorted(entries, key=lambda entry: entry.path.encode(*_ENCODING))
        self._entries = ordered
        self._headers = [header(entry, mtime) for entry in ordered]
        self.size = len(END) + sum(map(len, self._headers)) + sum(padded(e.size) for e in ordered)

    def chunks(self) -> Iterator[bytes]:
        """Yield the archive; raise ImageError if a file is no longer as long as it was."""
        waiting: list[bytes] = []
        length = 0
        for entry, head in zip(self._entries, self._headers, strict=True):
            waiting.append(head)
            length += len(head)
            for piece in _content(entry):
                waiting.append(piece)
                length += len(piece)
                if length >= CHUNK:
                    yield b"".join(waiting)
                    waiting, length = [], 0
        yield b"".join([*waiting, END])


class FileStream:
    """A file that is an archive already."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = path.stat().st_size

    def chunks(self) -> Iterator[bytes]:
        """Yield the file."""
        with self._path.open("rb", buffering=0) as file:
            while piece := file.read(CHUNK):
                yield piece


def with_parents(paths: Iterable[str]) -> set[str]:
    """Return the directories above ``paths``: an engine makes missing ones with a mode of its own."""
    parents: set[str] = set()
    for path in paths:
        while "/" in path:
            path = path.rpartition("/")[0]
            if path in parents:
                break
            parents.add(path)
    return parents


def header(entry: Entry, mtime: int) -> bytes:
    """Return the header blocks of an entry, without its content.

    Format: POSIX.1-2001 pax interchange format; the extended header's own name is a constant.
    """
    name = entry.path.encode(*_ENCODING)
    if entry.kind is Kind.DIRECTORY:
        name += b"/"
    link = entry.target.encode(*_ENCODING)
    records: dict[str, bytes] = {}
    prefix, short = _split(name)
    if short is None or not name.isascii():
        records["path"] = name
        prefix, short = b"", _ascii(name)[:100]
    if len(link) > 100 or not link.isascii():
        records["linkpath"] = link
        link = _ascii(link)[:100]
    if entry.capability:
        records[f"SCHILY.xattr.{CAPABILITY}"] = entry.capability
    size = entry.size
    if size > _USTAR_SIZE:
        records["size"] = str(size).encode()
        size = 0
    block = _block(short, prefix, entry.kind.value, entry.mode, size, (mtime, link))
    return _pax(records, mtime) + block if records else block


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """Return ustar's (prefix, name); the name is None where no split fits."""
    if len(name) <= 100:
        return b"", name
    cut = name.find(b"/", len(name) - 101, 156)
    if cut <= 0 or cut == len(name) - 1:
        return b"", None
    return name[:cut], name[cut + 1 :]


def _ascii(name: bytes) -> bytes:
    return bytes(byte if byte < 128 else 0x5F for byte in name)


def _pax(records: dict[str, bytes], mtime: int) -> bytes:
    """Return a PAX extended header; a record counts its own length, digits included."""
    body = b""
    for key, value in sorted(records.items()):
        rest = b" " + key.encode() + b"=" + value + b"\n"
        length = len(rest)
        while len(str(length)) + len(rest) != length:
            length = len(str(length)) + len(rest)
        body += str(length).encode() + rest
    block = _block(b"PaxHeaders/entry", b"", b"x", 0o644, len(body), (mtime, b""))
    return block + body + bytes(-len(body) % BLOCK)


def _block(name: bytes, prefix: bytes, flag: bytes, mode: int, size: int, rest: tuple[int, bytes]) -> bytes:
    """Return one ustar header block, owner 0:0 without names."""
    mtime, link = rest
    head = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, 0, 0, size, mtime)
    tail = b"%b%b%b%b%07o\0%07o\0%b" % (
        flag,
        link.ljust(100, b"\0"),
        b"ustar\x00" + b"00",
        bytes(64),
        0,
        0,
        prefix.ljust(155, b"\0"),
    )
    checksum = sum(head) + sum(tail) + 8 * 0x20
    return (head + b"%06o\0 " % checksum + tail).ljust(BLOCK, b"\0")


def padded(size: int) -> int:
    """Return a size rounded up to whole blocks."""
    return size + -size % BLOCK


def _content(entry: Entry) -> Iterator[bytes]:
    """Yield an entry's content and its padding."""
    if entry.data is not None:
        yield entry.data
    elif entry.source is not None:
        left = entry.size
        with open(entry.source, "rb", buffering=0) as file:  # noqa: PTH123 (the path is bytes)
            while left and (piece := file.read(min(left, CHUNK))):
                left -= len(piece)
                yield piece
            if left or file.read(1):
                raise ImageError(f"{os.fsdecode(entry.source)}: the file changed while it was packed")
    if padding := -entry.size % BLOCK:
        yield bytes(padding)
