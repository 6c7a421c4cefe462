"""The content of one image, wherever its parts are: its configuration, and its layers as tar streams.

Owns how the layers of an image are found by their digests in several places, and the archive that engines
load. Refuses to send them anywhere: that is the part of an engine, of ``shipping``, or of ``ocilayout``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Protocol

from dispatch._docker import ImageRecord
from dispatch.errors import ImageError
from dispatch.image.config import image_id
from dispatch.image.layers import CachedLayerBroken, LayerCache
from dispatch.image.tar import CHUNK, END, Entry, Stream, header, padded


@dataclass(frozen=True)
class LayerContent:
    """A layer that is at hand. ``open`` gives its uncompressed tar of ``size`` bytes, whose digest is
    ``diff_id``, as often as it is asked; one that turns out damaged raises at its end."""

    diff_id: str
    size: int
    open: Callable[[], AbstractContextManager[Iterator[bytes]]]


class LayerSource(Protocol):
    """A place where layers may be."""

    def find(self, diff_ids: Collection[str]) -> Mapping[str, LayerContent]:
        """Return those of the layers that are here, by their digests."""


@dataclass(frozen=True)
class ImageContent:
    """A whole image. The digest of ``config`` is the image ID; the lowest layer comes first."""

    config: bytes
    layers: tuple[LayerContent, ...]

    @property
    def image_id(self) -> str:
        """The image ID."""
        return image_id(self.config)


class CachedLayers:
    """The layers of the layer cache, whatever recipe they are of."""

    def __init__(self, cache: LayerCache) -> None:
        self._cache = cache

    def find(self, diff_ids: Collection[str]) -> Mapping[str, LayerContent]:
        """See :class:`LayerSource`."""
        found = {}
        for key, layer in self._cache.all().items():
            if layer.diff_id in diff_ids:
                found[layer.diff_id] = LayerContent(layer.diff_id, layer.size, partial(self._open, key))
        return found

    @contextmanager
    def _open(self, key: str) -> Iterator[Iterator[bytes]]:
        def vanished() -> Stream:
            raise CachedLayerBroken(f"layer {key[:16]} vanished from the cache")

        try:
            with self._cache.open(key, vanished) as stream:
                yield stream.chunks()
        except CachedLayerBroken as error:
            raise ImageError(f"{error} is damaged, and was thrown away", "repeat the command") from error


def image_content(config: bytes, sources: Sequence[LayerSource]) -> ImageContent:
    """Return the image of a configuration; of several sources that have a layer the first is used.

    :raises ImageError: when a layer is nowhere
    """
    diff_ids = read_config(config).diff_ids
    found: dict[str, LayerContent] = {}
    for source in sources:
        wanted = set(diff_ids) - set(found)
        if wanted:
            found.update(source.find(wanted))
    absent = [each for each in diff_ids if each not in found]
    if absent:
        raise ImageError(
            f"image {image_id(config)[:19]}: {len(absent)} of its {len(diff_ids)} layers are not at hand"
            f" ({absent[0][:19]})",
            "build it again (`dispatch build --force`)",
        )
    return ImageContent(config, tuple(found[each] for each in diff_ids))


def read_config(config: bytes, tags: Sequence[str] = ()) -> ImageRecord:
    """Return what the configuration of an image says, as an engine that held the image would.

    :raises ImageError: when it is none
    """
    try:
        document = json.loads(config)
        container = document.get("config") or {}
        return ImageRecord(
            id=image_id(config),
            labels=container.get("Labels") or {},
            diff_ids=tuple(map(str, document["rootfs"]["diff_ids"])),
            config=container,
            tags=tuple(tags),
            architecture=str(document.get("architecture", "")),
            os=str(document.get("os", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ImageError(f"image {image_id(config)[:19]}: its configuration cannot be read") from error


@dataclass(frozen=True)
class Part:
    """A layer as a member of an archive: so many bytes, a tar that may be compressed."""

    size: int
    open: Callable[[], AbstractContextManager[Iterator[bytes]]]


def archive(content: ImageContent, held: int = 0) -> Iterator[bytes]:
    """Yield an image in the format of ``docker save``, without its ``held`` lowest layers; no chunk is empty.

    :raises ImageError: when a layer is not what its digest says
    """
    parts = [Part(layer.size, partial(_verified, layer)) for layer in content.layers[held:]]
    return archive_of(content.config, [*[None] * min(held, len(content.layers)), *parts])


def archive_of(config: bytes, layers: Sequence[Part | None]) -> Iterator[bytes]:
    """Yield the archive of an image; the layers that are None are left to be known by whoever loads it."""
    names = [f"layer-{number}.tar" for number in range(len(layers))]
    for name, layer in zip(names, layers, strict=True):
        if layer is None:
            continue
        yield header(Entry(name, size=layer.size), 0)
        with layer.open() as chunks:
            yield from chunks
        if padding := padded(layer.size) - layer.size:
            yield bytes(padding)
    manifest = json.dumps([{"Config": "config.json", "RepoTags": None, "Layers": names}]).encode("ascii")
    for name, data in (("config.json", config), ("manifest.json", manifest)):
        yield header(Entry.file(name, data), 0) + data + bytes(padded(len(data)) - len(data))
    yield END


@contextmanager
def _verified(layer: LayerContent) -> Iterator[Iterator[bytes]]:
    with layer.open() as chunks:
        yield checked(chunks, layer)


@contextmanager
def file_bytes(path: Path) -> Iterator[Iterator[bytes]]:
    """Give the bytes of a file."""
    with path.open("rb", buffering=0) as file:
        yield pieces(file)


def pieces(file: IO[bytes]) -> Iterator[bytes]:
    """Yield what is left of a file."""
    while piece := file.read(CHUNK):
        yield piece


def checked(chunks: Iterator[bytes], layer: LayerContent) -> Iterator[bytes]:
    """Yield the bytes of a layer and raise ImageError at their end if they are not what its digest says."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
        yield chunk
    if f"sha256:{digest.hexdigest()}" != layer.diff_id or size != layer.size:
        raise ImageError(
            f"layer {layer.diff_id[:19]}: it is not what its digest says", "build the image again"
        )
