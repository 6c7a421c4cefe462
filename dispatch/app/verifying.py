"""Verifies images that are in the engine, for the command: inside of them, and by building them again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dispatch.environment import DockerfileImage
from dispatch.errors import ImageError
from dispatch.image.plan import Generated, ImagePlan
from dispatch.image.staging import staging
from dispatch.image.verify import Layer, Verification, Verifier

if TYPE_CHECKING:
    from dispatch.app import App
    from dispatch.app.chosen import Chosen


@dataclass(frozen=True)
class Subject:
    """An image to look into: its name, its ID, and its plan with those of the images below it, by key."""

    name: str
    image: str
    plan: ImagePlan
    known: Mapping[str, ImagePlan]

    def chain(self) -> Iterator[Generated]:
        """What it is made of, from the top down."""
        key = self.plan.key
        while key and isinstance(source := self.known[key].source, Generated):
            yield source
            key = source.base

    def layers(self) -> list[Layer]:
        """What locks put into it, the lowest first."""
        found: list[Layer] = []
        steps = False
        for generated in self.chain():
            steps = steps or isinstance(generated.environment.declaration, DockerfileImage)
            if generated.lock is not None:
                found.insert(0, Layer(generated.lock, steps))
        return found


def subjects(chosen: Chosen) -> list[Subject]:
    """Return what the engine holds of the images that are meant. ImageError for one that is not built."""
    ours = chosen.ours()
    present = ours.images.plan(ours.names)
    # As if nothing were there: all that is below an image is in the plan.
    whole = ours.images.recipes(ours.names)
    known = {image.key: image for image in whole.images}
    found = []
    for name in whole.names:
        image = present.of(name).image
        if image is None:
            raise ImageError(f"image {name!r}: it is not built", "build it with `dispatch build`")
        found.append(Subject(name, image.id, whole.of(name), known))
    return found


def verify(app: App, subject: Subject) -> Verification:
    """Look into one image."""
    layers = subject.layers()
    with staging(app.surroundings.cache / "staging") as work:
        verifier = Verifier(app.door, f"{os.getuid()}:{os.getgid()}", work)
        return verifier.verify(subject.name, subject.image, layers, app.say)
