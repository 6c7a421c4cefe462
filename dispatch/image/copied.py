"""The layer of files that a declaration copies into an image (``copy:``), from the host's disk.

Owns what is taken of a directory (all but ``.git`` and ``__pycache__``), the digest over it, and where copies
may go. Owners, times and permissions of the host are not copied: a file is root's, and executable or not.
Refuses what a layer would break: places of the kernel and of a job, and what a base may have as links.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dispatch.environment import CopiedFile
from dispatch.errors import ConfigurationError, ImageError
from dispatch.image.spec import EPOCH, LayerRecipe, canonical_digest
from dispatch.image.tar import CAPABILITY, CHUNK, Entry, Kind, Stream, TarStream, with_parents

_FILES = 1
_LEFT_OUT = frozenset({".git", "__pycache__"})
# Of another mode than 755 in every base; an entry of ours would change it.
_MODES = {"tmp": 0o1777, "var/tmp": 0o1777, "root": 0o700}
_LINKS = frozenset({"bin", "sbin", "lib", "lib32", "lib64", "libx32", "var/run", "var/lock"})
_REFUSED = frozenset({"proc", "sys", "dev", "run", "dispatch"})


@dataclass(frozen=True)
class CopiedFiles:
    """The files of some copies as they are now: the entries of their layer, and the digest over them."""

    entries: tuple[Entry, ...]
    digest: str

    def recipe(self) -> LayerRecipe:
        """Return how the layer is made."""
        return LayerRecipe("files", _FILES, (("content", self.digest),))

    def layer(self, recipe: LayerRecipe) -> Stream:
        """Return the layer; ImageError where the files are no longer those that were planned with."""
        if self.recipe() != recipe:
            raise ImageError(
                "the files that are copied into the image changed while it was built",
                remedy="repeat the command",
            )
        return TarStream(self.entries, EPOCH)


def copied_files(copies: Sequence[CopiedFile]) -> CopiedFiles:
    """Read the files of ``copies``; ConfigurationError where one is missing, or may not go where it is to."""
    entries: dict[str, Entry] = {}
    for copy in copies:
        for entry in _entries(copy):
            if entries.setdefault(entry.path, entry) is not entry and entry.kind is not Kind.DIRECTORY:
                raise ConfigurationError(
                    f"copy: two files go to /{entry.path}", remedy="give each a place of its own"
                )
    for path in with_parents(entries):
        mode = _MODES.get(path, 0o755)
        entries.setdefault(path, Entry(path, Kind.DIRECTORY, mode))
    ordered = tuple(entry for _, entry in sorted(entries.items()))
    document = [
        [entry.path, entry.kind.name, entry.mode, entry.target, _content(entry), entry.capability.hex()]
        for entry in ordered
    ]
    return CopiedFiles(ordered, canonical_digest(document))


def files_recipes(copies: Sequence[CopiedFile]) -> list[LayerRecipe]:
    """Return the recipe of the layer of ``copies``; none where nothing is copied."""
    return [copied_files(copies).recipe()] if copies else []


def _entries(copy: CopiedFile) -> Iterator[Entry]:
    place = _place(copy)
    source = copy.source
    if source.is_dir() and not source.is_symlink():
        yield Entry.directory(place)
        yield from _below(source, place)
    elif source.is_file() or source.is_symlink():
        yield _entry(source, place)
    else:
        fact = "is neither a file nor a directory" if source.exists() else "is not there"
        raise ConfigurationError(f"copy: {source}: it {fact}", remedy="correct `copy:`")


def _place(copy: CopiedFile) -> str:
    """Return where a copy goes, relative to the root; a slash at its end makes it a directory for a file."""
    target = copy.target
    if target.endswith("/") and not copy.source.is_dir():
        target += copy.source.name
    parts = PurePosixPath(target).parts
    place = "/".join(parts[1:])
    problem = None
    if not target.startswith("/") or ".." in parts or not place:
        problem = "it is not an absolute path below the root"
    elif parts[1] in _REFUSED:
        problem = f"nothing of an image is seen in /{parts[1]}"
    else:
        for linked in {parts[1], "/".join(parts[1:3])} & _LINKS:
            problem = f"/{linked} may be a link in the base: name what it leads to"
    if problem is not None:
        raise ConfigurationError(f"copy: {copy.target}: {problem}", remedy="name another place in `copy:`")
    return place


def _below(directory: Path, place: str) -> Iterator[Entry]:
    with os.scandir(directory) as found:
        items = sorted((item for item in found if item.name not in _LEFT_OUT), key=lambda item: item.name)
    for item in items:
        path = Path(item.path)
        name = os.fsencode(item.name).decode("utf-8", "surrogateescape")
        if item.is_dir(follow_symlinks=False):
            yield Entry.directory(f"{place}/{name}")
            yield from _below(path, f"{place}/{name}")
        elif item.is_symlink() or item.is_file():
            yield _entry(path, f"{place}/{name}")
        else:
            raise ConfigurationError(f"copy: {path}: it is neither a file, a directory nor a link")


def _entry(path: Path, place: str) -> Entry:
    if path.is_symlink():
        target = os.readlink(os.fsencode(path)).decode("utf-8", "surrogateescape")  # noqa: PTH115 (bytes)
        return Entry.symlink(place, target)
    status = path.stat()
    capability = b""
    with contextlib.suppress(OSError):  # there is none, or the file system has none
        capability = os.getxattr(path, CAPABILITY)
    mode = 0o755 if status.st_mode & 0o100 else 0o644
    return Entry(place, Kind.FILE, mode, status.st_size, source=os.fsencode(path), capability=capability)


def _content(entry: Entry) -> str:
    if entry.source is None:
        return ""
    digest = hashlib.sha256()
    try:
        with open(entry.source, "rb", buffering=0) as file:  # noqa: PTH123 (the path is bytes)
            while piece := file.read(CHUNK):
                digest.update(piece)
    except OSError as error:
        raise ConfigurationError(f"copy: {os.fsdecode(entry.source)}: {error.strerror}") from error
    return digest.hexdigest()
