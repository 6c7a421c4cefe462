"""The images of a team in one repository of a registry, each under its tag.

Owns where the parts of an image come from when it is pushed: layers from the cache of those who built it, and
only what is nowhere else from the engine. Refuses to decide which images are looked for, and to speak HTTP.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from dispatch._docker import ImageRecord
from dispatch._registry import Reference, parse_reference
from dispatch.errors import ImageError
from dispatch.image.config import image_config, is_image_of
from dispatch.image.content import CachedLayers, LayerContent, image_content
from dispatch.image.context import DOCKERFILE
from dispatch.image.layers import LayerCache
from dispatch.image.ports import ImageStore, SharedImage
from dispatch.image.saved import SavedImage, SavingStore
from dispatch.image.shipping import Published, Shipping
from dispatch.image.spec import BASE_DIGEST_LABEL, DIGEST_LABEL, ImageSpec
from dispatch.image.staging import staging
from dispatch.reporting import Reporter


class Holding(Protocol):
    """What an engine holds (``_docker.stock.Stock``)."""

    def lowest_held(self, diff_ids: Sequence[str]) -> int:
        """Return how many of the lowest layers of an image need not be sent."""


class SharingEngine(ImageStore, SavingStore, Protocol):
    """An engine that takes images in and gives them away."""

    @property
    def stock(self) -> Holding:
        """All that it holds."""


class Sharing:
    """Images in the repository ``place``, for one engine. Satisfies ``ports.SharedImages``.

    ``cache`` is that of those who build. Making one sends nothing.
    """

    def __init__(self, shipping: Shipping, place: Reference, engine: SharingEngine, cache: Path) -> None:
        self._shipping = shipping
        self._place = place
        self._engine = engine
        self._cache = cache
        self._found: dict[str, Published] = {}
        self._fetching = threading.Lock()

    @property
    def repository(self) -> str:
        """What stands before a tag there."""
        return self._place.name

    def find(self, tag: str, platform: str) -> SharedImage | None:
        """Return the image of a tag for a platform, or None."""
        published = self._shipping.find(self._place.tagged(tag), platform)
        if published is None:
            return None
        reference = str(published.reference)
        self._found[reference] = published
        return SharedImage(reference, published.record)

    def fetch(self, image: SharedImage, report: Reporter) -> None:
        """Bring an image into the engine, but for the lower layers that it holds.

        One at a time: what it has in common with the next one, a base above all, is there then.
        """
        with self._fetching:
            held = self._engine.stock.lowest_held(image.record.diff_ids)
            self._pull(image, image.record.diff_ids[:held], report)

    def _pull(self, image: SharedImage, held: Sequence[str], report: Reporter) -> None:
        try:
            self._shipping.pull(self._found[image.reference], self._engine, report, held)
        except ImageError:
            # An engine with the containerd image store has it, and names it by another digest.
            wanted = image.record
            named = self._engine.find_image(
                DIGEST_LABEL,
                wanted.labels.get(DIGEST_LABEL, ""),
                lambda each: each.by_manifest and each.diff_ids == wanted.diff_ids,
            )
            if named is None:
                raise

    def push(self, name: str, spec: ImageSpec, image_id: str, report: Reporter) -> SharedImage:
        """Send the engine's image of a specification, and give it the tag of ``name`` last."""
        record = self._engine.inspect_image(image_id)
        if record is None:
            raise ImageError(f"image {name!r}: the engine no longer holds it", "repeat the command")
        base = self._engine.inspect_image(record.labels.get(BASE_DIGEST_LABEL) or record.id)
        with staging(self._cache / "staging") as room:
            saved = SavedImage(self._engine, record, room)
            sources = (CachedLayers(LayerCache(self._cache / "layers")), _WhenNeeded(saved, record))
            content = image_content(_config(spec, record, base) or saved.config(), sources)
            origins = base.digests if base is not None else ()
            tag = self._place.tagged(spec.tag(name))
            pushed = self._shipping.push(content, tag, report, origins)
        return SharedImage(pushed.reference, record)


def _config(spec: ImageSpec, record: ImageRecord, base: ImageRecord | None) -> bytes | None:
    """Write the configuration of an image that was put together by hand again; None for any other."""
    below = base if spec.base else None
    config = image_config(spec, below, record.diff_ids)
    by_hand = all(layer.kind != DOCKERFILE for layer in spec.layers)
    return config if by_hand and is_image_of(record, spec, below) else None


class _WhenNeeded:
    """Layers of an image of the engine, which saves it only when one of them is really read.

    Most are known to be in the registry. Their size is not known before, and is given as 0.
    """

    def __init__(self, saved: SavedImage, record: ImageRecord) -> None:
        self._saved = saved
        self._record = record

    def find(self, diff_ids: Collection[str]) -> Mapping[str, LayerContent]:
        """See ``content.LayerSource``."""
        wanted = [each for each in self._record.diff_ids if each in diff_ids]
        return {each: LayerContent(each, 0, partial(self._open, each)) for each in wanted}

    @contextmanager
    def _open(self, diff_id: str) -> Iterator[Iterator[bytes]]:
        opened: AbstractContextManager[Iterator[bytes]] = self._saved.find({diff_id})[diff_id].open()
        with opened as chunks:
            yield chunks


def place_of(address: str) -> Reference:
    """Return the repository of a registry that holds the images below an address (``HOST[:PORT][/PATH]``)."""
    return parse_reference(f"{address}/dispatch")
