"""Images on their way to a registry and from there, without a Docker daemon.

Owns which layers are sent, mounted from another repository of the registry, or left out because they are
there; a registry is told of an image only when all of its parts are there. Refuses to know how an image is
made, and HTTP (``_registry`` does).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from dispatch._docker import ImageRecord
from dispatch._registry import (
    Descriptor,
    Index,
    Manifest,
    Reference,
    RegistryDamagedError,
    RegistryDoor,
    RegistryError,
    RegistryNotFoundError,
    Transfer,
    parse_reference,
)
from dispatch._registry.manifest import CONFIG, GZIP_LAYER, as_oci, digest_of, write_manifest
from dispatch.environment import RegistryDigest
from dispatch.errors import ImageError
from dispatch.image.blobfacts import KnownBlobs
from dispatch.image.content import ImageContent, LayerContent, Part, archive_of, file_bytes, read_config
from dispatch.image.downloads import Downloads
from dispatch.image.gang import Gang, always
from dispatch.image.packing import pack
from dispatch.image.ports import ImageStore
from dispatch.image.staging import staging
from dispatch.reporting import Reporter, Task, working

# Layers on their way at a time.
_AT_A_TIME = 3


@dataclass(frozen=True)
class Published:
    """An image of a registry, by the digest of its manifest. ``record`` is what its configuration says."""

    reference: Reference
    manifest: Manifest
    config: bytes
    record: ImageRecord

    @property
    def image(self) -> RegistryDigest:
        """What names it for ever."""
        return RegistryDigest(str(self.reference))


class Shipping:
    """Images of the registry behind ``door``. Making one sends nothing.

    ``cache`` is a directory for downloads and compressed layers in progress, and for what is known of layers.
    Transfers go on for as long as ``wanted`` says. All methods raise RegistryError (an ImageError) where the
    registry refuses or does not answer.
    """

    def __init__(self, door: RegistryDoor, cache: Path, wanted: Callable[[], bool] = always) -> None:
        self._door = door
        self._cache = cache
        self._known = KnownBlobs(cache / "blobs")
        self._wanted = wanted

    def find(self, reference: Reference, platform: str = "linux/amd64") -> Published | None:
        """Return the image that a reference is of now, None where there is none; downloads no layer.

        The labels of ``record`` tell whether it is the one that was looked for.
        """
        manifest = self._door.manifest(reference)
        if isinstance(manifest, Index):
            variant = manifest.of(platform)
            if variant is None:
                return None
            manifest = self._door.manifest(reference.at(variant.digest))
        if not isinstance(manifest, Manifest):
            return None
        config = self._door.blob(reference.repository, manifest.config)
        exact = reference.at(manifest.digest)
        size = sum(layer.size for layer in manifest.layers)
        record = replace(read_config(config), digests=(str(exact),), size=size)
        if len(record.diff_ids) != len(manifest.layers):
            raise RegistryDamagedError(f"image {reference}: its manifest and its configuration do not agree")
        return Published(exact, manifest, config, record)

    def push(
        self, content: ImageContent, reference: Reference, report: Reporter, origins: Sequence[str] = ()
    ) -> RegistryDigest:
        """Send an image; what the registry holds of it is not sent again.

        ``origins`` are references (``host/name@sha256:…``) of images with the same lower layers: where those
        are of this registry, the layers are mounted from there.
        """
        present = self._door.manifest(reference)
        if isinstance(present, Manifest) and present.config.digest == content.image_id:
            return RegistryDigest(str(reference.at(present.digest)))
        for origin in origins:
            self._look_at(origin)
        with working(report, f"{reference}: pushing") as task, self._disk_errors():
            try:
                return self._push(content, reference, task)
            except RegistryNotFoundError:
                # The registry has thrown away what it said it had: there is no use in asking it twice.
                return self._push(content, reference, task)

    def _push(self, content: ImageContent, reference: Reference, task: Task) -> RegistryDigest:
        with (
            staging(self._cache / "staging") as room,
            Gang("dispatch-push", _AT_A_TIME, self._wanted) as gang,
        ):
            cargo = _Cargo(self._door, self._known, reference, room, task, gang.wanted)
            unique = {layer.diff_id: layer for layer in content.layers}
            sent = dict(zip(unique, gang.each(cargo.layer, list(unique.values())), strict=True))
            config = cargo.config(content.config)
            layers = [as_oci(sent[layer.diff_id]) for layer in content.layers]
        digest = self._door.put_manifest(reference, write_manifest(config, layers))
        return RegistryDigest(str(reference.at(digest)))

    def _look_at(self, origin: str) -> None:
        """Learn from an image of this registry under which digests its layers are there."""
        try:
            found = parse_reference(origin)
            image = self.find(found) if found.host == self._door.host else None
        except ImageError:
            return  # it would have saved bytes, no more
        if image is not None:
            for diff_id, blob in zip(image.record.diff_ids, image.manifest.layers, strict=True):
                self._known.seen(diff_id, blob, found.name)

    def pull(
        self, published: Published, store: ImageStore, report: Reporter, held: Sequence[str] = ()
    ) -> ImageRecord:
        """Bring an image into a store and return it as it is there.

        ``held`` are the digests (``diff_ids``) of the lowest layers that the store has. Where they are
        gone meanwhile, all of it is brought.
        """
        record = published.record
        count = len(held) if tuple(held) == record.diff_ids[: len(held)] else 0
        with working(report, f"{published.reference}: pulling") as task, self._disk_errors():
            try:
                self._pull(published, store, count, task)
            except RegistryError:
                raise
            except ImageError:
                if not count:
                    raise
                self._pull(published, store, 0, task)
        found = store.inspect_image(record.id)
        if found is None:
            raise ImageError(
                f"image {published.reference}: the engine does not hold what was loaded into it",
                "an engine with the containerd image store keeps images in another form:"
                " pull it with `docker pull`",
            )
        return found

    def _pull(self, published: Published, store: ImageStore, held: int, task: Task) -> None:
        name = published.reference.name
        blobs = published.manifest.layers[held:]
        task.expect(sum(blob.size for blob in blobs))
        with staging(self._cache / "staging") as room:
            fetched = Downloads(self._door, self._cache / "downloads", room)
            with Gang("dispatch-pull", _AT_A_TIME, self._wanted) as gang:
                fetch = partial(fetched.file, published.reference.repository, task, gang.wanted)
                files = gang.each(fetch, blobs)
            parts = [
                Part(blob.size, partial(file_bytes, file)) for blob, file in zip(blobs, files, strict=True)
            ]
            store.load(archive_of(published.config, [*[None] * held, *parts]))
        fetched.drop(blobs)
        for diff_id, blob in zip(published.record.diff_ids, published.manifest.layers, strict=True):
            self._known.seen(diff_id, blob, name)

    def tag(self, reference: Reference, tag: str) -> RegistryDigest:
        """Give an image of the registry another tag in its repository; nothing but its manifest is sent."""
        return RegistryDigest(str(reference.at(self._door.tag(reference, tag))))

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise ImageError(
                f"{self._cache}: no room is left on the disk",
                f"make room, for instance by removing {self._cache}: it is only a cache",
            ) from error


@dataclass(frozen=True)
class _Cargo:
    """One image on its way to a repository."""

    door: RegistryDoor
    known: KnownBlobs
    reference: Reference
    room: Path
    task: Task
    wanted: Callable[[], bool]

    def layer(self, layer: LayerContent) -> Descriptor:
        """See that a layer is in the repository, and return it as it is there."""
        repository = self.reference.repository
        facts = self.known.of(layer.diff_id)
        if facts is not None and self._there(facts.blob, facts.repositories(self.door.host)):
            self.known.seen(layer.diff_id, facts.blob, self.reference.name)
            return facts.blob
        with layer.open() as chunks:
            packed = pack(self._unless_given_up(chunks), self.room / f"{layer.diff_id.rpartition(':')[2]}.gz")
        if packed.diff_id != layer.diff_id:
            raise ImageError(f"layer {layer.diff_id[:19]}: it is not what its digest says", "build it again")
        blob = Descriptor(GZIP_LAYER, packed.digest, packed.size)
        self.door.upload(Transfer(repository, blob, packed.file, self.task.advance, self.wanted))
        packed.file.unlink()
        self.known.seen(layer.diff_id, blob, self.reference.name)
        return blob

    def config(self, content: bytes) -> Descriptor:
        """Send the configuration."""
        blob = Descriptor(CONFIG, digest_of(content), len(content))
        file = self.room / "config.json"
        file.write_bytes(content)
        self.door.upload(Transfer(self.reference.repository, blob, file, self.task.advance, self.wanted))
        return blob

    def _there(self, blob: Descriptor, places: Sequence[str]) -> bool:
        """Whether the repository has a blob, or has it now, mounted from another."""
        repository = self.reference.repository
        if self.door.has_blob(repository, blob.digest):
            return True
        return any(self.door.mount(repository, blob.digest, each) for each in places if each != repository)

    def _unless_given_up(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if not self.wanted():
                raise ImageError("interrupted")
            yield chunk
