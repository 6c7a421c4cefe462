"""A directory of images in the OCI layout, usable where an engine's image store is: no daemon takes part.

Owns the files ``oci-layout``, ``index.json`` and ``blobs/``. Layers are kept uncompressed: what gzip makes of
them depends on the version of zlib, while so every byte of the directory follows from the locks.

Source: the OCI image layout specification.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from dispatch._docker import ImageRecord
from dispatch._docker.images import Right, any_image
from dispatch._registry import Descriptor, Manifest
from dispatch._registry.manifest import (
    CONFIG,
    INDEX,
    LAYER,
    MANIFEST,
    digest_of,
    read_manifest,
    write_manifest,
)
from dispatch.errors import ImageError
from dispatch.image.atomic import write_atomically
from dispatch.image.content import ImageContent, LayerContent, file_bytes, image_content, read_config
from dispatch.image.filelock import file_lock
from dispatch.image.loading import Loaded, read_archive
from dispatch.image.spec import platform_of
from dispatch.image.staging import staging
from dispatch.reporting import Reporter

_NAME = "org.opencontainers.image.ref.name"
# By this one newer engines name what they load from a layout.
_DOCKER_NAME = "io.containerd.image.name"
_VERSION = '{"imageLayoutVersion": "1.0.0"}'
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")

Fetch = Callable[[str, "OciLayout", Reporter], ImageRecord]
"""Brings an image of a registry into a layout, named by its reference there."""


@dataclass(frozen=True)
class _Entry:
    """A line of the index: an image and a name that it has, ``""`` where it has none."""

    manifest: Descriptor
    name: str
    platform: str

    def to_json(self) -> dict[str, object]:
        system, _, architecture = self.platform.partition("/")
        document = {**self.manifest.to_json(), "platform": {"architecture": architecture, "os": system}}
        if self.name:
            whole = self.name if "/" in self.name else f"docker.io/library/{self.name}"
            document["annotations"] = {_NAME: self.name, _DOCKER_NAME: whole}
        return document


class OciLayout:
    """Images under ``root``, an ``ImageStore``. Making one does nothing; processes may share the directory.

    ``fetch`` is how an image of a registry is pulled; without it none is. An image is in the index only when
    all of it is in the directory. Methods raise ImageError where the directory is none of images.
    """

    def __init__(self, root: Path, fetch: Fetch | None = None) -> None:
        self._root = root
        self._fetch = fetch

    def inspect_image(self, reference: str) -> ImageRecord | None:
        """Return the image of a tag or an image ID, or None."""
        return next((each for each in self._records() if reference in (each.id, *each.tags)), None)

    def find_image(self, label: str, value: str, right: Right = any_image) -> ImageRecord | None:
        """Return a right image that carries the label with this value, or None; a tagged one first."""
        found = [each for each in self._records() if each.labels.get(label) == value and right(each)]
        return min(found, key=lambda each: (not each.tags, each.id), default=None)

    def prepare_load(self) -> None:
        """Nothing has to be got ready."""

    def load(self, chunks: Iterable[bytes]) -> None:
        """Take in an archive in the format of ``docker save``; lower layers that are here may be left out.

        :raises ImageError: when it is none, or a layer is not what its digest says; nothing is taken in then
        """
        self._root.mkdir(parents=True, exist_ok=True)
        with staging(self._root / ".staging") as room:
            loaded = read_archive(chunks, room)
            record = read_config(loaded.config)
            layers = [self._layer(loaded, diff_id) for diff_id in record.diff_ids]
            self._keep_blobs(loaded, room)
        self._add(loaded.config, layers, record)

    def tag(self, image_id: str, repository: str, tag: str) -> None:
        """Give an image a name, taking it from whichever image has it.

        :raises ImageError: when the image is not here
        """
        name = f"{repository}:{tag}"
        if not _TAG.fullmatch(tag):
            raise ImageError(f"image {image_id[:19]}: it cannot be tagged {name}: this is no tag")
        with self._changing() as entries:
            found = next((each for each in entries if self._config_of(each.manifest) == image_id), None)
            if found is None:
                raise ImageError(
                    f"image {image_id[:19]}: it cannot be tagged {name}: {self._root} has no such image"
                )
            bare = _Entry(found.manifest, "", found.platform)
            others = [each for each in entries if each.name != name and each != bare]
            # Whose last name this was stays, without one.
            kept = {each.manifest for each in others} | {found.manifest}
            orphans = {each.manifest: _Entry(each.manifest, "", each.platform) for each in entries}
            entries[:] = [*others, replace(bare, name=name)]
            entries += [orphan for manifest, orphan in orphans.items() if manifest not in kept]

    def pull(self, reference: str, report: Reporter) -> ImageRecord:
        """Fetch an image from its registry.

        :raises ImageError: when it cannot be had
        """
        if self._fetch is None:
            raise ImageError(f"image {reference}: {self._root} does not hold it, and pulls from no registry")
        record = self._fetch(reference, self, report)
        repository, _, tag = reference.rpartition(":")
        if repository and _TAG.fullmatch(tag) and "@" not in reference:
            self.tag(record.id, repository, tag)
        return self.inspect_image(record.id) or record

    def content(self, record: ImageRecord) -> ImageContent:
        """Return an image's configuration and layers, for instance to push them.

        :raises ImageError: when it is not here
        """
        for entry in self._index():
            if self._config_of(entry.manifest) == record.id:
                return image_content(self._blob(record.id), [self])
        raise ImageError(f"image {record.id[:19]}: {self._root} does not hold it")

    def find(self, diff_ids: Collection[str]) -> Mapping[str, LayerContent]:
        """Return those of the layers that are here; see ``content.LayerSource``."""
        found = {}
        for diff_id in diff_ids:
            path = self._path(diff_id)
            if path.exists():
                found[diff_id] = LayerContent(diff_id, path.stat().st_size, partial(file_bytes, path))
        return found

    def _layer(self, loaded: Loaded, diff_id: str) -> Descriptor:
        """Return a layer of an image that is being taken in; one that the archive leaves out is here."""
        path = loaded.layers.get(diff_id, self._path(diff_id))
        try:
            return Descriptor(LAYER, diff_id, path.stat().st_size)
        except FileNotFoundError:
            raise ImageError(
                f"image {digest_of(loaded.config)[:19]}: neither the archive nor {self._root}"
                f" has its layer {diff_id[:19]}",
                "build it again with what it stands on (`dispatch build --force`)",
            ) from None

    def _keep_blobs(self, loaded: Loaded, room: Path) -> None:
        """Move what was taken in to its place."""
        for diff_id, path in loaded.layers.items():
            self._keep(path, diff_id)
        config = room / "config.json"
        config.write_bytes(loaded.config)
        self._keep(config, digest_of(loaded.config))

    def _keep(self, file: Path, digest: str) -> None:
        path = self._path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        file.chmod(0o644)
        file.replace(path)

    def _add(self, config: bytes, layers: Sequence[Descriptor], record: ImageRecord) -> None:
        """Put an image whose blobs are here into the index."""
        manifest = write_manifest(Descriptor(CONFIG, digest_of(config), len(config)), layers)
        write_atomically(self._path(manifest.digest), manifest.body.decode("ascii"))
        described = Descriptor(MANIFEST, manifest.digest, len(manifest.body))
        with self._changing() as entries:
            if all(each.manifest != described for each in entries):
                platform = f"{record.os or 'linux'}/{record.architecture}"
                entries.append(
                    _Entry(described, "", platform if record.architecture else platform_of("amd64"))
                )

    def _records(self) -> list[ImageRecord]:
        names: dict[str, list[str]] = {}
        for entry in self._index():
            named = names.setdefault(self._config_of(entry.manifest), [])
            named += [entry.name] if entry.name else []
        return [read_config(self._blob(image), sorted(tags)) for image, tags in names.items()]

    def _config_of(self, manifest: Descriptor) -> str:
        """Return the image ID that belongs to a manifest of the directory."""
        found = read_manifest(self._blob(manifest.digest), manifest.media_type, f"image in {self._root}")
        return found.config.digest if isinstance(found, Manifest) else ""

    def _blob(self, digest: str) -> bytes:
        try:
            content = self._path(digest).read_bytes()
        except FileNotFoundError:
            content = b""
        if digest_of(content) != digest:
            raise ImageError(
                f"{self._root}: its blob {digest[:19]} is damaged or missing",
                "remove the directory and build again",
            )
        return content

    def _path(self, digest: str) -> Path:
        return self._root / "blobs" / "sha256" / digest.rpartition(":")[2]

    @contextmanager
    def _changing(self) -> Iterator[list[_Entry]]:
        """Give the index to be changed; nobody else changes it meanwhile."""
        self._root.mkdir(parents=True, exist_ok=True)
        with file_lock(self._root / ".lock"):
            entries = self._index()
            yield entries
            entries.sort(key=lambda each: (each.name, each.manifest.digest))
            document = {
                "schemaVersion": 2,
                "mediaType": INDEX,
                "manifests": [each.to_json() for each in entries],
            }
            write_atomically(self._root / "oci-layout", _VERSION)
            write_atomically(self._root / "index.json", json.dumps(document, indent=1, sort_keys=True))

    def _index(self) -> list[_Entry]:
        try:
            document = json.loads((self._root / "index.json").read_text("utf-8"))
            return [entry for each in document["manifests"] if (entry := _entry(each)) is not None]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError, AttributeError, NotADirectoryError) as error:
            raise ImageError(
                f"{self._root}: this is not a directory of images",
                "name another one, or one that is not there yet",
            ) from error


def _entry(document: Mapping[str, Any]) -> _Entry | None:
    """Read a line of the index; what is no image (an index of several) is nobody's business here."""
    kind = str(document.get("mediaType", ""))
    if kind == INDEX:
        return None
    manifest = Descriptor(kind, str(document["digest"]), int(document["size"]))
    platform = document.get("platform") or {}
    name = (document.get("annotations") or {}).get(_NAME, "")
    return _Entry(manifest, str(name), f"{platform.get('os', '')}/{platform.get('architecture', '')}")
