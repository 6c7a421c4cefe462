"""Blobs of a registry as files, for as long as they are needed.

Owns the directory of downloads in progress: what a killed process left there is gone on with by the next one,
and several processes may want one blob. Refuses to keep anything: it is no cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from dispatch._registry import Descriptor, RegistryDoor, Transfer
from dispatch.image.filelock import file_lock
from dispatch.reporting import Task


class Downloads:
    """Downloads into ``root``; who asks gets a name of its own for them in ``room``, on the same disk."""

    def __init__(self, door: RegistryDoor, root: Path, room: Path) -> None:
        self._door = door
        self._root = root
        self._room = room

    def file(self, repository: str, task: Task, wanted: Callable[[], bool], blob: Descriptor) -> Path:
        """Return the file of a blob. Somebody else may drop theirs at any time, which does not touch it."""
        self._root.mkdir(parents=True, exist_ok=True)
        path = self._path(blob)
        own = self._room / path.name
        # There is one lock for many blobs, so that their number stays small: lock files are never removed.
        with file_lock(self._root / f"{path.name[:2]}.lock"):
            self._door.download(Transfer(repository, blob, path, task.advance, wanted))
            if not own.exists():
                own.hardlink_to(path)
        return own

    def drop(self, blobs: Sequence[Descriptor]) -> None:
        """Remove what has been used."""
        for blob in blobs:
            self._path(blob).unlink(missing_ok=True)

    def _path(self, blob: Descriptor) -> Path:
        return self._root / blob.digest.rpartition(":")[2]
