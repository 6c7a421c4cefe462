"""The images of ours that an engine holds: what they are called, what they share, who uses them.

Owns the test whether an image is one that we built. Refuses to remove anything (``prune``).

An image that somebody made on top of ours inherits our labels. So a label alone proves nothing: either a name
``dispatch:<readable>--<digest16>`` goes with it, or every step of the image's history is one of ours.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from dispatch._docker import ImageRecord
from dispatch._docker.stock import HistoryStep, ImageUser, StockedImage
from dispatch.image.spec import BASE_DIGEST_LABEL, DIGEST_LABEL
from dispatch.image.usage import Declarer, Usage, UsageIndex

# The repository of a generated image, in the engine or in a registry, and what readable names look like.
_NAME = re.compile(r"(?:[^:@\s]+(?::[0-9]+)?/)?dispatch:(?P<readable>[a-z0-9_.-]+)--(?P<digest>[0-9a-f]{16})")
_ON_BEAKER = re.compile(r"dispatch-beaker:[A-Za-z0-9]+")
_STEP = "dispatch: "


class ImageStock(Protocol):
    """All that an engine holds (``_docker.stock.Stock``). Methods may raise EngineError."""

    def images(self) -> list[StockedImage]:
        """Return all images."""

    def history(self, image: str) -> tuple[HistoryStep, ...]:
        """Return what made an image, first step first."""

    def users(self) -> list[ImageUser]:
        """Return the containers of all states."""

    def remove(self, reference: str) -> None:
        """Remove a name, or an image by its ID; ImageError where a container uses it."""


@dataclass(frozen=True)
class Held:
    """One image of ours. Sizes in bytes: ``size`` of all its layers, ``shared`` of those others have, too.

    ``names`` are the readable ones of its tags; ``strangers`` are names that others gave it. ``last`` is its
    last use: of itself, or of an image of ours that stands on it; None where none is known. ``layers`` maps
    what identifies each layer in its place (its chain) to its size.
    """

    record: ImageRecord
    digest: str
    names: tuple[str, ...]
    strangers: tuple[str, ...]
    size: int
    shared: int
    layers: Mapping[str, int]
    last: float | None
    by: tuple[Declarer, ...] = ()
    containers: tuple[ImageUser, ...] = ()
    base: str = ""

    @property
    def id(self) -> str:
        """The image ID."""
        return self.record.id

    @property
    def title(self) -> str:
        """What people call it."""
        return ", ".join(self.names) or "<unnamed>"


@dataclass(frozen=True)
class Holdings:
    """What an engine holds: our images, last used first, and the layers of everybody else's."""

    images: tuple[Held, ...]
    foreign: frozenset[str] = field(default_factory=frozenset)

    def total(self, images: Iterable[Held] | None = None) -> int:
        """Return the size of images (of all) with each layer counted once, those of others left out."""
        layers: dict[str, int] = {}
        for image in self.images if images is None else images:
            layers.update(image.layers)
        return sum(size for chain, size in layers.items() if chain not in self.foreign)


def survey(stock: ImageStock, usage: UsageIndex) -> Holdings:
    """Ask an engine what it holds; asks of every image of ours what made it."""
    users = stock.users()
    ours: list[Held] = []
    foreign: set[str] = set()
    for each in stock.images():
        digest = each.record.labels.get(DIGEST_LABEL, "")
        history = stock.history(each.record.id) if digest else ()
        if digest and is_ours(each.record, digest, history):
            using = tuple(user for user in users if user.image == each.record.id)
            ours.append(_held(each, digest, history, usage.of(each.record.id), using))
        else:
            foreign.update(chains(each.record.diff_ids))
    return Holdings(_sorted(_with_bases(_with_shared(ours, foreign))), frozenset(foreign))


def is_ours(record: ImageRecord, digest: str, history: Iterable[HistoryStep]) -> bool:
    """Tell whether we built an image that carries ``digest`` in its label."""
    if any(_readable(tag, digest) for tag in record.tags):
        return True
    steps = tuple(history)
    return bool(steps) and all(step.made_by.startswith(_STEP) for step in steps)


def _readable(tag: str, digest: str) -> str:
    """Return the readable part of a name that goes with a digest; empty for any other name."""
    match = _NAME.fullmatch(tag)
    return match["readable"] if match is not None and match["digest"] == digest[:16] else ""


def chains(diff_ids: Iterable[str]) -> list[str]:
    """Return what identifies each layer on those below it (the chain ID of the OCI image specification)."""
    found: list[str] = []
    for diff_id in diff_ids:
        text = f"{found[-1]} {diff_id}" if found else ""
        found.append(f"sha256:{hashlib.sha256(text.encode()).hexdigest()}" if text else diff_id)
    return found


def _held(
    image: StockedImage,
    digest: str,
    history: tuple[HistoryStep, ...],
    usage: Usage,
    using: tuple[ImageUser, ...],
) -> Held:
    record = image.record
    ours = {tag: name for tag in record.tags if (name := _readable(tag, digest))}
    times = [time for time in (usage.last, image.tagged) if time is not None]
    return Held(
        record=record,
        digest=digest,
        names=tuple(sorted(set(ours.values()))),
        strangers=tuple(tag for tag in record.tags if tag not in ours and not _ON_BEAKER.fullmatch(tag)),
        size=record.size,
        shared=0,
        layers=_layers(record, history),
        last=max(times, default=None),
        by=usage.by,
        containers=using,
        base=record.labels.get(BASE_DIGEST_LABEL, ""),
    )


def _layers(record: ImageRecord, history: tuple[HistoryStep, ...]) -> dict[str, int]:
    """Return the size of each layer. A history may also tell of steps that made none: those add nothing."""
    sizes = [step.size for step in history]
    if len(sizes) != len(record.diff_ids):
        sizes = [size for size in sizes if size]
    if len(sizes) != len(record.diff_ids):
        # Which layers are empty is not told: all that is known is the sum.
        sizes = [0] * (len(record.diff_ids) - 1) + [record.size]
    return dict(zip(chains(record.diff_ids), sizes, strict=False))


def _with_shared(images: list[Held], foreign: set[str]) -> list[Held]:
    holders = Counter(chain for image in images for chain in image.layers)
    return [
        replace(
            image,
            shared=sum(
                size for chain, size in image.layers.items() if holders[chain] > 1 or chain in foreign
            ),
        )
        for image in images
    ]


def _with_bases(images: list[Held]) -> list[Held]:
    """Let the use of an image count for those below it: they are never asked for by themselves."""
    known = {image.id: image for image in images}
    # A chain is a few images long, and nothing can stand on itself.
    for image in images:
        last, below = image.last, known.get(image.base)
        while below is not None and last is not None:
            last = max(last, known[below.id].last or 0.0)
            known[below.id] = replace(known[below.id], last=last)
            below = known.get(below.base)
    return list(known.values())


def _sorted(images: Iterable[Held]) -> tuple[Held, ...]:
    return tuple(sorted(images, key=lambda image: (-(image.last or 0.0), image.title, image.id)))
