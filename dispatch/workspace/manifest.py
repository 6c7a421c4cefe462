"""The manifest of a result: every file's size and SHA-256, and where the result came from.

``manifest.json`` lies beside ``result/`` and is what makes a directory of the cache a result. It is written
by the committer, last. Refused in a result: links that lead out of it (it will be moved, mounted and copied)
and what is neither file, directory nor link.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dispatch.errors import FormatError, WorkspaceError

NAME = "manifest.json"
VERSION = 1
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Content:
    """What a result directory holds, by path: files with size and SHA-256, links with their target."""

    files: dict[str, tuple[int, str]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    directories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """A committed result: of which step and attempt, in which format, with what content.

    ``record`` and ``facts`` are the step's record and the attempt's facts as JSON, so that the cache alone
    tells everything; ``format`` is the format's name and version, or None.
    """

    unique_id: str
    attempt: int
    record: dict[str, Any]
    facts: dict[str, Any]
    content: Content
    format: dict[str, Any] | None = None

    def to_bytes(self) -> bytes:
        """Return the file's bytes: JSON with sorted keys, so equal manifests have equal bytes."""
        data = {
            "manifest": VERSION,
            "unique_id": self.unique_id,
            "attempt": self.attempt,
            "format": self.format,
            "record": self.record,
            "facts": self.facts,
            "files": {
                path: {"size": size, "sha256": sha} for path, (size, sha) in self.content.files.items()
            },
            "links": self.content.links,
            "directories": list(self.content.directories),
        }
        return (json.dumps(data, indent=1, sort_keys=True) + "\n").encode("ascii")

    @classmethod
    def read(cls, path: Path) -> Manifest | None:
        """Read a manifest; None where there is no file, WorkspaceError where it cannot be understood."""
        try:
            data = json.loads(path.read_bytes())
            if data["manifest"] > VERSION:
                raise WorkspaceError(
                    f"{path}: written by a newer version of dispatch",
                    "use that version",
                )
            files = {name: (facts["size"], facts["sha256"]) for name, facts in data["files"].items()}
            content = Content(files, data["links"], tuple(data["directories"]))
            return cls(
                data["unique_id"], data["attempt"], data["record"], data["facts"], content, data["format"]
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WorkspaceError(
                f"{path}: is damaged ({error})", f"remove {path.parent}; the step is computed again"
            ) from error


def survey(result: Path) -> Content:
    """Hash everything below ``result`` in one pass, and bring it to the disk on the way.

    FormatError names a file that cannot be part of a result.
    """
    files: dict[str, tuple[int, str]] = {}
    links: dict[str, str] = {}
    directories = []
    root = os.path.realpath(result)
    for path, entry in _walk(root, ""):
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            links[path] = _inner_link(root, path)
        elif stat.S_ISDIR(mode):
            directories.append(path)
            _sync(entry.path)
        elif stat.S_ISREG(mode):
            files[path] = _hash(entry.path)
        else:
            raise FormatError(
                f"result file {path!r}: is a socket, pipe or device",
                "leave regular files in the result directory",
            )
    _sync(root)
    return Content(files, links, tuple(sorted(directories)))


def _walk(directory: str, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(directory) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        path = prefix + entry.name
        yield path, entry
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, path + "/")


def _inner_link(root: str, path: str) -> str:
    """Return a link's target, or refuse. It is followed to its very end, since parts may be links too."""
    target = os.readlink(f"{root}/{path}")  # noqa: PTH115
    end = os.path.realpath(f"{root}/{path}")
    if target.startswith("/") or not (end == root or end.startswith(root + "/")):
        raise FormatError(
            f"result file {path!r}: is a link to {target!r}, outside of the result",
            "make it a relative link to another file of the result, or copy the file",
        )
    return target


def _hash(path: str) -> tuple[int, str]:
    sha, size = hashlib.sha256(), 0
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        while True:
            block = os.read(handle, _BLOCK)
            if not block:
                break
            sha.update(block)
            size += len(block)
        os.fsync(handle)
    finally:
        os.close(handle)
    return size, sha.hexdigest()


def _sync(directory: str) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
