"""Trees as tar streams, to an engine and back.

Owns what of a tree is sent, and how what comes back is laid down: nothing outside of its place, no devices,
links as links, and never half an archive for a whole one. Whole files are never held in memory. Refuses to
know what the trees are.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Protocol, cast

from dispatch.errors import EngineError

BLOCK = 1 << 20
_PADDING = tarfile.BLOCKSIZE
_END = b"\0" * (2 * tarfile.BLOCKSIZE)
# Whoever may run containers as root needs no set-user-id files of ours, and a caller should get none.
_MODE = 0o1777


class ArchiveError(EngineError):
    """An archive holds what may not be laid down, or a tree changed while it was sent."""


class CutError(Exception):
    """The archive ended before its end: the connection broke off. Asking again may help."""


class Source(Protocol):
    """Where an archive is read from."""

    def read(self, count: int, /) -> bytes:
        """Return so many bytes, fewer only at the end."""


@dataclass(frozen=True)
class Item:
    """One thing to send: a tree or file of this machine, or (``source`` None) ``content``, or a directory.

    ``name`` is its path in the archive. With ``writable`` the owner may write everything in it.
    """

    name: str
    source: Path | None = None
    content: bytes | None = None
    mode: int = 0o755
    mtime: float = 0.0
    writable: bool = False


def pack(items: Iterable[Item], uid: int, gid: int) -> Iterator[bytes]:
    """Yield an archive of items that all belong to ``uid:gid`` over there.

    Sockets and devices stay out. Raises ArchiveError for a file that shrinks while it is read, OSError for
    one that cannot be.
    """
    for item in items:
        for info, path in _entries(item):
            info.uid, info.gid, info.uname, info.gname = uid, gid, "", ""
            yield _header(info)
            if info.isreg():
                yield from _padded(
                    _content(path, info.size) if path else iter((item.content or b"",)), info.size
                )
    yield _END


def with_parents(items: Iterable[Item], top: str) -> Iterator[Item]:
    """Yield items with the directories above them, as far as these lie in the directory ``top``.

    What an engine makes of its own accord for want of them may be closed to all but root.
    """
    made: set[str] = set()
    for item in items:
        parents = [parent.as_posix() for parent in PurePosixPath(item.name).parents]
        for parent in reversed(parents):
            if parent not in made and (parent == top or parent.startswith(f"{top}/")):
                made.add(parent)
                yield Item(parent)
        made.add(item.name)
        yield item


def _entries(item: Item) -> Iterator[tuple[tarfile.TarInfo, Path | None]]:
    if item.source is not None:
        yield from _tree(item.name, item.source, item.writable)
        return
    info = tarfile.TarInfo(item.name)
    info.mode, info.mtime = item.mode, item.mtime
    if item.content is None:
        info.type = tarfile.DIRTYPE
    else:
        info.size = len(item.content)
    yield info, None


def _tree(name: str, path: Path, writable: bool) -> Iterator[tuple[tarfile.TarInfo, Path | None]]:
    facts = path.lstat()
    info = tarfile.TarInfo(name)
    info.mode = stat.S_IMODE(facts.st_mode) | (stat.S_IWUSR if writable else 0)
    info.mtime = facts.st_mtime
    if stat.S_ISDIR(facts.st_mode):
        info.type = tarfile.DIRTYPE
        yield info, None
        with os.scandir(path) as found:
            children = sorted(entry.name for entry in found)
        for child in children:
            yield from _tree(f"{name}/{child}", path / child, writable)
    elif stat.S_ISREG(facts.st_mode):
        info.size = facts.st_size
        yield info, path
    elif stat.S_ISLNK(facts.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.fspath(path.readlink())
        yield info, None
    elif stat.S_ISFIFO(facts.st_mode):
        info.type = tarfile.FIFOTYPE
        yield info, None


def _header(info: tarfile.TarInfo) -> bytes:
    """The other format keeps fractions of seconds; this one names that are no text."""
    try:
        info.name.encode()
        info.linkname.encode()
    except UnicodeEncodeError:
        return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _content(path: Path, size: int) -> Iterator[bytes]:
    left = size
    with path.open("rb", buffering=0) as file:
        while left:
            block = file.read(min(left, BLOCK))
            if not block:
                raise ArchiveError(f"{path}: it shrank while it was sent to the engine", "repeat the command")
            left -= len(block)
            yield block


def _padded(blocks: Iterator[bytes], size: int) -> Iterator[bytes]:
    yield from blocks
    if size % _PADDING:
        yield b"\0" * (_PADDING - size % _PADDING)


class _Strict(tarfile.TarInfo):
    """A header that must be right: tarfile itself takes a broken one for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Strict:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise CutError(str(error)) from error


