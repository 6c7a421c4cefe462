"""The layers of a base, brought along for an engine that does not find them by their digests.

An engine with the containerd image store keeps images as registries do, and takes in only what is whole. Owns
where these layers come from: the layer cache, and the engine itself for what is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from dispatch._docker import ImageRecord
from dispatch.errors import ImageError
from dispatch.image.content import CachedLayers, LayerContent, LayerSource, checked
from dispatch.image.direct import OpenLayer
from dispatch.image.layers import LayerCache, LayerStream

SavedLayers = Callable[[ImageRecord, Path], LayerSource]
"""Gives the layers of an image of the engine, saved into a directory when they are first asked for."""


def below_of(base: ImageRecord, cache: LayerCache, saved: SavedLayers | None, room: Path) -> list[OpenLayer]:
    """Return the layers of a base, the lowest first; ImageError where one is nowhere."""
    found: dict[str, LayerContent] = {}
    sources: list[LayerSource] = [CachedLayers(cache)]
    if saved is not None:
        sources.append(saved(base, room))
    for source in sources:
        wanted = set(base.diff_ids) - set(found)
        if wanted:
            found.update(source.find(wanted))
    if absent := [each for each in base.diff_ids if each not in found]:
        raise ImageError(
            f"base {base.id[:19]}: the engine did not give its layer {absent[0][:19]}", "pull it again"
        )
    return [partial(_opened, found[each]) for each in base.diff_ids]


@contextmanager
def _opened(layer: LayerContent) -> Iterator[LayerStream]:
    stream = LayerStream(layer.size)
    stream.diff_id = layer.diff_id
    with layer.open() as chunks:
        yield stream.over(checked(chunks, layer))
