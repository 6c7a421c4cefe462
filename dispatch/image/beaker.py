"""Publishes generated images to a Beaker workspace: each digest once, found again by everybody there.

An image's name there is its tag (``<readable>--<digest16>``), its description holds the whole digest: that
decides, whoever published it and under whatever name. Owns who makes it where several want to, and what
becomes of one that was begun and never committed. Refuses to know how an image is made.

Of several committed images of one digest the lowest id is taken, so that all clients name the same one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from dispatch._beaker import BeakerConflictError, BeakerDoor, BeakerError, Image
from dispatch._docker import Credentials
from dispatch.environment import BeakerId, LocalId
from dispatch.errors import ImageError
from dispatch.image.filelock import file_lock
from dispatch.image.ports import TransferringStore
from dispatch.image.registry import Called, FinalError, always, persistently, split_reference, without_name
from dispatch.image.spec import tag_of
from dispatch.reporting import Reporter

# How many names one digest may need: each but the last is somebody else's.
_NAMES = 9


class Publisher:
    """Publishes what ``engine`` holds to the workspace of ``door``. Making one sends nothing.

    ``locks`` is a directory in which processes of this machine wait for one another, so that only one of them
    sends an image; others are told apart by Beaker's own names. A transfer goes on for as long as ``wanted``
    says. All methods raise BeakerError.
    """

    def __init__(
        self,
        door: BeakerDoor,
        engine: TransferringStore,
        locks: Path,
        wanted: Callable[[], bool] = always,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._door = door
        self._engine = engine
        self._locks = locks
        self._wanted = wanted
        self._sleep = sleep

    def find(self, digest: str) -> Image | None:
        """Return the committed image of a specification's digest, by whomever, None where there is none."""
        return min((each for each in self._made(digest) if each.committed), key=_id, default=None)

    def publish(self, name: str, digest: str, lock: str, image: LocalId, report: Reporter) -> BeakerId:
        """Return the image of ``digest`` on Beaker, sent there from the engine's ``image`` where need be.

        ``name`` is for the reader; ``lock`` is the digest of the lock that the image was made from. One that
        we once began and did not end is ended.

        :raises ImageError: when the engine cannot send it, or the registry does not take it
        """
        self._locks.mkdir(parents=True, exist_ok=True)
        with file_lock(self._locks / f"beaker-{digest}.lock"):
            return persistently(
                lambda: self._publish(name, digest, lock, image, report),
                name,
                report,
                self._sleep,
                self._wanted,
            )

    def _publish(self, name: str, digest: str, lock: str, image: LocalId, report: Reporter) -> BeakerId:
        found = self._usable(digest) or self._create(name, digest, lock, image)
        if not found.committed:
            report(f"{name}: publishing to Beaker as {found.name}")
            try:
                self._push(found, image, report)
                self._door.images.commit(found.id)
            except (BeakerError, ImageError):
                # Another client of ours may have ended it meanwhile: it is whole, and nobody may change it.
                if self.find(digest) is None:
                    raise
            report(f"{name}: published")
        return BeakerId((self.find(digest) or found).id)

    def _usable(self, digest: str) -> Image | None:
        """Return what is committed, else what we ourselves have begun; another's is not ours to write to."""
        own = self._door.account.user_id
        usable = [each for each in self._made(digest) if each.committed or each.author_id == own]
        return min(usable, key=lambda each: (not each.committed, each.id), default=None)

    def _made(self, digest: str) -> list[Image]:
        short = digest[:16]
        found = self._door.images.search(short)
        return [each for each in found if short in each.name and _digest_of(each) == digest]

    def _create(self, name: str, digest: str, lock: str, image: LocalId) -> Image:
        """Declare the image under the first name that is free; or return what somebody else, or a request of
        our own whose answer was lost, has made meanwhile."""
        tag = tag_of(name, digest)
        description = json.dumps({"dispatch": 1, "digest": digest, "lock": lock})
        for number in range(1, _NAMES + 1):
            free = tag if number == 1 else f"{tag}.{number}"
            try:
                made = self._door.images.create(free, image.id, f"dispatch:{tag}", description)
                return self._door.images.get(made)
            except BeakerConflictError:
                found = self._usable(digest)
                if found is not None:
                    return found
        raise FinalError(
            f"image {name!r}: {_NAMES} images of other content, or of others, have its names on Beaker",
            f"remove those whose name begins with {tag} and that nobody needs",
        )

    def _push(self, found: Image, image: LocalId, report: Reporter) -> None:
        place = self._door.images.repository(found.id, upload=True)
        called = Called(report, place.tag, found.name)
        self._engine.tag(image.id, *split_reference(place.tag))
        try:
            self._engine.push(place.tag, called, Credentials(place.user, place.password), self._wanted)
        finally:
            without_name(self._engine, place.tag, image.id)


def begun(door: BeakerDoor) -> list[Image]:
    """Return the images of our own that were begun and are not whole (yet)."""
    own = door.images.search('"dispatch": 1', own=True)
    return [each for each in own if not each.committed and _is_name_of(each, _digest_of(each))]


def _is_name_of(image: Image, digest: str | None) -> bool:
    return digest is not None and len(digest) == 64 and f"--{digest[:16]}" in image.name


def _id(image: Image) -> str:
    return image.id


def _digest_of(image: Image) -> str | None:
    """The digest that an image's description tells; anybody may have written it."""
    try:
        told = json.loads(image.description)
    except ValueError:
        return None
    digest = told.get("digest") if isinstance(told, dict) else None
    return digest if isinstance(digest, str) else None
