"""The content of an image as a whole: whether it is all there, when it is fixed, and what is garbage.

Owns commits and the removal of what no image has any more. Garbage is looked for in the transaction that
removes its files: a push that goes on at the same time either has its blob already or sends it.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass

from dispatch.beakerd.access import Principal
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.blobs import Blobs
from dispatch.beakerd.manifests import Manifest, child_for, parse
from dispatch.beakerd.problems import invalid
from dispatch.beakerd.store import images, registry
from dispatch.beakerd.store.database import Transaction
from dispatch.beakerd.store.images import Image

TAG = "latest"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Content:
    """What an image consists of: the digest of its configuration, its blobs, their size together."""

    docker_id: str
    blobs: frozenset[str]
    size: int


def commit(backend: Backend, who: Principal, image_id: str) -> Image:
    """Fix an image as it was pushed; one that is committed stays as it is.

    :raises Problem: NOT_FOUND, FORBIDDEN; INVALID, when something of it is missing
    """
    blobs = Blobs(backend.layout.blobs)
    with backend.database.read() as tx:
        image = images.visible(tx, who, image_id)
        content = None if image.committed is not None else content_of(tx, blobs, image)
    if content is None:
        return image
    blobs.sync(content.blobs)
    gone: list[str] = []
    with backend.database.write() as tx:
        image = images.changeable(tx, who, image_id)
        if image.committed is None:
            content = content_of(tx, blobs, image)
            images.commit(tx, image.id, content.docker_id, content.size, backend.clock.now())
            gone = registry.keep_blobs(tx, image.id, content.blobs)
        image = images.visible(tx, who, image_id)
    collect(backend, gone)
    return image


def content_of(tx: Transaction, blobs: Blobs, image: Image) -> Content:
    """What was pushed of an image, all of it.

    :raises Problem: INVALID, when something of it is missing
    """
    stored = registry.manifests(tx, image.id)
    tags = [reference for reference in stored if ":" not in reference]
    if not tags:
        raise invalid(f"image {image.id}: no manifest was pushed: there is nothing to commit")
    all_of_it = {each.digest: parse(each.body, each.media_type) for each in stored.values()}
    needed = {blob.digest: blob.size for manifest in all_of_it.values() for blob in manifest.blobs}
    for digest, size in needed.items():
        if registry.blob_size(tx, image.id, digest) != size or blobs.size(digest) != size:
            raise invalid(f"image {image.id}: blob {digest} is missing: push the image again")
    main = all_of_it[stored[TAG if TAG in stored else tags[-1]].digest]
    config = _single(main, all_of_it).config
    return Content(config.digest if config else "", frozenset(needed), sum(needed.values()))


def delete(backend: Backend, who: Principal, image_ids: Iterable[str]) -> None:
    """Remove images, all or none, and what is garbage then.

    :raises Problem: NOT_FOUND or FORBIDDEN
    """
    gone: set[str] = set()
    with backend.database.write() as tx:
        for image_id in dict.fromkeys(image_ids):
            image = images.changeable(tx, who, image_id)
            gone.update(registry.blobs_of(tx, image.id))
            images.remove(tx, image.id)
    collect(backend, gone)
    _drop_uploads(backend, 0)


def collect(backend: Backend, digests: Iterable[str]) -> int:
    """Remove those blobs that no image has, and return how many they were."""
    blobs = Blobs(backend.layout.blobs)
    removed = 0
    if digests:
        with backend.database.write() as tx:
            for digest in registry.unused(tx, digests):
                blobs.remove(digest)
                removed += 1
    return removed


def sweep(backend: Backend) -> None:
    """Remove all garbage: what a killed server left, and what nobody went on with for long."""
    found, _ = Blobs(backend.layout.blobs).all()
    collect(backend, found)
    with backend.database.write() as tx:
        images.forget_ended_tokens(tx, backend.clock.now())
    _drop_uploads(backend, backend.clock.now() - round(backend.config.limits.storage_token * 1e9))


def _drop_uploads(backend: Backend, before: int) -> None:
    """Remove uploads that were begun before a time, and the files of those that are forgotten."""
    blobs = Blobs(backend.layout.blobs)
    _, uploads = blobs.all()
    with backend.database.write() as tx:
        live = registry.forget_pushes(tx, before)
        for push in uploads:
            if push not in live:
                blobs.drop(push)


def _single(main: Manifest, stored: dict[str, Manifest]) -> Manifest:
    """The image itself: of a list, what runs on this machine."""
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    for _ in range(4):
        child = child_for(main, "linux", architecture)
        if child is None or child.digest not in stored:
            return main
        main = stored[child.digest]
    return main
