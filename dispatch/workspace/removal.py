"""Taking steps out of a local workspace, whatever state their files are in.

A removal is itself an attempt at the step: nobody else can begin one meanwhile, and no attempt from before
can come back and commit. Refuses a step at which somebody who is alive works. What goes, goes by one rename
first, so that it is never seen in part; a crash in the middle leaves a step to be computed, or to be removed
again.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch.errors import WorkspaceError
from dispatch.workspace.attempts import DRAFT, END, Attempts
from dispatch.workspace.records import forgotten

if TYPE_CHECKING:
    from dispatch.workspace.disk import Disk
    from dispatch.workspace.layout import Layout

# What tells of an attempt that it has ended, and what bars it from committing.
_KEPT = (END, DRAFT)


def remove_step(layout: Layout, attempts: Attempts, disk: Disk, unique_id: str) -> None:
    """Remove all there is of a step; see :meth:`dispatch.workspace.base.Workspace.remove_step`."""
    # Nothing that is stored of the step has to be readable.
    removal = attempts.claim(forgotten(unique_id, unique_id), "", replace=True)
    try:
        take_away(disk, layout.cache(unique_id))
        take_away(disk, layout.work(unique_id))
        for number in range(1, removal.number):
            _empty(disk, layout.attempt(unique_id, number))
        # Last: as long as it is there the step is known, and can be removed again.
        take_away(disk, layout.step(unique_id))
    finally:
        attempts.end(removal, {})


def take_away(disk: Disk, path: Path) -> None:
    """Remove a file, link or directory in one rename; what is not there is fine."""
    aside = path.with_name(f".{path.name[:100]}.{os.urandom(6).hex()}")
    try:
        disk.rename(path, aside)
    except FileNotFoundError:
        return
    try:
        disk.remove(aside)
    except OSError as error:
        raise WorkspaceError(
            f"{aside}: is what was {path.name}, and cannot be deleted: {error.strerror}",
            "delete it by hand; to the workspace it is gone already",
        ) from error


def _empty(disk: Disk, directory: Path) -> None:
    """Remove what an attempt left, but that it has ended and may not commit."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(directory):  # noqa: PTH208
            path = directory / name
            if name not in _KEPT or path.is_dir():
                take_away(disk, path)
