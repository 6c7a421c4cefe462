"""An archive in the format of ``docker save``, taken apart while it comes in.

Owns which of its members are layers, and that each is what the image's configuration says. Layers go to
files, uncompressed; links, by which some engines name one layer twice, are followed. Refuses to keep them.
"""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dispatch.errors import ImageError
from dispatch.image.content import pieces, read_config
from dispatch.image.packing import unpacked
from dispatch.image.tar import CHUNK

# What is read into memory: a manifest or a configuration is never longer.
_SMALL = 8 << 20


@dataclass(frozen=True)
class Loaded:
    """An image of an archive: its configuration, and the files of its layers by their digests."""

    config: bytes
    layers: Mapping[str, Path]


@dataclass(frozen=True)
class _Member:
    path: Path
    digest: str


def read_archive(chunks: Iterable[bytes], room: Path) -> Loaded:
    """Read the archive of one image to its end; its layers are laid down in ``room``.

    :raises ImageError: when it is none, or ends early, or a layer is not what its digest says
    """
    members: dict[str, _Member] = {}
    links: dict[str, str] = {}
    source = io.BufferedReader(_Chunks(iter(chunks)), CHUNK)
    try:
        with tarfile.open(fileobj=source, mode="r|", bufsize=CHUNK) as archive:
            for entry in archive:
                if entry.issym() or entry.islnk():
                    links[entry.name] = _target(entry)
                elif (file := archive.extractfile(entry)) is not None:
                    members[entry.name] = _laid_down(file, room / f"member-{len(members)}")
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise ImageError(f"archive of an image: it is damaged: {error}") from error
    return _image(members, links)


def _image(members: Mapping[str, _Member], links: Mapping[str, str]) -> Loaded:
    def member(name: str) -> _Member | None:
        return members.get(links.get(name, name))

    try:
        (image,) = json.loads(_small(member("manifest.json")))
        config = _small(member(image["Config"]))
        names = [str(name) for name in image["Layers"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ImageError("archive of an image: it does not say which image it holds") from error
    diff_ids = read_config(config).diff_ids
    if len(names) != len(diff_ids):
        raise ImageError("archive of an image: its manifest and its configuration do not agree")
    layers = {}
    for name, diff_id in zip(names, diff_ids, strict=True):
        found = member(name)
        if found is not None and found.digest != diff_id:
            raise ImageError(f"archive of an image: layer {diff_id[:19]} is not what its digest says")
        if found is not None:
            layers[diff_id] = found.path
    return Loaded(config, layers)


def _small(member: _Member | None) -> bytes:
    if member is None or member.path.stat().st_size > _SMALL:
        raise ValueError("it is not there")
    return member.path.read_bytes()


def _target(entry: tarfile.TarInfo) -> str:
    if entry.islnk():
        return entry.linkname
    return posixpath.normpath(posixpath.join(posixpath.dirname(entry.name), entry.linkname))


def _laid_down(file: IO[bytes], path: Path) -> _Member:
    digest = hashlib.sha256()
    with path.open("wb") as target:
        for chunk in unpacked(pieces(file)):
            digest.update(chunk)
            target.write(chunk)
    return _Member(path, f"sha256:{digest.hexdigest()}")


class _Chunks(io.RawIOBase):
    """Chunks as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """It is for nothing else."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """See :class:`io.RawIOBase`."""
        if not self._rest:
            self._rest = memoryview(next(self._chunks, b""))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
