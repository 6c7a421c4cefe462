"""Manifests: what an image of a registry is made of, read and written.

Owns the media types and the JSON of images and of indexes of images. Source: the OCI image specification, and
Docker's image manifest V2, schema 2, which differs from it in names alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dispatch._registry.problems import RegistryError
from dispatch._registry.reference import checked_digest

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
GZIP_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

_DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
_DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
_OCI = {
    "application/vnd.docker.image.rootfs.diff.tar": LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": GZIP_LAYER,
}
INDEXES = (INDEX, _DOCKER_LIST)
ACCEPTED = (MANIFEST, _DOCKER, INDEX, _DOCKER_LIST)


@dataclass(frozen=True)
class Descriptor:
    """A blob by its digest, with its length and what it is."""

    media_type: str
    digest: str
    size: int

    def to_json(self) -> dict[str, object]:
        """Return it as manifests hold it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True)
class Manifest:
    """An image: its configuration, and its layers, the lowest first. ``body`` is what has the digest."""

    body: bytes
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]

    @property
    def digest(self) -> str:
        """The digest of the manifest, by which a registry knows the image."""
        return digest_of(self.body)


@dataclass(frozen=True)
class Variant:
    """One image of an index, and the platform (``linux/amd64``) that it is for."""

    descriptor: Descriptor
    platform: str


@dataclass(frozen=True)
class Index:
    """Images of several platforms under one name."""

    body: bytes
    media_type: str
    variants: tuple[Variant, ...]

    @property
    def digest(self) -> str:
        """The digest of the index."""
        return digest_of(self.body)

    def of(self, platform: str) -> Descriptor | None:
        """Return the image of a platform (``linux/amd64``), None if there is none."""
        return next((each.descriptor for each in self.variants if each.platform == platform), None)


def digest_of(content: bytes) -> str:
    """Return the digest of bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def write_manifest(config: Descriptor, layers: Sequence[Descriptor]) -> Manifest:
    """Return the manifest of an image; the same parts give the same bytes."""
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    body = json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")
    return Manifest(body, MANIFEST, config, tuple(layers))


def read_manifest(body: bytes, media_type: str, what: str) -> Manifest | Index:
    """Read what a registry or a directory calls a manifest; ``what`` is its name for messages.

    :raises RegistryError: when it is none that we know
    """
    try:
        document = json.loads(body)
        kind = str(document.get("mediaType") or media_type.partition(";")[0].strip())
        if kind in INDEXES:
            variants = tuple(_variant(each) for each in document["manifests"])
            return Index(body, kind, variants)
        if kind in ACCEPTED:
            layers = tuple(_descriptor(each) for each in document["layers"])
            return Manifest(body, kind, _descriptor(document["config"]), layers)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryError(f"{what}: what the registry calls its manifest cannot be read") from error
    raise RegistryError(
        f"{what}: a manifest of kind {kind or 'unknown'!r}, which is no image that we know",
        "push it anew with a Docker Engine of this decade",
    )


def as_oci(layer: Descriptor) -> Descriptor:
    """Return a layer under the media type that a manifest of ours calls it by."""
    return replace(layer, media_type=_OCI.get(layer.media_type, layer.media_type))


def _descriptor(value: Mapping[str, Any]) -> Descriptor:
    size = value["size"]
    if type(size) is not int or size < 0:
        raise ValueError(size)
    return Descriptor(str(value.get("mediaType", "")), checked_digest(value["digest"]), size)


def _variant(value: Mapping[str, Any]) -> Variant:
    place = value.get("platform") or {}
    return Variant(_descriptor(value), f"{place.get('os', '')}/{place.get('architecture', '')}")
