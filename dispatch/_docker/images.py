"""Images of the engine as values.

Owns what an image reference may look like and how an inspection is read. Refuses to move images.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dispatch._docker.socket import EngineSocket
from dispatch.errors import ImageError

_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:[:/@][A-Za-z0-9_][A-Za-z0-9._-]*)*")


@dataclass(frozen=True)
class ImageRecord:
    """An image that the engine holds.

    ``id`` is the digest of its configuration; ``diff_ids`` those of its uncompressed layers, base first;
    ``config`` is the part of the configuration that containers inherit (Env, Cmd, Labels, …). An engine with
    the containerd image store keeps images as registries do, and names them ``by_manifest``: ``id`` is the
    digest of that then, and what is loaded has to be whole.
    """

    id: str
    labels: Mapping[str, str]
    diff_ids: tuple[str, ...]
    config: Mapping[str, Any]
    tags: tuple[str, ...]
    architecture: str = ""
    os: str = ""
    size: int = 0
    digests: tuple[str, ...] = field(default=())
    by_manifest: bool = False


def checked_reference(reference: str) -> str:
    """Return ``reference`` if it can name an image.

    :raises ImageError: when it cannot
    """
    if not _REFERENCE.fullmatch(reference):
        raise ImageError(
            f"image {reference!r}: this is not an image reference",
            "write NAME, NAME:TAG, NAME@sha256:… or an image ID",
        )
    return reference


def inspect_image(engine: EngineSocket, reference: str) -> ImageRecord | None:
    """Return the image that the engine holds under a reference or ID, or None."""
    reply = engine.call("GET", f"/images/{checked_reference(reference)}/json")
    if reply.status == 404:
        return None
    if reply.status >= 400:
        detail = reply.body.decode("utf-8", "replace").strip()
        raise ImageError(f"image {reference}: the engine cannot inspect it: {detail}")
    return image_record(reply.json())


Right = Callable[[ImageRecord], bool]
"""Says of an image that carries a label whether it is the one that is looked for: others inherit labels."""


def any_image(_: ImageRecord) -> bool:
    """Take any image."""
    return True


def find_image(engine: EngineSocket, label: str, value: str, right: Right = any_image) -> ImageRecord | None:
    """Return an image that carries the label and is right, or None.

    What somebody made on top of it carries the label, too: of several the one whose tag ends with how the
    value begins, then a tagged one, then the lowest ID.
    """
    filters = json.dumps({"label": [f"{label}={value}"]})
    found: list[dict[str, Any]] = engine.ask("GET", "/images/json", {"filters": filters}).json()
    for summary in sorted(
        found, key=lambda each: (*preference(each.get("RepoTags") or (), value), each["Id"])
    ):
        record = inspect_image(engine, summary["Id"])
        if record is not None and right(record):
            return record
    return None


def preference(tags: Iterable[str], value: str) -> tuple[bool, bool]:
    """Return what sorts an image with these tags among those with one label; see :func:`find_image`."""
    known = tuple(tags)
    return not any(tag.endswith(f"--{value[:16]}") for tag in known), not known


def image_record(inspection: Mapping[str, Any]) -> ImageRecord:
    """Return what the engine says of an image when it is inspected."""
    config: Mapping[str, Any] = inspection.get("Config") or {}
    return ImageRecord(
        id=inspection["Id"],
        labels=config.get("Labels") or {},
        diff_ids=tuple((inspection.get("RootFS") or {}).get("Layers") or ()),
        config=config,
        tags=tuple(tag for tag in inspection.get("RepoTags") or () if tag != "<none>:<none>"),
        architecture=inspection.get("Architecture") or "",
        os=inspection.get("Os") or "",
        size=inspection.get("Size") or 0,
        digests=tuple(inspection.get("RepoDigests") or ()),
        by_manifest=_is_by_manifest(inspection),
    )


def _is_by_manifest(inspection: Mapping[str, Any]) -> bool:
    """Tell an image of the containerd store: newer engines give its descriptor; in all of them, no driver of
    layers keeps data of it."""
    if inspection.get("Descriptor"):
        return True
    driver = inspection.get("GraphDriver")
    return isinstance(driver, Mapping) and "Data" in driver and driver["Data"] is None
