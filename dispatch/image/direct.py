"""An image put together by hand, as the archive that an engine loads.

Owns the archive and the check that what the engine took in is what was written. No step runs in the image, so
nothing can differ between two machines. Refuses to make layers.

Source of the format: the archive of ``docker save`` (``manifest.json``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from dispatch._docker import ImageRecord
from dispatch.errors import ImageError
from dispatch.image.config import image_config, image_id
from dispatch.image.layers import LayerStream
from dispatch.image.spec import ImageSpec
from dispatch.image.tar import END, Entry, header, padded

OpenLayer = Callable[[], AbstractContextManager[LayerStream]]


class Assembly:
    """One image on its way into an engine.

    ``chunks`` is the archive, made while it is read: the layers (those of the base left out: an engine with
    a layer store of its own finds them by their digests), then the configuration, which only the
    layers' digests complete. ``image_id`` is known once it has been read to its end.
    """

    def __init__(self, spec: ImageSpec, base: ImageRecord | None, layers: Sequence[OpenLayer]) -> None:
        self._spec = spec
        self._base = base
        self._layers = layers
        self.image_id = ""
        self.diff_ids: tuple[str, ...] = ()

    def chunks(self) -> Iterator[bytes]:
        """Yield the archive; no chunk is empty."""
        below = self._base.diff_ids if self._base is not None else ()
        names = [f"base-{number}.tar" for number in range(len(below))]
        diff_ids = list(below)
        for number, layer in enumerate(self._layers):
            with layer() as stream:
                names.append(f"layer-{number}.tar")
                yield header(Entry(names[-1], size=stream.size), 0)
                yield from stream.chunks()
            diff_ids.append(stream.diff_id)
            if padding := padded(stream.size) - stream.size:
                yield bytes(padding)
        config = image_config(self._spec, self._base, diff_ids)
        manifest = [{"Config": "config.json", "RepoTags": None, "Layers": names}]
        yield _member("config.json", config)
        yield _member("manifest.json", json.dumps(manifest).encode("ascii"))
        yield END
        self.diff_ids = tuple(diff_ids)
        self.image_id = image_id(config)

    def check(self, record: ImageRecord | None) -> ImageRecord:
        """Return the image that the engine now holds under ``image_id``; raise ImageError if it differs."""
        if record is None or record.id != self.image_id or record.diff_ids != self.diff_ids:
            raise ImageError(
                f"image {self._spec.digest[:16]}: the engine holds something else than was loaded"
                f" ({record.id[:19] if record else 'nothing'} for {self.image_id[:19]})",
                remedy="an engine with the containerd image store keeps images in another form:"
                " switch that store off for now",
            )
        return record


def _member(name: str, data: bytes) -> bytes:
    return header(Entry.file(name, data), 0) + data + bytes(padded(len(data)) - len(data))
