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
from dispatch.image.config import image_config, image_id, is_image_of
from dispatch.image.layers import LayerStream
from dispatch.image.ports import ImageStore
from dispatch.image.spec import DIGEST_LABEL, ImageSpec
from dispatch.image.tar import END, Entry, header, padded

OpenLayer = Callable[[], AbstractContextManager[LayerStream]]


class Assembly:
    """One image on its way into an engine.

    ``chunks`` is the archive, made while it is read: the layers, then the configuration, which only the
    layers' digests complete. Those of the base are left out, since an engine with a layer store of its own
    finds them by their digests; for one without, they are given as ``below``. ``image_id`` is known once it
    has been read to its end.
    """

    def __init__(
        self,
        spec: ImageSpec,
        base: ImageRecord | None,
        layers: Sequence[OpenLayer],
        below: Sequence[OpenLayer] = (),
    ) -> None:
        self._spec = spec
        self._base = base
        self._layers = [*below, *layers]
        self._left_out = base.diff_ids if base is not None and not below else ()
        self.image_id = ""
        self.diff_ids: tuple[str, ...] = ()

    def chunks(self) -> Iterator[bytes]:
        """Yield the archive; no chunk is empty."""
        names = [f"base-{number}.tar" for number in range(len(self._left_out))]
        diff_ids = list(self._left_out)
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

    def check(self, store: ImageStore) -> ImageRecord:
        """Return the image as the engine now holds it; raise ImageError if that is another one."""
        record = store.inspect_image(self.image_id) or store.find_image(
            DIGEST_LABEL, self._spec.digest, lambda each: each.by_manifest and self._is_right(each)
        )
        if record is None or not self._is_right(record):
            raise ImageError(
                f"image {self._spec.digest[:16]}: the engine holds something else than was loaded"
                f" ({record.id[:19] if record else 'nothing'} for {self.image_id[:19]})",
                remedy="repeat the command; if it stays so, see what the engine's log says",
            )
        return record

    def _is_right(self, record: ImageRecord) -> bool:
        return record.diff_ids == self.diff_ids and is_image_of(record, self._spec, self._base)


def _member(name: str, data: bytes) -> bytes:
    return header(Entry.file(name, data), 0) + data + bytes(padded(len(data)) - len(data))
