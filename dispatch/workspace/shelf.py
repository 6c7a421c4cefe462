"""The shelf of results: how a prepared result gets onto it, and how one that is replaced gets off.

Each move is one rename, so that a result is there whole or not at all. Knows nothing of leases: an attempt
that may not commit has no directory left to rename (see ``attempts``).
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from dispatch.errors import WorkspaceError
from dispatch.workspace import manifest as manifests
from dispatch.workspace.base import Attempt
from dispatch.workspace.disk import Disk
from dispatch.workspace.layout import Layout
from dispatch.workspace.manifest import Manifest

REPLACED = "replaced"
DISPLACED = "displaced"
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


class Shelf:
    """The directory ``cache`` of a workspace."""

    def __init__(self, layout: Layout, disk: Disk) -> None:
        self._layout = layout
        self._disk = disk

    def has_result(self, unique_id: str) -> bool:
        """Say whether there is a result of the step."""
        return os.path.exists(f"{self._layout.results}/{unique_id}/{manifests.NAME}")  # noqa: PTH110

    def number(self, unique_id: str) -> int | None:
        """Return the attempt that made the result; None where there is none, or nobody can tell."""
        try:
            manifest = Manifest.read(self._layout.cache(unique_id) / manifests.NAME)
        except WorkspaceError:
            return None
        return None if manifest is None else manifest.attempt

    def adopt(self, draft: Path, attempt: Attempt) -> None:
        """Rename a prepared result in, unless there is one that it does not replace: then it is dropped.

        OSError if the draft is no directory any more; what was put aside for it is then put back.
        """
        unique_id, target = attempt.unique_id, self._layout.cache(attempt.unique_id)
        aside: Path | None = None
        while attempt.replaces or not self.has_result(unique_id):
            try:
                self._disk.rename_dir(draft, target)
            except OSError as error:
                if error.errno not in _OCCUPIED or not draft.is_dir():
                    if aside is not None:
                        self.put_back(aside, target)
                    raise
                if attempt.replaces and self.has_result(unique_id):
                    aside = self._put_aside(target, attempt) or aside
                else:
                    self._displace(target, attempt)
            else:
                self._disk.sync(self._layout.results)
                return
        self._disk.remove(draft)

    def put_back(self, aside: Path, target: Path) -> bool:
        """Rename a result in again, unless there is one meanwhile. Say whether it was."""
        with contextlib.suppress(OSError):
            self._disk.rename_dir(aside, target)
            return True
        return False

    def _put_aside(self, target: Path, attempt: Attempt) -> Path | None:
        """Move the result that is to be replaced to the attempt that made it; None where it is gone."""
        number = self.number(attempt.unique_id)
        home = attempt.directory if number is None else self._layout.attempt(attempt.unique_id, number)
        self._disk.make_dir(home)
        aside = home / REPLACED
        if aside.exists():
            aside = home / f"{REPLACED}.{os.urandom(6).hex()}"
        try:
            self._disk.rename(target, aside)
        except FileNotFoundError:
            return None
        self._disk.sync(home)
        return aside

    def _displace(self, target: Path, attempt: Attempt) -> None:
        """Move what is no result, for want of a manifest, out of the way.

        If somebody else put a result there at that very moment, it is put back.
        """
        aside = attempt.directory / f"{DISPLACED}.{os.urandom(6).hex()}"
        if self.has_result(attempt.unique_id):
            return
        try:
            self._disk.rename(target, aside)
        except FileNotFoundError:
            return
        if (aside / manifests.NAME).exists():
            self.put_back(aside, target)
