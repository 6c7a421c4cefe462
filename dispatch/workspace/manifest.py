"""The manifest of a result: every file's size and SHA-256, and where the result came from.

``manifest.json`` lies beside ``result/`` and is what makes a directory of the cache a result. It is written
by the committer, last, and what lies there later is held against it. Refused in a result: links that lead out
of it (it will be moved, mounted and copied) and what is neither file, directory nor link.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dispatch.errors import FormatError, WorkspaceError

NAME = "manifest.json"
VERSION = 1
_BLOCK = 1 << 18
# What was a file when we looked may be a link or a pipe by now, if somebody means us harm.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
REMEDY = "`dispatch repair` sets the damaged result aside; the step is computed again"


class DamagedError(WorkspaceError):
    """A result or its manifest is not what was committed: at ``path`` there is ``fact``."""

    def __init__(self, path: str, fact: str, remedy: str = REMEDY) -> None:
        super().__init__(f"{path}: {fact}", remedy)
        self.path = path
        self.fact = fact


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
        """Return the file's bytes: JSON with sorted keys, so equal manifests have equal bytes.

        The first line has the SHA-256 of all the others.
        """
        rest = f"{json.dumps(self.to_json(), sort_keys=True)[1:]}\n".encode("ascii")
        return _seal(rest) + rest

    def to_json(self) -> dict[str, Any]:
        """Return the manifest in JSON types."""
        return {
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

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Manifest:
        """Read :meth:`to_json`'s; KeyError, TypeError, ValueError or AttributeError for anything else."""
        files = {name: (facts["size"], facts["sha256"]) for name, facts in data["files"].items()}
        content = Content(files, data["links"], tuple(data["directories"]))
        return cls(data["unique_id"], data["attempt"], data["record"], data["facts"], content, data["format"])

    @classmethod
    def read(cls, path: Path) -> Manifest | None:
        """Read a manifest; None where there is no file.

        DamagedError where it cannot be understood, WorkspaceError where only a newer version could, or where
        it cannot be read.
        """
        try:
            stored = path.read_bytes()
            first, _, rest = stored.partition(b"\n")
            # Those of the first versions were not sealed; they are all in one piece.
            if rest and first.startswith(b'{"seal"') and first + b"\n" != _seal(rest):
                raise ValueError("other bytes than were written")
            data = json.loads(stored)
            if data["manifest"] > VERSION:
                raise WorkspaceError(
                    f"{path}: written by a newer version of dispatch",
                    "use that version",
                )
            return cls.from_json(data)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (KeyError, TypeError, ValueError, AttributeError, IsADirectoryError) as error:
            raise DamagedError(
                str(path),
                f"is damaged ({error})",
                f"run `dispatch repair`, or remove {path.parent}; the step is computed again",
            ) from error
        except OSError as error:
            raise _unreadable(path, error) from error


def _seal(rest: bytes) -> bytes:
    return b'{"seal": "%s",\n' % hashlib.sha256(rest).hexdigest().encode("ascii")


def _unreadable(path: object, error: OSError) -> WorkspaceError:
    return WorkspaceError(
        f"{path}: cannot be read ({error.strerror})", "see who may read it, and to the disk"
    )


def survey(result: Path, look: Callable[[str], tuple[int, str]] | None = None) -> Content:
    """Hash everything below ``result`` in one pass. FormatError names a file that cannot be in a result.

    Whoever hashes the files elsewhere gives ``look``, which says for a path what is to be taken down of it.
    """
    look = look or _hash
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
        elif stat.S_ISREG(mode):
            files[path] = look(entry.path)
        else:
            raise FormatError(
                f"result file {path!r}: is a socket, pipe or device",
                "leave regular files in the result directory",
            )
    return Content(files, links, tuple(sorted(directories)))


def settle(result: Path, content: Content, flush: Callable[[int], None]) -> None:
    """Bring all that was surveyed to the disk; ``flush`` does so with an open file or directory."""
    for path in (*content.files, *content.directories, "."):
        handle = os.open(f"{result}/{path}", _READ)
        try:
            flush(handle)
        finally:
            os.close(handle)


def verify(result: Path, manifest: Manifest, *, deep: bool) -> None:
    """Hold a result directory against its manifest. DamagedError names the first file that differs, and how.

    Always compared: which files, links and directories there are, what kind each is, sizes, links' targets.
    With ``deep`` every byte is read and hashed, too. Links are never followed. WorkspaceError where something
    cannot be read.
    """
    content = manifest.content
    missing = {*content.files, *content.links, *content.directories}
    try:
        if not stat.S_ISDIR(result.lstat().st_mode):
            raise DamagedError(str(result), "is not a directory")
        for path, entry in _walk(str(result), ""):
            _hold(entry, path, content, deep)
            missing.discard(path)
    except FileNotFoundError as error:
        raise DamagedError(str(error.filename or result), "is missing") from error
    except OSError as error:
        raise _unreadable(error.filename or result, error) from error
    if missing:
        raise DamagedError(f"{result}/{min(missing)}", "is missing")


def _hold(entry: os.DirEntry[str], path: str, content: Content, deep: bool) -> None:
    facts = entry.stat(follow_symlinks=False)
    if path in content.files:
        size, sha = content.files[path]
        if not stat.S_ISREG(facts.st_mode):
            raise DamagedError(entry.path, "is not a regular file")
        if facts.st_size != size:
            raise DamagedError(entry.path, f"has {facts.st_size} bytes instead of {size}")
        if deep and _hash(entry.path) != (size, sha):
            raise DamagedError(entry.path, "has other bytes than were committed")
    elif path in content.links:
        if not stat.S_ISLNK(facts.st_mode):
            raise DamagedError(entry.path, "is not a link")
        target = os.readlink(entry.path)  # noqa: PTH115
        if target != content.links[path]:
            raise DamagedError(entry.path, f"is a link to {target!r} instead of {content.links[path]!r}")
    elif path not in content.directories:
        raise DamagedError(entry.path, "is not part of the result that was committed")
    elif not stat.S_ISDIR(facts.st_mode):
        raise DamagedError(entry.path, "is not a directory")


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
    buffer = memoryview(bytearray(_BLOCK))
    handle = os.open(path, _READ)
    try:
        while True:
            got = os.readv(handle, [buffer])
            if not got:
                break
            sha.update(buffer[:got])
            size += got
    finally:
        os.close(handle)
    return size, sha.hexdigest()
