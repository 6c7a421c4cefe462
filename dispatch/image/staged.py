"""What an installer left in a staging prefix, as it was found: files and symbolic links.

Refuses to judge or to change anything: the files may be links into the installer's own cache.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from dispatch.image.tar import Entry, Kind


@dataclass(frozen=True)
class StagedFile:
    """A file; ``path`` is relative to the staging prefix, ``prefix`` is where that will be in the image.

    ``inode`` identifies its content among the files of the prefix: two with one inode are one file.
    """

    path: str
    prefix: str
    source: bytes
    size: int
    executable: bool
    inode: tuple[int, int]

    def read(self) -> bytes:
        """Return the content."""
        with open(self.source, "rb") as file:  # noqa: PTH123 (the path is bytes)
            return file.read()

    def entry(self, data: bytes | None = None) -> Entry:
        """Return the file's entry in the layer, with other content where ``data`` is given."""
        mode = 0o755 if self.executable else 0o644
        place = f"{self.prefix[1:]}/{self.path}"
        return (
            Entry.file(place, data, mode)
            if data is not None
            else Entry(place, Kind.FILE, mode, self.size, source=self.source)
        )


@dataclass(frozen=True)
class StagedLink:
    """A symbolic link; ``path`` and ``prefix`` as for a file."""

    path: str
    prefix: str
    target: str

    def entry(self) -> Entry:
        """Return the link's entry in the layer."""
        return Entry.symlink(f"{self.prefix[1:]}/{self.path}", self.target)


def scan(root: bytes, prefix: str, below: str = "") -> Iterator[StagedFile | StagedLink]:
    """Yield what is under ``root``; names come as UTF-8 whatever the locale is."""
    with os.scandir(root) as found:
        items = list(found)
    for item in items:
        path = below + item.name.decode("utf-8", "surrogateescape")
        if item.is_symlink():
            target = os.readlink(item.path).decode("utf-8", "surrogateescape")  # noqa: PTH115 (bytes)
            yield StagedLink(path, prefix, target)
        elif item.is_dir():
            yield from scan(item.path, prefix, f"{path}/")
        else:
            status = item.stat()
            runs = bool(status.st_mode & 0o100)
            yield StagedFile(path, prefix, item.path, status.st_size, runs, (status.st_dev, status.st_ino))
