"""A few files of ours on top of an image that is in the engine: one small layer, the same bytes everywhere.

Owns the lookup by digest, so that such an image is made once, also across processes, and the load. Refuses to
make what is below it (``builder`` does), and to give names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dispatch._docker import ImageRecord
from dispatch.image.direct import Assembly
from dispatch.image.filelock import file_lock
from dispatch.image.layers import LayerStream
from dispatch.image.plan import find_image
from dispatch.image.ports import ImageStore
from dispatch.image.spec import EPOCH, ImageSpec, LayerRecipe
from dispatch.image.tar import Entry, TarStream, with_parents

_VERSION = 1


class Overlay:
    """Entries as the top layer of an image, with the directories above them. They are kept in memory."""

    def __init__(self, kind: str, entries: Iterable[Entry]) -> None:
        given = list(entries)
        known = {entry.path for entry in given}
        above = sorted(with_parents(known) - known)
        self._tar = b"".join(TarStream([*given, *map(Entry.directory, above)], EPOCH).chunks())
        self._digest = hashlib.sha256(self._tar).hexdigest()
        self.recipe = LayerRecipe(kind, _VERSION, (("content", self._digest),))

    def provide(self, spec: ImageSpec, base: ImageRecord, store: ImageStore, cache: Path) -> ImageRecord:
        """Return the image of ``spec``, whose one layer this is; made if the engine does not hold it."""
        locks = cache / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with file_lock(locks / f"{spec.digest}.lock"):
            found = find_image(store, spec, base)
            if found is not None:
                return found
            assembly = Assembly(spec, base, [self.layer])
            store.load(assembly.chunks())
            return assembly.check(store)

    @contextmanager
    def layer(self) -> Iterator[LayerStream]:
        """Give the layer's bytes."""
        stream = LayerStream(len(self._tar)).over(iter((self._tar,)))
        stream.diff_id = f"sha256:{self._digest}"
        yield stream
