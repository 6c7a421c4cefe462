"""Images on their way to a registry and from there, without a Docker daemon.

Owns which layers are sent, mounted from another repository of the registry, or left out because they are
there; a registry is told of an image only when all of its parts are there. Refuses to know how an image is
made, and HTTP (``_registry`` does).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dispatch._docker import ImageRecord
from dispatch._registry import Reference, RegistryDoor
from dispatch.environment import RegistryDigest
from dispatch.image.content import ImageContent, LayerSource
from dispatch.image.ports import ImageStore
from dispatch.reporting import Reporter


@dataclass(frozen=True)
class Published:
    """An image of a registry: the reference by its digest, and what its configuration says."""

    reference: RegistryDigest
    record: ImageRecord


class Shipping:
    """Images of the registry behind ``door``. Making one sends nothing.

    ``cache`` is a directory for downloads and compressed layers in progress, and for what is known of layers.
    All methods raise RegistryError (an ImageError) where the registry refuses or does not answer.
    """

    def __init__(self, door: RegistryDoor, cache: Path) -> None:
        self._door = door
        self._cache = cache

    def find(self, reference: Reference, platform: str = "linux/amd64") -> Published | None:
        """Return the image that a reference is of now, None where there is none; downloads no layer.

        The labels of ``record`` tell whether it is the one that was looked for.
        """
        raise NotImplementedError

    def push(
        self, content: ImageContent, reference: Reference, report: Reporter, origins: Sequence[str] = ()
    ) -> RegistryDigest:
        """Send an image; what the registry holds of it is not sent again.

        ``origins`` are references (``host/name@sha256:…``) of images with the same lower layers: where those
        are of this registry, the layers are mounted from there.
        """
        raise NotImplementedError

    def pull(
        self, published: Published, store: ImageStore, report: Reporter, held: Sequence[str] = ()
    ) -> ImageRecord:
        """Bring an image into a store and return it as it is there.

        ``held`` are the digests (``diff_ids``) of the lowest layers that the store has already.
        """
        raise NotImplementedError

    def tag(self, reference: Reference, tag: str) -> None:
        """Give an image of the registry another tag in its repository; nothing but its manifest is sent."""
        raise NotImplementedError


class EngineLayers(LayerSource):
    """The layers of one image of an engine, brought over by one ``docker save`` when first asked for."""
