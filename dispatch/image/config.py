"""The configuration of an image put together by hand, whose digest is the image ID.

Owns what goes into it, and the test whether an engine's image is the one that a specification describes.
Source of the format: the OCI image configuration.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from dispatch._docker import ImageRecord
from dispatch.image.context import DOCKERFILE
from dispatch.image.spec import BASE_DIGEST_LABEL, ImageSpec, timestamp

_INHERITED = ("User", "ExposedPorts", "Env", "Volumes", "WorkingDir", "StopSignal")
_OF_THE_BASE = ("dispatch.", "org.opencontainers.image.")
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def image_config(spec: ImageSpec, base: ImageRecord | None, diff_ids: Sequence[str]) -> bytes:
    """Return the image's configuration; its SHA-256 is the image ID.

    ``diff_ids`` are those of all layers, the base's first. What a base says of itself (OCI annotations, our
    own labels, its entrypoint and command) is not inherited; an empty entrypoint is written out, because an
    inherited one would change how a command is run.
    """
    system, _, architecture = spec.platform.partition("/")
    layers = [layer.kind for layer in spec.layers]
    kinds = ["base"] * (len(diff_ids) - len(layers)) + layers
    created = timestamp(spec.epoch)
    document = {
        "architecture": architecture,
        "os": system,
        "created": created,
        "config": _container_config(spec, base),
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        "history": [{"created": created, "created_by": f"dispatch: {kind} layer"} for kind in kinds],
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def _container_config(spec: ImageSpec, base: ImageRecord | None) -> dict[str, Any]:
    inherited = base.config if base is not None else {}
    config = {key: inherited[key] for key in _INHERITED if inherited.get(key)}
    env = dict(item.partition("=")[::2] for item in config.get("Env", ()))
    env["PATH"] = ":".join([*spec.path, env.get("PATH", _DEFAULT_PATH)])
    env.update(spec.env)
    config["Env"] = [f"{key}={value}" for key, value in env.items()]
    if spec.user:
        config["User"] = spec.user
    labels = {
        key: value
        for key, value in (base.labels if base is not None else {}).items()
        if not key.startswith(_OF_THE_BASE)
    }
    labels.update(spec.image_labels(base.id if base is not None else ""))
    return {**config, "Entrypoint": [], "Cmd": None, "Labels": labels}


def image_id(config: bytes) -> str:
    """Return the image ID that belongs to a configuration."""
    return f"sha256:{hashlib.sha256(config).hexdigest()}"


def is_image_of(record: ImageRecord, spec: ImageSpec, base: ImageRecord | None) -> bool:
    """Tell whether an image that carries the digest of ``spec`` is the very image that it describes.

    An image made on top of ours inherits our labels. With the base at hand the configuration can be written
    again, and its digest decides; without it, and for what steps inside of an image made, the labels must do.
    """
    if (spec.base and base is None) or any(layer.kind == DOCKERFILE for layer in spec.layers):
        expected = spec.image_labels(record.labels.get(BASE_DIGEST_LABEL, ""))
        return all(record.labels.get(key) == value for key, value in expected.items())
    config = image_config(spec, base, record.diff_ids)
    return image_id(config) == record.id or (record.by_manifest and _says(record, spec, base, config))


def _says(record: ImageRecord, spec: ImageSpec, base: ImageRecord | None, config: bytes) -> bool:
    """Whether an image that is known by another digest has as many layers as this, and the same to say."""
    below = len(base.diff_ids) if base is not None else 0
    said = {key: value for key, value in record.config.items() if value}
    wanted = {key: value for key, value in json.loads(config)["config"].items() if value}
    return len(record.diff_ids) == below + len(spec.layers) and all(
        said.get(key) == value for key, value in wanted.items()
    )
