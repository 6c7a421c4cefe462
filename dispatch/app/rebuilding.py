"""Builds images again from their locks, with empty caches, and compares what comes out with what is there.

Owns an engine that takes no image in: a layer is read and hashed, nothing is kept, so that proving that an
image can be made again needs no room for a second one. Refuses images that steps inside of them made: two
builds of one differ.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dispatch._docker import Address, Door, ImageRecord
from dispatch._docker.images import Right, any_image
from dispatch.environment import DockerfileImage, LocalId
from dispatch.errors import DispatchError
from dispatch.image.spec import DIGEST_LABEL
from dispatch.image.staging import staging

if TYPE_CHECKING:
    from dispatch.app import App
    from dispatch.app.chosen import Chosen
    from dispatch.app.verifying import Subject


@dataclass(frozen=True)
class Rebuilt:
    """One image that was built again: its ID in the engine, and the one that came out, or why none did."""

    name: str
    image: str
    again: str = ""
    error: str = ""

    @property
    def same(self) -> bool:
        """Whether it is the same to the bit."""
        return self.image == self.again

    @property
    def problem(self) -> str:
        """What is wrong, empty where nothing is."""
        if self.error:
            return f"{self.name}: {self.error}"
        return (
            "" if self.same else f"{self.name}: the engine has {self.image}, from its lock comes {self.again}"
        )


class RebuildDoor(Door):
    """An engine that seems not to hold the images with ``digests``, and keeps none of what it is sent."""

    def __init__(self, address: Address, home: Path, digests: frozenset[str]) -> None:
        super().__init__(address, home)
        self._digests = digests
        self._made: dict[str, ImageRecord] = {}

    def find_image(self, label: str, value: str, right: Right = any_image) -> ImageRecord | None:
        """See :class:`Door`."""
        if label == DIGEST_LABEL and value in self._digests:
            return None
        return super().find_image(label, value, right)

    def inspect_image(self, reference: str) -> ImageRecord | None:
        """See :class:`Door`; what was sent here is known, too."""
        if any(reference.endswith(f"--{digest[:16]}") for digest in self._digests):
            return None
        return self._made.get(reference) or super().inspect_image(reference)

    def prepare_load(self) -> None:
        """There is nothing to get ready."""

    def load(self, chunks: Iterable[bytes]) -> None:
        """Read an archive to its end, and keep its configuration."""
        config = b""
        with tarfile.open(fileobj=_Reader(chunks), mode="r|") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.name == "config.json" else None
                config = file.read() if file is not None else config
        record = _record(config)
        self._made[record.id] = record

    def tag(self, image_id: str, repository: str, tag: str) -> None:
        """Names are given to what is kept."""


class _Reader(io.RawIOBase):
    """Chunks as a file that is read once."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._left = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        parts = []
        while size:
            if not self._left:
                self._left = next(self._chunks, b"")
                if not self._left:
                    break
            part = self._left if size < 0 else self._left[:size]
            self._left = self._left[len(part) :]
            size -= len(part) if size > 0 else 0
            parts.append(part)
        return b"".join(parts)


def _record(config: bytes) -> ImageRecord:
    document: dict[str, Any] = json.loads(config)
    container: dict[str, Any] = document["config"]
    return ImageRecord(
        id=f"sha256:{hashlib.sha256(config).hexdigest()}",
        labels=container.get("Labels") or {},
        diff_ids=tuple(document["rootfs"]["diff_ids"]),
        config=container,
        tags=(),
        architecture=document["architecture"],
        os=document["os"],
    )


def rebuild(app: App, chosen: Chosen, subjects: Iterable[Subject]) -> Iterator[Rebuilt]:
    """Build again what locks decide of the images, each image once, those below first."""
    from dispatch.app.images import Doors, Images

    present = chosen.images.plan(chosen.images.environments)
    wanted = dict.fromkeys(name for subject in subjects for name in _names(subject))
    digests = frozenset(digest for name in wanted if (digest := present.of(name).digest))
    with staging(app.surroundings.cache / "staging") as work:
        environ = {**app.surroundings.environ, "UV_CACHE_DIR": str(work / "uv")}
        surroundings = replace(app.surroundings, cache=work / "cache", environ=environ)
        door = RebuildDoor(app.door.address, work, digests)
        doors = Doors(lambda: door)
        again = Images(chosen.images.environments, surroundings, doors, "CONFIG", app.say)
        try:
            report = again.build(again.plan(wanted))
        finally:
            door.close()
        for name in wanted:
            held = present.of(name).image
            made = report.images.get(name)
            failure = report.failures.get(name)
            yield Rebuilt(
                name,
                held.id if held is not None else "nothing",
                _known_as(made.id, held, app.door, door) if isinstance(made, LocalId) else "",
                _told(failure),
            )


def _known_as(made: str, held: LocalId | None, engine: Door, door: Door) -> str:
    """Return the ID by which the engine would know what came out: some engines go by manifests,
    and what can be compared of these are the layers.
    """
    there = engine.inspect_image(held.id) if held is not None else None
    again = door.inspect_image(made)
    if there is None or again is None or not there.by_manifest:
        return made
    return there.id if there.diff_ids == again.diff_ids else made


def _names(subject: Subject) -> list[str]:
    """The images that a lock decides, from the bottom up."""
    names = [
        each.environment.name
        for each in subject.chain()
        if not isinstance(each.environment.declaration, DockerfileImage)
    ]
    return names[::-1]


def _told(failure: DispatchError | None) -> str:
    return "" if failure is None else failure.message
