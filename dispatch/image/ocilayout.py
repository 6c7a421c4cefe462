"""A directory of images in the OCI layout, usable where an engine's image store is: no daemon takes part.

Owns the files ``oci-layout``, ``index.json`` and ``blobs/``. Layers are kept uncompressed: what gzip makes of
them depends on the version of zlib, while so every byte of the directory follows from the locks.

Source: the OCI image layout specification.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from dispatch._docker import ImageRecord
from dispatch.image.content import ImageContent, LayerContent
from dispatch.reporting import Reporter

Fetch = Callable[[str, "OciLayout", Reporter], ImageRecord]
"""Brings an image of a registry into a layout."""


class OciLayout:
    """Images under ``root``, an ``ImageStore``. Making one does nothing; processes may share the directory.

    ``fetch`` is how an image of a registry is pulled; without it none is.
    """

    def __init__(self, root: Path, fetch: Fetch | None = None) -> None:
        self._root = root
        self._fetch = fetch

    def inspect_image(self, reference: str) -> ImageRecord | None:
        """Return the image of a tag or an image ID, or None."""
        raise NotImplementedError

    def find_image(self, label: str, value: str) -> ImageRecord | None:
        """Return an image that carries the label with this value, or None; a tagged one, then the lowest ID."""
        raise NotImplementedError

    def prepare_load(self) -> None:
        """Nothing has to be got ready."""

    def load(self, chunks: Iterable[bytes]) -> None:
        """Take in an archive in the format of ``docker save``; lower layers that are here may be left out."""
        raise NotImplementedError

    def tag(self, image_id: str, repository: str, tag: str) -> None:
        """Give an image a name, taking it from whichever image has it."""
        raise NotImplementedError

    def pull(self, reference: str, report: Reporter) -> ImageRecord:
        """Fetch an image from its registry."""
        raise NotImplementedError

    def content(self, record: ImageRecord) -> ImageContent:
        """Return an image's configuration and layers, for instance to push them."""
        raise NotImplementedError

    def find(self, diff_ids: Collection[str]) -> Mapping[str, LayerContent]:
        """Return those of the layers that are here; see ``content.LayerSource``."""
        raise NotImplementedError
