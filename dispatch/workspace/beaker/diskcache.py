"""Copies of results on this machine's disk: bounded, whole or not there, checked before they are used.

Owns which copies there are and how long they stay: the one that was used longest ago goes first, and none
goes that a process holds. Several processes may share the directory; what one holds is free at once when it
dies. Refuses to know where copies come from. All of it may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dispatch.errors import WorkspaceError
from dispatch.workspace import manifest as manifests
from dispatch.workspace.manifest import Content, Manifest
from dispatch.workspace.names import is_unique_id

LIMIT = 20 << 30
# A job may go on with a copy after the process that held it was killed; parts may be gone on with, too.
SPARED = 3600.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
Fetch = Callable[[Path], Content]


@dataclass
class _Hold:
    lock: int
    count: int = 1


class DiskCache:
    """Copies by key (a file's name) below ``root``, of about ``limit`` bytes. Threads may share it.

    ``wall`` is the time since the epoch, as the disk stamps it.
    """

    def __init__(self, root: Path, limit: int = LIMIT, wall: Callable[[], float] = time.time) -> None:
        self._root = root
        self._limit = limit
        self._wall = wall
        self._holds: dict[str, _Hold] = {}
        self._guard = threading.Lock()

    def place(self, key: str) -> Path:
        """Where a copy is, once it is held. Asks nothing."""
        return self._entry(key) / "result"

    def hold(self, key: str, fetch: Fetch) -> Path:
        """Have a copy here, every byte of it checked, and keep it until :meth:`release`.

        What is missing or damaged is made by ``fetch``, which fills a directory that may hold what an earlier
        one left of the same key, and says what it is to hold. One fetches at a time, others wait for it.

        :raises WorkspaceError: the disk does not take it
        """
        place = self.place(key)
        with self._guard:
            known = self._holds.get(key)
            if known is not None:
                known.count += 1
                return place
        try:
            lock = self._filled(key, fetch)
        except OSError as error:
            raise WorkspaceError(
                f"{error.filename or self._root}: a result cannot be copied here ({error.strerror or error})",
                f"make room on the disk of {self._root}, or see who may write there",
            ) from error
        with self._guard:
            known = self._holds.get(key)
            if known is None:
                self._holds[key] = _Hold(lock)
            else:
                known.count += 1
                os.close(lock)
        return place

    def release(self, key: str) -> None:
        """Let go of a copy; once for each :meth:`hold`."""
        with self._guard:
            known = self._holds[key]
            known.count -= 1
            if known.count:
                return
            del self._holds[key]
        self._touch(key)
        os.close(known.lock)

    @contextmanager
    def using(self, key: str, fetch: Fetch) -> Iterator[Path]:
        """Hold a copy for a while."""
        place = self.hold(key, fetch)
        try:
            yield place
        finally:
            self.release(key)

    def close(self) -> None:
        """Let go of everything."""
        with self._guard:
            holds, self._holds = self._holds, {}
        for each in holds.values():
            os.close(each.lock)

    def remove(self, key: str) -> None:
        """Remove a copy, unless somebody holds it."""
        self._evict(key)

    def size(self) -> int:
        """Return how many bytes the copies have."""
        return sum(size for _, size, _ in self._copies())

    def make_room(self, incoming: int = 0, spared: float = SPARED) -> None:
        """Remove copies until there is room for so many bytes, those first that were used longest ago.

        Spared are those that are held, and those that were used during the last ``spared`` seconds.
        """
        with contextlib.suppress(BlockingIOError), self._locked("", "room", fcntl.LOCK_EX | fcntl.LOCK_NB):
            self._sweep(spared)
            copies = sorted(self._copies())
            total = sum(size for _, size, _ in copies) + incoming
            for used, size, key in copies:
                if used and (total <= self._limit or used > self._wall() - spared):
                    break
                if self._evict(key):
                    total -= size

    def _entry(self, key: str) -> Path:
        if not is_unique_id(key):
            raise ValueError(f"{key!r}: is no name of a copy")
        return self._root / "copies" / key

    def _filled(self, key: str, fetch: Fetch) -> int:
        """Return the lock that holds a copy, which is here and sound."""
        lock = self._lock(key, "held", fcntl.LOCK_SH)
        try:
            if not self._is_sound(key):
                self._fill(key, fetch)
            self._touch(key)
        except BaseException:
            os.close(lock)
            raise
        return lock

    def _fill(self, key: str, fetch: Fetch) -> None:
        with self._locked(key, "filled", fcntl.LOCK_EX):
            # Whoever had the lock before may have done it.
            if self._is_sound(key):
                return
            self._drop(self._entry(key))
            self.make_room()
            part = self._root / "parts" / key
            content = self._fetched(part, fetch)
            (part / manifests.NAME).write_bytes(Manifest("", 0, {}, {}, content).to_bytes())
            self._entry(key).parent.mkdir(parents=True, exist_ok=True)
            part.rename(self._entry(key))
        self.make_room()

    def _fetched(self, part: Path, fetch: Fetch) -> Content:
        try:
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
            return fetch(part / "result")
        except OSError as error:
            if error.errno not in _FULL:
                raise
        # The bound is one thing, the disk another: give it all that nobody holds.
        self._evict_all()
        try:
            return fetch(part / "result")
        except OSError:
            # Half of what is too large would keep the disk full.
            self._drop(part)
            raise

    def _evict_all(self) -> None:
        for _, _, key in self._copies():
            self._evict(key)

    def _is_sound(self, key: str) -> bool:
        """Whether a copy is here and holds, byte for byte, what was fetched."""
        try:
            manifest = Manifest.read(self._entry(key) / manifests.NAME)
            if manifest is None:
                return False
            manifests.verify(self.place(key), manifest, deep=True)
        except WorkspaceError:
            return False
        return True

    def _copies(self) -> list[tuple[float, int, str]]:
        """When each was used (0 for one that is of no use), how large it is, and its key."""
        found = []
        for entry in _children(self._root / "copies"):
            used, size = 0.0, 0
            with contextlib.suppress(OSError, WorkspaceError):
                manifest = Manifest.read(entry / manifests.NAME)
                if manifest is not None:
                    size = sum(size for size, _ in manifest.content.files.values())
                    used = (entry / manifests.NAME).stat().st_mtime
            found.append((used, size, entry.name))
        return found

    def _touch(self, key: str) -> None:
        with contextlib.suppress(OSError):
            os.utime(self._entry(key) / manifests.NAME)

    def _evict(self, key: str) -> bool:
        with contextlib.suppress(BlockingIOError):
            with self._locked(key, "held", fcntl.LOCK_EX | fcntl.LOCK_NB):
                self._drop(self._entry(key))
            return True
        return False

    def _drop(self, directory: Path) -> None:
        """Remove a directory, which is gone at once for whoever comes."""
        gone = self._root / "gone" / os.urandom(8).hex()
        with contextlib.suppress(FileNotFoundError):
            try:
                gone.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                directory.rename(gone)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                gone = directory
            shutil.rmtree(gone, ignore_errors=True)

    def _sweep(self, spared: float) -> None:
        """Remove what killed processes left: half removed copies, and parts that nobody goes on with."""
        for each in _children(self._root / "gone"):
            shutil.rmtree(each, ignore_errors=True)
        for part in _children(self._root / "parts"):
            with contextlib.suppress(BlockingIOError, FileNotFoundError):
                if _newest(part) > self._wall() - max(spared, SPARED):
                    continue
                with self._locked(part.name, "filled", fcntl.LOCK_EX | fcntl.LOCK_NB):
                    self._drop(part)

    def _lock_path(self, key: str, kind: str) -> Path:
        return self._root / "locks" / f"{key}.{kind}"

    def _lock(self, key: str, kind: str, how: int) -> int:
        path = self._lock_path(key, kind)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, how)
                # Whoever had it may have removed its file: nobody else would meet us there.
                with contextlib.suppress(FileNotFoundError):
                    if os.fstat(handle).st_ino == path.stat().st_ino:
                        return handle
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)

    @contextmanager
    def _locked(self, key: str, kind: str, how: int) -> Iterator[None]:
        """Be the only one. The lock's file goes with it: else there would be one for each copy ever."""
        handle = self._lock(key, kind, how)
        try:
            yield
        finally:
            self._lock_path(key, kind).unlink(missing_ok=True)
            os.close(handle)


def _children(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except FileNotFoundError:
        return []


def _newest(directory: Path) -> float:
    return max(each.lstat().st_mtime for each in (directory, *directory.rglob("*")))
