"""A build plan as a value: every distinct image is there, or is built, fetched or pulled, and why.

Owns what a plan says, for people and machines. Refuses to find anything out (``plan`` does).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from dispatch.environment import BeakerId, DockerImage, Environment, LocalId
from dispatch.image.ports import SharedImage, SharedImages
from dispatch.image.spec import ImageSpec
from dispatch.lock.model import Lock

PENDING = "pending:"
"""Begins what identifies an image that must be pulled before it can be told: its reference follows."""

_BEAKER = "dispatch-beaker"

PART = "+"
"""Stands between the name of an image and what it is a part of it; no user's name has it."""

Identify = Callable[[str], BeakerId]
"""Says which image of Beaker a name is of now; ImageError where there is none."""


def beaker_reference(image: BeakerId) -> str:
    """Return the name under which an engine holds an image of Beaker."""
    return f"{_BEAKER}:{image.id}"


class Action(enum.Enum):
    """What has to be done for an image."""

    PRESENT = "present"
    BUILD = "build"
    FETCH = "fetch"
    PULL = "pull"


@dataclass(frozen=True)
class Elsewhere:
    """Where else images are looked for, and which are not.

    ``identify`` is needed, and asked, for images of Beaker only; ``shared`` is asked for what the engine
    does not hold. What is named in ``again`` is made although it is there, and so are its parts. ``platform``
    (``linux/amd64``) is what a Dockerfile without a base of ours is built for, unless it says so.
    """

    identify: Identify | None = None
    shared: SharedImages | None = None
    again: frozenset[str] = frozenset()
    platform: Callable[[], str] = lambda: ""

    def is_again(self, name: str) -> bool:
        """Whether an image is to be made although it is there."""
        return name.partition(PART)[0] in self.again


NOWHERE = Elsewhere()


@dataclass(frozen=True)
class Generated:
    """An image to be made from a lock or a Dockerfile. ``base`` is the key of the image below it, or ``""``.
    With ``again`` nothing that is cached of it is used.

    While all that stands on a reference that must be pulled, ``spec`` names that instead of what it will be;
    see :meth:`upon`.
    """

    environment: Environment
    lock: Lock | None
    spec: ImageSpec
    base: str = ""
    again: bool = False

    @property
    def settled(self) -> bool:
        """Whether the digest is known."""
        return not self.spec.base.startswith(PENDING)

    @property
    def identity(self) -> str:
        """What identifies it in the specification of what stands on it."""
        return f"spec:{self.spec.digest}" if self.settled else self.spec.base

    def upon(self, identity: str) -> Generated:
        """Return the same with what identifies the base, now that it is there, in its specification."""
        return self if self.settled else replace(self, spec=replace(self.spec, base=identity))


@dataclass(frozen=True)
class Pinned:
    """An image of Beaker, by the id that its name has there now."""

    id: BeakerId


@dataclass(frozen=True)
class ImagePlan:
    """One distinct image: what it is called, what is to be done for it, and why.

    ``key`` is unique in a plan; ``tags`` are all the references it shall have, by name; ``missing_tags``
    those it does not have yet. ``image`` is set for one that is PRESENT, ``shared`` for one to FETCH: its tag
    in the registry, and what that holds.
    """

    key: str
    environments: tuple[Environment, ...]
    tags: Mapping[str, str]
    action: Action
    reason: str
    source: Generated | DockerImage | Pinned
    image: LocalId | None = None
    missing_tags: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    shared: tuple[str, SharedImage] | None = None

    @property
    def again(self) -> bool:
        """Whether it is made although it may be there."""
        return isinstance(self.source, Generated) and self.source.again

    @property
    def digest(self) -> str | None:
        """The digest of the specification; None for an image not of ours, or until its base is pulled."""
        generated = self.source if isinstance(self.source, Generated) else None
        return generated.spec.digest if generated is not None and generated.settled else None

    @property
    def base(self) -> str:
        """The key of the image that must be there first, or ``""``."""
        return self.source.base if isinstance(self.source, Generated) else ""

    def to_json(self) -> dict[str, object]:
        """Return the plan of this image for machines."""
        return {
            "names": sorted(self.tags),
            "references": sorted(set(self.tags.values())),
            "action": self.action.value,
            "reason": self.reason,
            "digest": self.digest,
            "image": self.image.id if self.image else None,
            "registry": self.shared[0] if self.shared else None,
            "changes": list(self.changes),
        }


@dataclass(frozen=True)
class BuildPlan:
    """All images, each after the one it stands on. ``names`` are those asked for, with their keys."""

    images: tuple[ImagePlan, ...]
    names: Mapping[str, str]

    def of(self, name: str) -> ImagePlan:
        """Return the plan of a name that was asked for; KeyError for another."""
        key = self.names[name]
        return next(image for image in self.images if image.key == key)

    @property
    def to_do(self) -> tuple[ImagePlan, ...]:
        """The images that are built, fetched or pulled."""
        return tuple(image for image in self.images if image.action is not Action.PRESENT)

    def explain(self, name: str) -> list[str]:
        """Say of a name what happens to its image, and which inputs changed since it was last built here."""
        image = self.of(name)
        lines = [f"{name}: {image.action.value}: {image.reason}", *(f"  {line}" for line in image.changes)]
        for part in self.images:
            called = sorted(each for each in part.tags if each.startswith(name + PART))
            if called and part.key != image.key:
                lines.append(f"  {called[0]}: {part.action.value}: {part.reason}")
                lines += [f"    {line}" for line in part.changes]
        return lines

    def to_json(self) -> list[dict[str, object]]:
        """Return the plan for machines."""
        return [image.to_json() for image in self.images]
