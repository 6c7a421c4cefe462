"""The recipe of an image as a value, and the digests, tags and labels that follow from it.

An :class:`ImageSpec` holds everything that decides an image's bytes and nothing else: no name from a
configuration, no fact about the host, no address of an index, no timing. Refuses to know how a layer is made.

The digest is the SHA-256 of the canonical JSON of the specification (sorted keys, no blanks, ASCII). The base
enters by what identifies it: the digest of its own specification where that one is made from a lock
and therefore known before it is built, else the ID of the image in the engine.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

SCHEMA = 1

REPOSITORY = "dispatch"
DIGEST_LABEL = "dispatch.digest"
LOCK_LABEL = "dispatch.lock.sha256"
CREATED_LABEL = "org.opencontainers.image.created"
BASE_DIGEST_LABEL = "org.opencontainers.image.base.digest"

EPOCH = 315532800
"""1980-01-01T00:00:00Z, the time of every file above the base: the earliest a zip archive can hold."""

_PLATFORMS = {
    "x86_64": "linux/amd64",
    "aarch64": "linux/arm64",
    "amd64": "linux/amd64",
    "arm64": "linux/arm64",
}


def canonical_digest(document: object) -> str:
    """Return the SHA-256 (hexadecimal) of the canonical JSON of ``document``."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def platform_of(architecture: str) -> str:
    """Return the platform (``linux/amd64``) of a machine name (``x86_64``); others stand for themselves."""
    return _PLATFORMS.get(architecture, f"linux/{architecture}")


def timestamp(epoch: int) -> str:
    """Return seconds since the epoch as the RFC 3339 text that image configurations use."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))


def tag_of(name: str, digest: str) -> str:
    """Return the tag ``<readable>--<digest16>``; ``name`` is for the reader only."""
    readable = re.sub(r"[^a-z0-9_.-]+", "-", name.lower()).strip("-.")[:40].rstrip("-.")
    return f"{readable or 'image'}--{digest[:16]}"


@dataclass(frozen=True)
class LayerRecipe:
    """How one layer is made: the kind of its maker, the version of that maker's rules, and its inputs."""

    kind: str
    version: int
    inputs: tuple[tuple[str, str], ...]

    def document(self) -> dict[str, object]:
        """Return the recipe as plain JSON data."""
        return {"kind": self.kind, "version": self.version, "inputs": dict(self.inputs)}

    def key(self, **more: str) -> str:
        """Return the name of the layer in the layer cache.

        ``more`` are facts of the built base that the layer depends on and that the specification has
        already covered by the base's digest.
        """
        return canonical_digest(["layer", SCHEMA, self.document(), more])


@dataclass(frozen=True)
class ImageSpec:
    """The exact recipe of one image.

    ``base`` is ``""`` (none), ``spec:<digest>`` or ``image:sha256:<hex>``; ``lock`` is the digest of the
    lock that decides the content, ``""`` where none does; ``path`` is put in front of the base's PATH; an
    empty ``user`` means the base's own; ``labels`` are those beside the ones that follow from this value.
    """

    platform: str
    base: str
    lock: str
    layers: tuple[LayerRecipe, ...]
    path: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    user: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    epoch: int = EPOCH

    def document(self) -> dict[str, object]:
        """Return the specification as plain JSON data: what the digest covers, and what is compared."""
        return {
            "schema": SCHEMA,
            "platform": self.platform,
            "base": self.base,
            "lock": self.lock,
            "layers": [layer.document() for layer in self.layers],
            "path": list(self.path),
            "env": dict(self.env),
            "user": self.user,
            "labels": dict(self.labels),
            "epoch": self.epoch,
        }

    @cached_property
    def digest(self) -> str:
        """The SHA-256 (hexadecimal) of the canonical form."""
        return canonical_digest(self.document())

    def tag(self, name: str) -> str:
        """Return the tag; see :func:`tag_of`."""
        return tag_of(name, self.digest)

    def reference(self, name: str) -> str:
        """Return ``dispatch:<tag>``."""
        return f"{REPOSITORY}:{self.tag(name)}"

    def image_labels(self, base_id: str) -> dict[str, str]:
        """Return the labels of the image itself, given the image ID of its base (``""`` for none).

        ``base.name`` is left out on purpose: two names for one base must give one image. ``base.digest`` is
        the base's image ID, the only digest that a local base has.
        """
        labels = dict(self.labels)
        labels[DIGEST_LABEL] = self.digest
        if self.lock:
            labels[LOCK_LABEL] = self.lock
        labels[CREATED_LABEL] = timestamp(self.epoch)
        if base_id:
            labels[BASE_DIGEST_LABEL] = base_id
        return labels


def differences(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """Return one line for every input that two specification documents (see ``document``) disagree on."""
    before, after = _flatten(old), _flatten(new)
    return [
        f"{key}: {_short(before.get(key))} → {_short(after.get(key))}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _flatten(value: object, prefix: str = "") -> dict[str, str]:
    """Return the leaves of a JSON document by dotted path; a list of layers is keyed by their kind."""
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list):
        items = [
            (str(item["kind"]) if isinstance(item, Mapping) and "kind" in item else str(n), item)
            for n, item in enumerate(value)
        ]
    else:
        return {prefix: str(value)}
    leaves: dict[str, str] = {}
    for key, item in items:
        leaves.update(_flatten(item, f"{prefix}.{key}" if prefix else key))
    return leaves


def _short(value: str | None) -> str:
    """Return a value for a message: digests cut to 16 characters, absence as ``none``."""
    if value is None:
        return "none"
    return re.sub(r"[0-9a-f]{64}", lambda match: match.group()[:16], value)
