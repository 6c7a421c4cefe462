"""The registry's blobs on disk, by their digests, and those that are still coming.

Owns the files under ``blobs/``: a blob is at its place whole or not at all, because it is written elsewhere,
hashed, and moved there. Whether a file counts is said by the database (``store.registry``): moving one in and
removing garbage happen inside of its write transactions, so that neither can hit the other.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dispatch.beakerd.problems import Kind, Problem

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
PUSH = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
PIECE = 1 << 20


class CorruptBlob(Exception):
    """A blob's file no longer has the digest that is its name."""


class BusyPush(Exception):
    """Another request is writing to the same upload."""


@dataclass(frozen=True)
class Received:
    """What an upload holds: its size, and its digest where that is known without reading it again."""

    size: int
    digest: str


class Blobs:
    """The files under one directory. Digests and ids are checked before they become a path."""

    def __init__(self, root: Path):
        self._root = root

    def path(self, digest: str) -> Path:
        """Where a blob is, if it is there."""
        if not DIGEST.fullmatch(digest):
            raise ValueError(f"{digest!r} is no digest")
        value = digest.removeprefix("sha256:")
        return self._root / "sha256" / value[:2] / value

    def size(self, digest: str) -> int | None:
        """How large a blob's file is, None where there is none."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, digest: str, start: int, length: int) -> Iterator[bytes]:
        """Yield a part of a blob. The last piece of a whole one is given only if all of it was right.

        :raises CorruptBlob: when it is shorter than that, or, read whole, not what its digest says
        """
        with self.path(digest).open("rb") as file:
            whole = start == 0 and os.fstat(file.fileno()).st_size == length
            sha, left = hashlib.sha256(), length
            file.seek(start)
            while left:
                piece = file.read(min(PIECE, left))
                if not piece:
                    raise CorruptBlob(digest)
                left -= len(piece)
                if whole:
                    sha.update(piece)
                    if not left and f"sha256:{sha.hexdigest()}" != digest:
                        raise CorruptBlob(digest)
                yield piece

    def begin(self, push: str) -> None:
        """Make the file of an upload."""
        path = self._push(push)
        path.parent.mkdir(exist_ok=True)
        with _room():
            path.touch()

    def received(self, push: str) -> int:
        """How much of an upload is there."""
        try:
            return self._push(push).stat().st_size
        except FileNotFoundError:
            return 0

    def append(self, push: str, pieces: Iterable[bytes], largest: int, offset: int | None = None) -> Received:
        """Add to an upload. What came before ``pieces`` broke off stays, to be gone on from.

        :raises BusyPush: when another request is at it, or it does not end at ``offset`` (if given)
        :raises Problem: TOO_LARGE; TROUBLE, when the disk is full
        """
        # Outermost: what is still buffered when the disk is full fails as the file is closed.
        with _room(), self._push(push).open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise BusyPush(push) from error
            before = size = os.fstat(file.fileno()).st_size
            if offset is not None and offset != before:
                raise BusyPush(push)
            sha = hashlib.sha256()
            for piece in pieces:
                size += len(piece)
                if size > largest:
                    raise Problem(Kind.TOO_LARGE, f"the blob is larger than {largest} bytes")
                file.write(piece)
                if not before:
                    sha.update(piece)
        return Received(size, "" if before else f"sha256:{sha.hexdigest()}")

    def hash(self, push: str) -> str:
        """The digest of all that an upload holds."""
        sha = hashlib.sha256()
        with self._push(push).open("rb") as file:
            while piece := file.read(PIECE):
                sha.update(piece)
        return f"sha256:{sha.hexdigest()}"

    def take(self, push: str, digest: str) -> None:
        """Move an upload, whose digest this is, to its place. In a write transaction."""
        path = self.path(digest)
        with _room():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._push(push).replace(path)

    def drop(self, push: str) -> None:
        """Forget an upload."""
        self._push(push).unlink(missing_ok=True)

    def remove(self, digest: str) -> None:
        """Remove a blob. In a write transaction that knows that nobody refers to it."""
        self.path(digest).unlink(missing_ok=True)

    def sync(self, digests: Iterable[str]) -> None:
        """Have blobs on the disk itself, so that they outlast a loss of power."""
        for digest in digests:
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def all(self) -> tuple[list[str], list[str]]:
        """The digests of all blobs and the ids of all uploads that have a file."""
        blobs = [f"sha256:{path.name}" for path in self._root.glob("sha256/??/*")]
        pushes = [path.name for path in self._root.glob("uploads/*")]
        return [each for each in blobs if DIGEST.fullmatch(each)], [p for p in pushes if PUSH.fullmatch(p)]

    def _push(self, push: str) -> Path:
        if not PUSH.fullmatch(push):
            raise ValueError(f"{push!r} is no upload")
        return self._root / "uploads" / push


@contextlib.contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise Problem(Kind.TROUBLE, "the server's disk is full") from error
        raise
