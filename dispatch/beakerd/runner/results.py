"""What a job left behind at its result path, laid down as the files of its result dataset.

Owns which of it is kept: regular files; links to such files inside of the result become copies (as the public
client makes of them), other links, devices, pipes and names that are no text are left out, and said. Nothing
is ever laid down outside of its place. What an earlier try laid down is replaced.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from dispatch._docker.archive import BLOCK, CutError, Source, reading
from dispatch.beakerd.store.datasets import FileRow

METRICS = "metrics.json"
METRICS_LIMIT = 1 << 20


@dataclass
class Captured:
    """What was kept, as rows, and sentences on what was not. ``metrics`` is JSON text, if there are any."""

    rows: list[FileRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    metrics: str | None = None


def capture(source: Source, target: Path, now: Callable[[], int]) -> Captured:
    """Lay down an archive as the tree ``target``.

    :raises CutError: when the archive breaks off
    :raises OSError: when the disk does not take it
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    taking = _Taking(target, now)
    with reading(source) as archive:
        for info in archive:
            taking.take(archive, info)
    taking.link()
    # For whatever user another job has, which this may be mounted into; whatever the server's umask is.
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    captured = taking.captured
    captured.metrics = _metrics(target / METRICS, captured.notes)
    return captured


class _Taking:
    """One capture, while it goes on."""

    def __init__(self, target: Path, now: Callable[[], int]):
        self._target = target
        self._now = now
        self._files: dict[str, tuple[int, bytes]] = {}
        self._links: list[tuple[str, str]] = []
        self._left_out: list[str] = []
        self.captured = Captured()

    def take(self, archive: tarfile.TarFile, info: tarfile.TarInfo) -> None:
        """Keep an entry, or not."""
        name = _name(info.name)
        if name == "" and info.isdir():
            return
        if name is None or not name:
            self._left_out.append(info.name)
        elif info.isdir():
            (self._target / name).mkdir(parents=True, exist_ok=True)
        elif info.isreg():
            content = archive.extractfile(info)
            assert content is not None
            self._keep(name, *self._write(name, content, info.size))
        elif info.issym():
            self._links.append(
                (name, posixpath.normpath(posixpath.join(posixpath.dirname(name), info.linkname)))
            )
        elif info.islnk():
            self._links.append((name, _name(info.linkname) or ""))
        else:
            self._left_out.append(name)

    def link(self) -> None:
        """Make copies of what links lead to, also through other links; say what was left out."""
        known = dict(self._links)
        for name, first in self._links:
            steps = 0
            while first in known and first not in self._files and steps <= len(known):
                first, steps = known[first], steps + 1
            if first not in self._files:
                self._left_out.append(name)
                continue
            path = self._target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(self._target / first, path)
            self._keep(name, *self._files[first])
        if self._left_out:
            shown = ", ".join(repr(each) for each in self._left_out[:5])
            more = len(self._left_out) - 5
            self.captured.notes.append(
                f"left out of the result, for they are no regular files: {shown}"
                + (f" and {more} more" if more > 0 else "")
            )

    def _keep(self, name: str, size: int, digest: bytes) -> None:
        self._files[name] = size, digest
        self.captured.rows.append((name, size, digest, self._now()))

    def _write(self, name: str, content: IO[bytes], size: int) -> tuple[int, bytes]:
        path = self._target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        seen, left = hashlib.sha256(), size
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            while left:
                block = content.read(min(left, BLOCK))
                if not block:
                    raise CutError(f"{name} ends too early")
                seen.update(block)
                view = memoryview(block)
                while view:
                    view = view[file.write(view) :]
                left -= len(block)
        return size, seen.digest()


def _name(name: str) -> str | None:
    """An entry's path below the result: empty for the top, None for one that leads out or is no text."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        return None
    try:
        name.encode()
    except UnicodeEncodeError:
        return None
    return "/".join(path.parts)


def _metrics(path: Path, notes: list[str]) -> str | None:
    """The text of the metrics, if that is what the file holds."""
    try:
        if path.stat().st_size > METRICS_LIMIT:
            notes.append(f"{METRICS} is larger than {METRICS_LIMIT} bytes: no metrics")
            return None
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError, OSError) as error:
        notes.append(f"{METRICS} cannot be read: {error}")
        return None
    if not isinstance(found, dict):
        notes.append(f"{METRICS} holds no object: no metrics")
        return None
    return json.dumps(found)
