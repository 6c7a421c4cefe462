"""The cache of layers: tar files by the digest of their recipe, filled while they are being used.

Owns the files ``<key>.tar`` and ``<key>.json`` of one directory. Refuses to know what a layer contains.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dispatch.errors import ImageError
from dispatch.image.filelock import file_lock
from dispatch.image.tar import CHUNK, Stream


@dataclass(frozen=True)
class Layer:
    """A finished layer of the cache: its file, its length, and the digest of its bytes (``sha256:…``)."""

    path: Path
    diff_id: str
    size: int


class CachedLayerBroken(Exception):
    """A cached layer is no longer what it was when it was written; it has been thrown away."""


class LayerCache:
    """Layer tars by key under one directory. A layer is there whole or not at all, whatever was killed.

    Processes may share the directory: a layer is written by one at a time, the others wait for it. A
    ``fresh`` one uses no layer that it has not written itself.
    """

    def __init__(self, root: Path, fresh: bool = False) -> None:
        self._root = root
        self._fresh = fresh
        self._written: set[str] = set()

    def find(self, key: str) -> Layer | None:
        """Return the layer if it is there and as long as it was."""
        if self._fresh and key not in self._written:
            return None
        tar = self._root / f"{key}.tar"
        try:
            facts = json.loads((self._root / f"{key}.json").read_text("ascii"))
            layer = Layer(tar, str(facts["diff_id"]), int(facts["size"]))
            return layer if tar.stat().st_size == layer.size else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def all(self) -> dict[str, Layer]:
        """Return all layers that are here, by their keys."""
        keys = sorted(path.stem for path in self._root.glob("*.json"))
        return {key: layer for key in keys if (layer := self.find(key)) is not None}

    @contextmanager
    def open(self, key: str, make: Callable[[], Stream]) -> Iterator[LayerStream]:
        """Give the layer ``key`` as a stream, from the cache or from ``make``, which then fills the cache.

        Reading it to its end is what finishes it; leaving earlier leaves nothing behind.
        """
        found = self.find(key)
        if found is None:
            self._root.mkdir(parents=True, exist_ok=True)
            with file_lock(self._root / f"{key}.lock"):
                found = self.find(key)
                if found is None:
                    made = make()
                    fresh = LayerStream(made.size)
                    with closing(self._fill(key, made, fresh)) as filled:
                        yield fresh.over(filled)
                    return
        cached = LayerStream(found.size)
        with closing(self._read(key, found, cached)) as read:
            yield cached.over(read)

    def write(self, key: str, make: Callable[[], Stream]) -> Layer:
        """Make sure that the layer is in the cache, and return it."""
        with self.open(key, make) as stream:
            for _ in stream.chunks():
                pass
        layer = self.find(key)
        if layer is None:
            raise ImageError(f"layer {key[:16]}: it vanished from the cache {self._root} while it was used")
        return layer

    def _fill(self, key: str, made: Stream, stream: LayerStream) -> Generator[bytes, None, None]:
        partial = self._root / f"{key}.partial"
        digest = hashlib.sha256()
        size = 0
        try:
            with partial.open("wb") as file:
                for chunk in made.chunks():
                    digest.update(chunk)
                    size += len(chunk)
                    file.write(chunk)
                    yield chunk
            if size != made.size:
                raise ImageError(f"layer {key[:16]}: {size} bytes came where {made.size} were announced")
            stream.diff_id = f"sha256:{digest.hexdigest()}"
            self._commit(key, partial, Layer(self._root / f"{key}.tar", stream.diff_id, size))
        finally:
            partial.unlink(missing_ok=True)

    def _commit(self, key: str, partial: Path, layer: Layer) -> None:
        """Publish the tar, then the facts that make it count."""
        facts = self._root / f"{key}.json"
        facts.unlink(missing_ok=True)
        partial.replace(layer.path)
        text = json.dumps({"diff_id": layer.diff_id, "size": layer.size}, sort_keys=True)
        partial.write_text(text, "ascii")
        partial.replace(facts)
        self._written.add(key)

    def _read(self, key: str, layer: Layer, stream: LayerStream) -> Generator[bytes, None, None]:
        """Yield a cached layer, hashing it again: a power cut can leave a file long but hollow."""
        digest = hashlib.sha256()
        try:
            file = layer.path.open("rb", buffering=0)
        except FileNotFoundError as error:
            # It was pruned since it was found.
            raise CachedLayerBroken(f"layer {key[:16]} in {self._root}") from error
        with file:
            for chunk in _pieces(file):
                digest.update(chunk)
                yield chunk
        if f"sha256:{digest.hexdigest()}" != layer.diff_id:
            (self._root / f"{key}.json").unlink(missing_ok=True)
            layer.path.unlink(missing_ok=True)
            raise CachedLayerBroken(f"layer {key[:16]} in {self._root}")
        stream.diff_id = layer.diff_id


class LayerStream:
    """A layer on its way: ``diff_id`` is known once ``chunks`` has come to its end."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.diff_id = ""
        self._chunks: Iterator[bytes] = iter(())

    def over(self, chunks: Iterator[bytes]) -> LayerStream:
        """Use ``chunks`` as the bytes, and return self."""
        self._chunks = chunks
        return self

    def chunks(self) -> Iterator[bytes]:
        """Return the bytes; they come once."""
        return self._chunks


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(CHUNK):
        yield piece
