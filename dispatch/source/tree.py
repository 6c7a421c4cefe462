"""What a tree holds, as entries, and digests over some of them. Decides, and calls nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from dispatch.errors import SourceError, did_you_mean

SUBMODULE = "160000"


@dataclass(frozen=True)
class Entry:
    """A file, link or submodule of a tree: mode in git's octal digits, object id, path from the root."""

    mode: str
    object: str
    path: str


def parse(listing: bytes) -> tuple[Entry, ...]:
    """Read the output of ``git ls-tree -r -z``."""
    entries = []
    for line in listing.split(b"\0"):
        if line:
            facts, _, path = line.partition(b"\t")
            mode, _kind, name = facts.decode("ascii").split()
            entries.append(Entry(mode, name, path.decode("utf-8", "surrogateescape")))
    return tuple(entries)


def under(path: str, folder: str) -> bool:
    """Say whether a path is ``folder`` or lies below it; the empty folder is the root."""
    return not folder or path == folder or path.startswith(folder + "/")


def digest(entries: Iterable[Entry]) -> str:
    """SHA-256 in hexadecimal over modes, object ids and paths, in the order of the paths."""
    sha = hashlib.sha256()
    for entry in sorted(set(entries), key=lambda entry: entry.path):
        line = f"{entry.mode} {entry.object} {entry.path}"
        sha.update(line.encode("utf-8", "surrogateescape") + b"\0")
    return sha.hexdigest()


def select(entries: Sequence[Entry], paths: Iterable[str]) -> list[Entry]:
    """Return the entries at or below each of ``paths``; SourceError names a path where there is nothing."""
    chosen: list[Entry] = []
    for path in paths:
        folder = normal(path)
        found = [entry for entry in entries if under(entry.path, folder)]
        if not found and folder:
            near = did_you_mean(folder, sorted(_known(entries, folder.count("/"))))
            raise SourceError(
                f"path {path!r}: not in the repository{near}",
                "name files or folders from the repository's root, and see that git does not ignore them",
            )
        chosen += found
    return chosen


def normal(path: str) -> str:
    """Write a path from the root: ``./a//b/`` is ``a/b``, ``.`` is empty; SourceError if it leaves."""
    parts = PurePosixPath(path).parts
    if path == "" or path.startswith("/") or ".." in parts:
        raise SourceError(
            f"path {path!r}: leaves the repository", "name files or folders from the repository's root"
        )
    return "/".join(parts)


def _known(entries: Sequence[Entry], depth: int) -> set[str]:
    return {"/".join(entry.path.split("/")[: depth + 1]) for entry in entries}


def matching(entries: Iterable[Entry], test: Callable[[str], bool]) -> list[Entry]:
    """Return the entries whose path passes ``test``."""
    return [entry for entry in entries if test(entry.path)]
