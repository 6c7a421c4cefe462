"""The files of the caches that builds keep, as what can be removed: layers, and compiled packages.

Owns which files belong together, and their last use. Refuses to read their content.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dispatch.errors import ImageError


@dataclass(frozen=True)
class CachedFile:
    """One layer or compiled package. ``last`` is when the file was last read or written, as far as the file
    system tells; ``diff_id`` is a layer's digest, empty for a package.
    """

    path: Path
    size: int
    last: float
    diff_id: str = ""
    facts: Path | None = None

    def remove(self) -> None:
        """Remove it, what makes it count first; one that is gone is no error.

        Whoever reads it has it open, and keeps it to the end. ImageError where the disk refuses.
        """
        try:
            if self.facts is not None:
                self.facts.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise ImageError(f"{self.path}: it cannot be removed: {error.strerror}") from error


def cached_files(cache: Path) -> Iterator[CachedFile]:
    """Yield what builds with this cache have kept."""
    for tar in sorted((cache / "layers").glob("*.tar")):
        facts = tar.with_suffix(".json")
        try:
            diff_id = str(json.loads(facts.read_text("ascii"))["diff_id"])
        except (OSError, ValueError, KeyError, TypeError):
            diff_id = "unfinished"
        yield from _file(tar, diff_id, facts)
    for piece in sorted((cache / "bytecode").glob("*.pyc")):
        yield from _file(piece, "", None)


def _file(path: Path, diff_id: str, facts: Path | None) -> Iterator[CachedFile]:
    try:
        status = path.stat()
    except OSError:
        return  # removed meanwhile
    yield CachedFile(path, status.st_size, max(status.st_atime, status.st_mtime), diff_id, facts)