@dataclass
class _Place:
    """A directory that we made, and all that we laid down in it so far."""

    root: Path
    directories: dict[str, tarfile.TarInfo] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)

    def path(self, info: tarfile.TarInfo, name: str) -> tuple[str, Path] | None:
        """Where an entry goes, as a name below the root and a path; None for the root itself.

        Its directory must be one that came before: nothing is ever laid down through a link.
        """
        parts = PurePosixPath(name).parts
        if len(parts) < 1 or name.startswith("/") or ".." in parts:
            raise _outside(info.name)
        inside = "/".join(parts[1:])
        if not inside:
            return None
        parent = "/".join(parts[1:-1])
        if parent not in self.directories:
            raise _outside(info.name)
        return inside, self.root / inside


@contextmanager
def reading(source: Source) -> Iterator[tarfile.TarFile]:
    """Give the entries of an archive one after another. CutError where it ends before its end."""
    try:
        with tarfile.open(
            fileobj=cast("IO[bytes]", source), mode="r|", tarinfo=_Strict, bufsize=_PADDING * 512
        ) as archive:
            yield archive
    except tarfile.ReadError as error:
        raise CutError(str(error)) from error


def unpack(source: Source, target: Path) -> None:
    """Lay down an archive with one directory at its top as ``target``, which must not be there yet.

    Everything belongs to the caller. Raises CutError where the archive ends too early, ArchiveError for an
    entry that would come to lie elsewhere or is a device, OSError where the disk does not take it.
    """
    target.mkdir(mode=0o700)
    place = _Place(target)
    with reading(source) as archive:
        for info in archive:
            _lay_down(archive, info, place)
    if "" not in place.directories:
        raise CutError("it is empty")
    # Last, and the deepest first: a directory may be closed to us, and filling it changes its time.
    for name in sorted(place.directories, key=lambda name: name.count("/") + bool(name), reverse=True):
        info = place.directories[name]
        path = target / name
        os.utime(path, (info.mtime, info.mtime))
        path.chmod(info.mode & _MODE)


def _lay_down(archive: tarfile.TarFile, info: tarfile.TarInfo, place: _Place) -> None:
    found = place.path(info, info.name)
    if found is None:
        if not info.isdir():
            raise ArchiveError(f"{info.name}: the archive holds no directory")
        place.directories[""] = info
        return
    name, path = found
    if info.isdir() and name in place.directories:
        place.directories[name] = info
        return
    if name in place.directories or name in place.others:
        raise ArchiveError(f"{info.name}: it is twice in the archive")
    if info.isdir():
        path.mkdir(mode=0o700)
        place.directories[name] = info
        return
    if info.issym():
        path.symlink_to(info.linkname)
    elif info.islnk():
        first = place.path(info, info.linkname)
        if first is None or first[0] not in place.others:
            raise _outside(f"{info.name} -> {info.linkname}")
        os.link(first[1], path, follow_symlinks=False)
    elif info.isfifo():
        os.mkfifo(path, info.mode & _MODE)
    elif info.isreg():
        _write(archive, info, path)
    else:
        raise ArchiveError(f"{info.name}: it is a device, which is not taken over from the engine")
    place.others.add(name)


def _write(archive: tarfile.TarFile, info: tarfile.TarInfo, path: Path) -> None:
    content = archive.extractfile(info)
    assert content is not None
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        left = info.size
        while left:
            block = content.read(min(left, BLOCK))
            if not block:
                raise CutError(f"{info.name} ends too early")
            file.write(block)
            left -= len(block)
        file.flush()
        os.utime(file.fileno(), (info.mtime, info.mtime))
        os.fchmod(file.fileno(), info.mode & _MODE)


def _outside(name: str) -> ArchiveError:
    return ArchiveError(f"{name}: the engine sent a path that leads out of its directory")
