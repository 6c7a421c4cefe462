"""All images that an engine holds, and the containers that use them: what a list and a clean-up look at.

Owns how these listings are read, and a removal that takes nothing with it. Refuses to decide what goes.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dispatch._docker.images import ImageRecord, checked_reference, image_record
from dispatch._docker.socket import EngineSocket
from dispatch.errors import ImageError

_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)")
_NEVER = "0001-01-01"


@dataclass(frozen=True)
class HistoryStep:
    """One line of an image's history: what made it, and how many bytes it added."""

    made_by: str
    size: int


@dataclass(frozen=True)
class StockedImage:
    """An image, and when it was given its last name (seconds since the epoch, None where that is unknown)."""

    record: ImageRecord
    tagged: float | None


@dataclass(frozen=True)
class ImageUser:
    """A container, the ID of its image, and the engine's word for its state (``running``, ``exited``, …)."""

    name: str
    image: str
    state: str


def held(records: Iterable[ImageRecord], diff_ids: Sequence[str]) -> int:
    """Return how many of the lowest layers need not be sent to an engine that holds these images.

    None for the containerd image store, which takes in only what is whole.
    """
    most = 0
    for record in records:
        pairs = () if record.by_manifest else zip(record.diff_ids, diff_ids, strict=False)
        common = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        most = max(most, common)
    return most


class Stock:
    """The images of one engine. Every method raises EngineError when it does not answer."""

    def __init__(self, engine: EngineSocket) -> None:
        self._engine = engine

    def images(self) -> list[StockedImage]:
        """Return all images, but for the unnamed ones that are only steps on the way to others."""
        summaries: list[dict[str, Any]] = self._engine.ask("GET", "/images/json").json()
        found = []
        for identity in sorted(str(each["Id"]) for each in summaries):
            reply = self._engine.call("GET", f"/images/{identity}/json")
            if reply.status < 400:  # it may have been removed since
                inspection = reply.json()
                stamp = (inspection.get("Metadata") or {}).get("LastTagTime") or _NEVER
                found.append(StockedImage(image_record(inspection), _seconds(stamp)))
        return found

    def lowest_held(self, diff_ids: Sequence[str]) -> int:
        """Return how many of the lowest layers of an image are here as those of others; see :func:`held`."""
        return held((each.record for each in self.images()), diff_ids)

    def history(self, image: str) -> tuple[HistoryStep, ...]:
        """Return what made an image, its first step first; nothing where the engine holds it no longer."""
        reply = self._engine.call("GET", f"/images/{checked_reference(image)}/history")
        if reply.status >= 400:
            return ()
        steps: list[dict[str, Any]] = reply.json()
        return tuple(
            HistoryStep(str(each.get("CreatedBy") or ""), int(each["Size"])) for each in reversed(steps)
        )

    def users(self) -> list[ImageUser]:
        """Return the containers of all states."""
        rows: list[dict[str, Any]] = self._engine.ask("GET", "/containers/json", {"all": "1"}).json()
        return [
            ImageUser((row["Names"] or [row["Id"]])[0].lstrip("/"), str(row["ImageID"]), str(row["State"]))
            for row in rows
        ]

    def remove(self, reference: str) -> None:
        """Take a name from its image, or remove one by its ID with all names of one repository.

        What it stands on stays. An absent one is no error; ImageError where a container uses it.
        """
        path = f"/images/{checked_reference(reference)}"
        reply = self._engine.call("DELETE", path, {"noprune": "1"})
        if reply.status >= 400 and reply.status != 404:
            detail = reply.body.decode("utf-8", "replace").strip()
            raise ImageError(f"image {reference}: it cannot be removed: {detail}")


def _seconds(stamp: str) -> float | None:
    """Return one of the engine's times as seconds since the epoch; None for the one that means never."""
    match = _STAMP.fullmatch(stamp)
    if match is None or stamp.startswith(_NEVER):
        return None
    return datetime.fromisoformat(match[1] + match[2].replace("Z", "+00:00")).timestamp()
