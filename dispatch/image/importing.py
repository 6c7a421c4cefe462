"""Brings images of Beaker into the engine, each under a name that holds its id there.

What a user calls an image may be another one tomorrow; its id on Beaker never is. Owns what a name means, and
where the bytes come from. Refuses an image that is not committed: its content is not fixed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from dispatch._beaker import (
    BeakerDeniedError,
    BeakerDoor,
    BeakerError,
    BeakerNotFoundError,
    BeakerUnreachableError,
    Image,
)
from dispatch._beaker.preflight import reachable
from dispatch._docker import Credentials, ImageRecord
from dispatch.environment import BeakerId
from dispatch.image.plan import beaker_reference
from dispatch.image.ports import TransferringStore
from dispatch.image.registry import Called, FinalError, persistently, split_reference, without_name
from dispatch.reporting import Reporter

_ID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_DOCKER_ID = re.compile(r"sha256:[0-9a-f]{64}")


class Importer:
    """Images of Beaker for one engine, with the credentials of ``door``. Making one sends nothing.

    All methods raise BeakerError where Beaker refuses or does not answer.
    """

    def __init__(
        self, door: BeakerDoor, engine: TransferringStore, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._door = door
        self._engine = engine
        self._sleep = sleep

    def identify(self, name: str) -> BeakerId:
        """Return the id of an image by ``author/name`` or by the name of one of our own; an id is what it is.

        :raises ImageError: when there is none of this name, or it is not committed
        """
        return BeakerId(name if _ID.fullmatch(name) else self.committed(name).id)

    def committed(self, name: str) -> Image:
        """Return what Beaker tells of an image; errors as in :meth:`identify`."""
        reachable(self._door)
        try:
            found = self._door.images.get(name)
        except BeakerNotFoundError as error:
            own = None if "/" in name else self._door.images.find(name)
            if own is None:
                raise FinalError(
                    f"image {name!r}: Beaker at {self._door.address} has none of this name",
                    "name it as AUTHOR/NAME, or by its id; the token's account must see its workspace",
                ) from error
            found = own
        if not found.committed:
            raise FinalError(
                f"image {name!r}: it is on Beaker, but not committed: its content is not whole yet",
                "wait for whoever publishes it, or publish it again",
            )
        return found

    def provide(self, image: BeakerId, report: Reporter) -> ImageRecord:
        """Return the engine's image of an id, fetched where the engine does not hold it.

        :raises ImageError: when it cannot be had
        """
        return persistently(lambda: self._provide(image, report), image.id, report, self._sleep)

    def _provide(self, image: BeakerId, report: Reporter) -> ImageRecord:
        reference = beaker_reference(image)
        held = self._engine.inspect_image(reference)
        if held is None:
            told = self.committed(image.id)
            held = self._engine.inspect_image(told.docker) if _DOCKER_ID.fullmatch(told.docker) else None
            if held is not None:
                self._engine.tag(held.id, *split_reference(reference))
            else:
                held = self._fetch(told, reference, report)
        return held

    def _fetch(self, told: Image, reference: str, report: Reporter) -> ImageRecord:
        """Pull an image, and have it under our own reference alone."""
        report(f"{told.name or told.id}: pulling from Beaker")
        source, login = self._place(told)
        held = self._engine.inspect_image(source) if login is None else None
        if held is None:
            held = self._engine.pull(source, Called(report, source, told.name or told.id), login)
        self._engine.tag(held.id, *split_reference(reference))
        if login is not None:
            without_name(self._engine, source, held.id)
        return held

    def _place(self, told: Image) -> tuple[str, Credentials | None]:
        """Where an image is to be had. One that was never pushed to Beaker is what its reference says."""
        try:
            place = self._door.images.repository(told.id, upload=False)
        except (BeakerNotFoundError, BeakerDeniedError, BeakerUnreachableError):
            raise
        except BeakerError:
            if not told.docker or _DOCKER_ID.fullmatch(told.docker):
                raise
            return told.docker, None
        return place.tag, Credentials(place.user, place.password)
