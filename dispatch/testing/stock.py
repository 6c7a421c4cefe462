"""An engine's stock of images and its containers, in memory, for listing and pruning."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from dispatch._docker import ImageRecord
from dispatch._docker.stock import HistoryStep, ImageUser, StockedImage
from dispatch.errors import ImageError
from dispatch.image.spec import BASE_DIGEST_LABEL, DIGEST_LABEL


def digest_of(name: str) -> str:
    """A digest (hex) that is always the same for a name."""
    return hashlib.sha256(name.encode()).hexdigest()


@dataclass
class FakeStock:
    """Images by ID. ``containers`` are the engine's; ``removed`` the removed references, in order."""

    held: dict[str, StockedImage] = field(default_factory=dict)
    histories: dict[str, tuple[HistoryStep, ...]] = field(default_factory=dict)
    containers: list[ImageUser] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    def add(
        self,
        name: str,
        layers: dict[str, int],
        tagged: float | None = None,
        *,
        base: str = "",
        tags: tuple[str, ...] | None = None,
        made_by: str = "dispatch: some layer",
    ) -> str:
        """Hold an image of ours with layers by name and size, and return its ID.

        ``tags`` are those that we would give it; ``base`` is the ID of what it stands on.
        """
        digest = digest_of(f"digest of {name}")
        identity = f"sha256:{digest_of(name)}"
        labels = {DIGEST_LABEL: digest, **({BASE_DIGEST_LABEL: base} if base else {})}
        record = ImageRecord(
            id=identity,
            labels=labels,
            diff_ids=tuple(f"sha256:{digest_of(layer)}" for layer in layers),
            config={},
            tags=(f"dispatch:{name.partition('@')[0]}--{digest[:16]}",) if tags is None else tags,
            size=sum(layers.values()),
        )
        self.held[identity] = StockedImage(record, tagged)
        self.histories[identity] = tuple(HistoryStep(made_by, size) for size in layers.values())
        return identity

    def images(self) -> list[StockedImage]:
        """Return all images."""
        return list(self.held.values())

    def history(self, image: str) -> tuple[HistoryStep, ...]:
        """Return what made an image."""
        return self.histories.get(image, ())

    def users(self) -> list[ImageUser]:
        """Return the containers."""
        return list(self.containers)

    def remove(self, reference: str) -> None:
        """Remove an image as an engine does: by its ID, or with its last name; never one that is in use."""
        found = next(
            (
                image
                for image in self.held.values()
                if reference in (image.record.id, *image.record.tags, *image.record.digests)
            ),
            None,
        )
        if found is None:
            return
        if any(user.image == found.record.id for user in self.containers):
            raise ImageError(f"image {reference}: it cannot be removed: a container uses it")
        self.removed.append(reference)
        names = {*found.record.tags, *found.record.digests} - set(self.removed)
        if reference == found.record.id or not names:
            del self.held[found.record.id]
