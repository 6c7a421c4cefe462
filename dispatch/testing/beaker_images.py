"""Images of one test, from the real engine to a local Beaker: loaded, published, counted, and removed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dispatch._beaker import BeakerDoor
from dispatch._docker import Credentials, Door
from dispatch.beakerd.config import Assumptions, Config, NameScope, UserConfig
from dispatch.environment import LocalId
from dispatch.errors import ImageError
from dispatch.image.beaker import Publisher
from dispatch.image.ports import TransferringStore
from dispatch.reporting import Reporter
from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_doors import door_of
from dispatch.testing.layers import layered_archive
from dispatch.testing.reporting import RecordingReporter

USERS = (UserConfig("me", ("ai2",), admin=True), UserConfig("you", ("ai2",)))


def config_of(scope: NameScope = NameScope.AUTHOR) -> Config:
    """A server with two users, and faults on demand."""
    return Config(users=USERS, control=True, assume=Assumptions(names=scope))


@dataclass(frozen=True)
class Built:
    """An image that the engine holds, as a build leaves it."""

    digest: str
    image: LocalId
    lock: str = "a" * 64


class Bench:
    """What one test has in the engine and open to Beaker. Close it: nothing of it is left."""

    def __init__(self, door: Door, locks: Path):
        self.door = door
        self._locks = locks
        self._images: list[str] = []
        self._open: list[BeakerDoor] = []

    def built(self, *sizes: int) -> Built:
        """Load an image of new random layers."""
        reference = f"dispatch-test-publish:{os.urandom(6).hex()}"
        self.door.load([layered_archive(reference, [os.urandom(size) for size in sizes or (1000,)])])
        record = self.door.inspect_image(reference)
        assert record is not None
        self._images.append(record.id)
        return Built(hashlib.sha256(record.id.encode()).hexdigest(), LocalId(record.id))

    def beaker(self, beaker: LocalBeaker, user: str = "me", patience: float = 30.0) -> BeakerDoor:
        """A user's door."""
        self._open.append(door_of(beaker, user, patience=patience))
        return self._open[-1]

    def publisher(
        self,
        beaker: LocalBeaker,
        user: str = "me",
        engine: TransferringStore | None = None,
        patience: float = 30.0,
    ) -> Publisher:
        """A user's publisher, on a machine of its own as far as locks tell."""
        door = self.beaker(beaker, user, patience)
        locks = self._locks / str(len(self._open))
        return Publisher(door, engine or self.door, locks, sleep=lambda _: None)

    def images(self, beaker: LocalBeaker) -> list[tuple[str, bool]]:
        """All images of the workspace: name, and whether it is committed."""
        return [(each.name, each.committed) for each in self.beaker(beaker).images.search()]

    def names(self, image: LocalId) -> list[str]:
        """What the engine calls an image."""
        record = self.door.inspect_image(image.id)
        assert record is not None
        return [*record.tags, *record.digests]

    def close(self) -> None:
        """Put everything in order."""
        for each in self._open:
            each.close()
        for image in self._images:
            while (record := self.door.inspect_image(image)) is not None:
                self.door.remove_image((*record.tags, *record.digests, image)[0])


def publish(publisher: Publisher, built: Built, name: str = "tools", report: Reporter | None = None) -> str:
    """Publish, and return the id."""
    told = report or RecordingReporter()
    return publisher.publish(name, built.digest, built.lock, built.image, told).id


class WatchedEngine:
    """The real engine, watched. The first ``broken`` pushes break off after the fact; before the first one
    ``meanwhile`` happens."""

    def __init__(self, door: Door, broken: int = 0, meanwhile: Callable[[], object] = lambda: None):
        self._door = door
        self._broken = broken
        self._meanwhile = meanwhile
        self.pushes: list[Credentials] = []
        self.inspect_image, self.tag, self.remove_image = door.inspect_image, door.tag, door.remove_image
        self.pull = door.pull

    def push(
        self, reference: str, report: Reporter, credentials: Credentials, wanted: Callable[[], bool]
    ) -> None:
        """Push."""
        self.pushes.append(credentials)
        if len(self.pushes) == 1:
            self._meanwhile()
        self._door.push(reference, report, credentials, wanted)
        if len(self.pushes) <= self._broken:
            raise ImageError("the line was cut")
