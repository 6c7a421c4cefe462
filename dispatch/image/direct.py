"""An image put together by hand: its configuration, and the archive that an engine loads.

Owns the configuration's content and the check that what the engine took in is what was written. No step
runs in the image, so nothing can differ between two machines. Refuses to make layers.

Sources of the formats: the OCI image configuration, and the archive of ``docker save`` (``manifest.json``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from dispatch._docker import ImageRecord
from dispatch.errors import ImageError
from dispatch.image.layers import LayerStream
from dispatch.image.spec import BASE_DIGEST_LABEL, ImageSpec, timestamp
from dispatch.image.tar import END, Entry, header, padded

_INHERITED = ("User", "ExposedPorts", "Env", "Volumes", "WorkingDir", "StopSignal")
_OF_THE_BASE = ("dispatch.", "org.opencontainers.image.")
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

OpenLayer = Callable[[], AbstractContextManager[LayerStream]]


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
    again, and its digest decides; without it the labels must do.
    """
    if spec.base and base is None:
        expected = spec.image_labels(record.labels.get(BASE_DIGEST_LABEL, ""))
        return all(record.labels.get(key) == value for key, value in expected.items())
    return image_id(image_config(spec, base, record.diff_ids)) == record.id


class Assembly:
    """One image on its way into an engine.

    ``chunks`` is the archive, made while it is read: the layers (those of the base left out: an engine with
    a layer store of its own finds them by their digests), then the configuration, which only the
    layers' digests complete. ``image_id`` is known once it has been read to its end.
    """

    def __init__(self, spec: ImageSpec, base: ImageRecord | None, layers: Sequence[OpenLayer]) -> None:
        self._spec = spec
        self._base = base
        self._layers = layers
        self.image_id = ""
        self.diff_ids: tuple[str, ...] = ()

    def chunks(self) -> Iterator[bytes]:
        """Yield the archive; no chunk is empty."""
        below = self._base.diff_ids if self._base is not None else ()
        names = [f"base-{number}.tar" for number in range(len(below))]
        diff_ids = list(below)
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

    def check(self, record: ImageRecord | None) -> ImageRecord:
        """Return the image that the engine now holds under ``image_id``; raise ImageError if it differs."""
        if record is None or record.id != self.image_id or record.diff_ids != self.diff_ids:
            raise ImageError(
                f"image {self._spec.digest[:16]}: the engine holds something else than was loaded"
                f" ({record.id[:19] if record else 'nothing'} for {self.image_id[:19]})",
                remedy="an engine with the containerd image store keeps images in another form:"
                " switch that store off for now",
            )
        return record


def _member(name: str, data: bytes) -> bytes:
    return header(Entry.file(name, data), 0) + data + bytes(padded(len(data)) - len(data))
