"""An image that only an engine holds, brought over by ``docker save``.

Owns that this is done once, and only when it is needed: the engine puts together all of an image before it
gives the first byte of it.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Protocol

from dispatch._docker import ImageRecord
from dispatch.errors import ImageError
from dispatch.image.config import image_id
from dispatch.image.content import LayerContent, file_bytes
from dispatch.image.loading import Loaded, read_archive
from dispatch.image.tar import CHUNK


class Saved(Protocol):
    """An archive on its way."""

    def read(self, count: int = -1) -> bytes:
        """Return exactly so many bytes, fewer only at the end."""

    def close(self) -> None:
        """Drop it."""


class SavingStore(Protocol):
    """An engine that gives images away. All methods may raise EngineError."""

    def save(self, image_id: str) -> Saved:
        """Return the archive of an image; the caller closes it."""


class SavedImage:
    """One image of an engine, laid down in the directory ``room`` when a thread first needs it.

    Methods raise EngineError where the engine breaks off, ImageError where what it gives is damaged.
    """

    def __init__(self, engine: SavingStore, record: ImageRecord, room: Path) -> None:
        self._engine = engine
        self._record = record
        self._room = room
        self._lock = threading.Lock()
        self._loaded: Loaded | None = None

    def config(self) -> bytes:
        """Return the image's configuration, whose digest is its ID."""
        config = self._save().config
        if image_id(config) != self._record.id:
            raise ImageError(
                f"image {self._record.id[:19]}: the engine knows it by another digest than this",
                "an engine with the containerd image store does so: build the image here, or push it with it",
            )
        return config

    def find(self, diff_ids: Collection[str]) -> Mapping[str, LayerContent]:
        """Return the image's layers; see ``content.LayerSource``."""
        if not set(diff_ids) & set(self._record.diff_ids):
            return {}
        layers = self._save().layers
        return {
            each: LayerContent(each, path.stat().st_size, partial(file_bytes, path))
            for each, path in layers.items()
            if each in diff_ids
        }

    def _save(self) -> Loaded:
        with self._lock:
            if self._loaded is None:
                with closing(self._engine.save(self._record.id)) as stream:
                    self._loaded = read_archive(_chunks(stream), self._room)
            return self._loaded


def _chunks(stream: Saved) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK):
        yield chunk
