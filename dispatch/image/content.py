"""The content of one image, wherever its parts are: its configuration, and its layers as tar streams.

Owns how the layers of an image are found by their digests in several places. Refuses to send them anywhere:
that is the part of an engine, of ``shipping``, or of ``ocilayout``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class LayerContent:
    """A layer that is at hand. ``open`` gives its uncompressed tar, whose digest is ``diff_id``, as often as
    it is asked; what is damaged raises at the end of it."""

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


def image_content(config: bytes, sources: Sequence[LayerSource]) -> ImageContent:
    """Return the image of a configuration; of several sources that have a layer the first is used.

    :raises ImageError: when a layer is nowhere
    """
    raise NotImplementedError
