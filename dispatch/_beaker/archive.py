"""A directory as one tar, and back: equal directories make equal bytes, and nothing is laid down outside.

Owns what of a file travels (path, bytes, whether it may be executed) and what an archive of others may hold:
files, directories, links that stay inside, and hard links to files that came before. Refused are absolute
paths, ``..``, devices, anything twice, anything below what is no directory, and half an archive.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol, cast

from dispatch._beaker.problems import BeakerDamagedError
from dispatch.errors import WorkspaceError
from dispatch.workspace.manifest import Content

BLOCK = 1 << 18
# What is larger is sent as an upload of pieces; storage takes up to 32 MiB as one body.
PIECE = 16 << 20
# Of what tarfile has read ahead, it copies all for each header.
_BUFFER = 1 << 16
_UNIT = tarfile.BLOCKSIZE
_END = b"\0" * (2 * _UNIT)
_NOTHING = (0, hashlib.sha256().hexdigest())


class Source(Protocol):
    """Where an archive is read from."""

    def read(self, count: int, /) -> bytes:
        """Return so many bytes, fewer only at the end."""


@dataclass(frozen=True)
class Archive:
    """The tar of a directory, planned before a byte of it is made. ``size`` is its length.

    ``content`` gets the digests of the files while their bytes are made.
    """

    directory: Path
    content: Content
    entries: tuple[tuple[bytes, str], ...]
    size: int

    def blocks(self) -> Iterator[bytes]:
        """Yield its bytes. WorkspaceError for a file that has another size than it had."""
        for header, path in self.entries:
            yield header
            if path:
                digest, size = hashlib.sha256(), self.content.files[path][0]
                for block in blocks_of(self.directory / path, size):
                    digest.update(block)
                    yield block
                self.content.files[path] = (size, digest.hexdigest())
                yield b"\0" * _padding(size)
        yield _END


def archive_of(directory: Path, content: Content) -> Archive:
    """Plan the tar of a directory that holds ``content``, whose digests need not be known."""
    entries, size = [], len(_END)
    for path in sorted({*content.files, *content.links, *content.directories}):
        info = tarfile.TarInfo(path)
        info.mode = 0o755
        if path in content.links:
            info.type, info.linkname = tarfile.SYMTYPE, content.links[path]
        elif path in content.files:
            info.size = content.files[path][0]
            if not is_executable(directory / path):
                info.mode = 0o644
        else:
            info.type = tarfile.DIRTYPE
        header = _header(info)
        entries.append((header, path if info.isreg() else ""))
        size += len(header) + info.size + _padding(info.size)
    return Archive(directory, content, tuple(entries), size)


def blocks_of(path: Path, size: int, most: int = BLOCK) -> Iterator[bytes]:
    """Yield a file's bytes. WorkspaceError where there are not so many, or it cannot be read."""
    left = size
    try:
        with path.open("rb", buffering=0) as file:
            while block := file.read(most):
                left -= len(block)
                if left < 0:
                    break
                yield block
    except OSError as error:
        raise WorkspaceError(
            f"{path}: cannot be read ({error.strerror})", "see who may read it, and to the disk"
        ) from error
    if left:
        raise WorkspaceError(
            f"{path}: it changed while it was sent to Beaker",
            "leave results alone once they are made; run again",
        )


def is_executable(path: Path) -> bool:
    """Whether its owner may execute a file."""
    return bool(path.lstat().st_mode & stat.S_IXUSR)


def _header(info: tarfile.TarInfo) -> bytes:
    """One format knows names of any length; only the other knows names that are no text."""
    try:
        info.name.encode()
        info.linkname.encode()
    except UnicodeEncodeError:
        return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _padding(size: int) -> int:
    return -size % _UNIT


class _Strict(tarfile.TarInfo):
    """A header that must be right: tarfile itself takes a broken one for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Strict:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise _damaged(str(error)) from error


def unpack(source: Source, target: Path) -> Content:
    """Lay an archive down in the empty directory ``target``, and say what it held.

    :raises BeakerDamagedError: it holds what may not be laid down, or is none; ``target`` is then half full
    """
    place = _Place(target)
    try:
        with tarfile.open(
            fileobj=cast("IO[bytes]", source), mode="r|", tarinfo=_Strict, bufsize=_BUFFER
        ) as archive:
            for info in archive:
                place.lay_down(archive, info)
    except (tarfile.TarError, EOFError, UnicodeError) as error:
        raise _damaged(str(error)) from error
    return place.finish()


@dataclass
class _Place:
    """A directory of ours, and all that was laid down in it so far. Links are made last: none is followed."""

    root: Path
    files: dict[str, tuple[int, str]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)

    def lay_down(self, archive: tarfile.TarFile, info: tarfile.TarInfo) -> None:
        path = inner(info.name)
        if not path:
            if not info.isdir():
                raise _damaged(f"{info.name}: is not a directory")
            return
        self._make_directory(path.rpartition("/")[0])
        if info.isdir():
            self._make_directory(path)
            return
        if path in self.files or path in self.links or path in self.directories:
            raise _damaged(f"{info.name}: is there twice")
        if info.issym():
            self.links[path] = info.linkname
        elif info.islnk():
            self._link_again(path, info.linkname)
        elif info.isreg() and not info.issparse():
            self.files[path] = self._write(archive, info, path)
        else:
            raise _damaged(f"{info.name}: is neither file, directory nor link")

    def finish(self) -> Content:
        """Make the links, once all are known, and hold that each ends inside."""
        root = os.path.realpath(self.root)
        for path, target in self.links.items():
            (self.root / path).symlink_to(target)
        for path, target in self.links.items():
            end = os.path.realpath(self.root / path)
            if target.startswith("/") or not (end == root or end.startswith(root + "/")):
                raise _damaged(f"{path}: is a link to {target!r}, outside of the result")
        return Content(self.files, self.links, tuple(sorted(self.directories)))

    def _make_directory(self, path: str) -> None:
        if not path or path in self.directories:
            return
        self._make_directory(path.rpartition("/")[0])
        if path in self.files or path in self.links:
            raise _damaged(f"{path}: is no directory, and holds something")
        (self.root / path).mkdir()
        self.directories.add(path)

    def _link_again(self, path: str, name: str) -> None:
        first = inner(name)
        if first not in self.files:
            raise _damaged(f"{path}: is a hard link to {name!r}, which did not come before")
        os.link(self.root / first, self.root / path, follow_symlinks=False)
        self.files[path] = self.files[first]

    def _write(self, archive: tarfile.TarFile, info: tarfile.TarInfo, path: str) -> tuple[int, str]:
        content: Any = archive.extractfile(info) if info.size else None
        mode = 0o755 if info.mode & stat.S_IXUSR else 0o644
        handle = os.open(self.root / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(handle, "wb", buffering=0) as file:
            if content is None:
                return _NOTHING
            left, digest = info.size, hashlib.sha256()
            while left:
                block = content.read(min(left, BLOCK))
                if not block:
                    raise _damaged(f"{info.name}: ends too early")
                digest.update(block)
                file.write(block)
                left -= len(block)
        return info.size, digest.hexdigest()


def inner(name: str) -> str:
    """A path of a file inside, in its shortest form; empty for the root. BeakerDamagedError for others."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise _damaged(f"{name!r}: this path leads out of the result")
    return "/".join(parts)


def _damaged(fact: str) -> BeakerDamagedError:
    return BeakerDamagedError(
        f"archive: {fact}", "the result was not stored as it should be; run the step again"
    )
