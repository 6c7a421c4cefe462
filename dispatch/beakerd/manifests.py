"""Manifests of images, as the registry takes them: Docker's schema 2 and OCI's, single and lists.

Owns what is read of their JSON. Refuses schema 1 and whatever else; what it does not know inside of a known
one passes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dispatch.beakerd.blobs import DIGEST

SINGLE = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
)
LISTS = (
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.index.v1+json",
)
LARGEST = 4 * 1024 * 1024
# Layers that a registry does not hold: they are fetched from where they are published.
_ELSEWHERE = ("foreign", "nondistributable")


class InvalidManifest(ValueError):
    """The text is no manifest that is taken here."""


@dataclass(frozen=True)
class Descriptor:
    """What a manifest refers to. ``elsewhere``: the registry needs not have it."""

    digest: str
    size: int
    media_type: str = ""
    elsewhere: bool = False
    os: str = ""
    architecture: str = ""


@dataclass(frozen=True)
class Manifest:
    """A single image (``config`` and ``layers``) or a list of ``children``."""

    media_type: str
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    children: tuple[Descriptor, ...]

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """The blobs that the registry must have."""
        mine = (*([self.config] if self.config else []), *self.layers)
        return tuple(each for each in mine if not each.elsewhere)


def parse(body: bytes, content_type: str) -> Manifest:
    """Read a manifest; ``content_type`` is what the request says of it, or nothing.

    :raises InvalidManifest: when it is none, or of another type than it is said to be
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidManifest("it is not JSON") from error
    if not isinstance(value, dict) or value.get("schemaVersion") != 2:
        raise InvalidManifest("only manifests of schema version 2 are taken")
    said, own = content_type.partition(";")[0].strip(), value.get("mediaType")
    if said and own is not None and said != own:
        raise InvalidManifest(f"it says that it is {own!r}, and the request that it is {said!r}")
    media_type = said or own
    if media_type in LISTS:
        return Manifest(media_type, None, (), _descriptors(value, "manifests"))
    if media_type in SINGLE:
        config = _descriptor(value.get("config"), "config")
        return Manifest(media_type, config, _descriptors(value, "layers"), ())
    raise InvalidManifest(f"manifests of type {media_type!r} are not taken")


def child_for(manifest: Manifest, os: str, architecture: str) -> Descriptor | None:
    """The child of a list that runs on a platform, else its first."""
    for child in manifest.children:
        if (child.os, child.architecture) == (os, architecture):
            return child
    return manifest.children[0] if manifest.children else None


def _descriptors(value: Mapping[str, Any], name: str) -> tuple[Descriptor, ...]:
    many = value.get(name)
    if not isinstance(many, list):
        raise InvalidManifest(f"{name}: this is no list")
    return tuple(_descriptor(each, f"{name}[{place}]") for place, each in enumerate(many))


def _descriptor(value: Any, what: str) -> Descriptor:
    if not isinstance(value, dict):
        raise InvalidManifest(f"{what}: this is no descriptor")
    digest, size, media_type = value.get("digest"), value.get("size"), value.get("mediaType", "")
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise InvalidManifest(f"{what}: {digest!r} is no digest of SHA-256")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 62:
        raise InvalidManifest(f"{what}: {size!r} is no size")
    if not isinstance(media_type, str):
        raise InvalidManifest(f"{what}: {media_type!r} is no media type")
    platform = value.get("platform")
    platform = platform if isinstance(platform, dict) else {}
    return Descriptor(
        digest=digest,
        size=size,
        media_type=media_type,
        elsewhere=bool(value.get("urls")) and any(word in media_type for word in _ELSEWHERE),
        os=str(platform.get("os", "")),
        architecture=str(platform.get("architecture", "")),
    )
