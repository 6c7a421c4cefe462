"""The registry of the settings while images are planned and built: asked for what the engine lacks.

Owns that a registry which does not answer costs a line and no more: what it was to give is built here. Who
pushes to a registry requires it; see ``pushing``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from dispatch.errors import DispatchError, EngineError, ImageError
from dispatch.image.ports import SharedImage, SharedImages
from dispatch.image.spec import ImageSpec
from dispatch.reporting import Reporter


class Lenient:
    """A registry that is asked until it fails once. Satisfies :class:`dispatch.image.ports.SharedImages`.

    ``make`` gives the registry, when it is first needed: mostly the engine has everything.
    """

    def __init__(self, make: Callable[[], SharedImages], say: Reporter) -> None:
        self._make = make
        self._say = say
        self._off = False

    @cached_property
    def _shared(self) -> SharedImages:
        return self._make()

    @property
    def repository(self) -> str:
        """What stands before a tag there."""
        return self._shared.repository

    def find(self, tag: str, platform: str) -> SharedImage | None:
        """Return the image of a tag; None, too, once the registry has failed."""
        if self._off:
            return None
        try:
            return self._shared.find(tag, platform)
        except (ImageError, EngineError) as error:
            self.give_up(error)
            return None

    def fetch(self, image: SharedImage, report: Reporter) -> None:
        """See :class:`dispatch.image.ports.SharedImages`."""
        self._shared.fetch(image, report)

    def push(self, name: str, spec: ImageSpec, image_id: str, report: Reporter) -> SharedImage:
        """See :class:`dispatch.image.ports.SharedImages`."""
        return self._shared.push(name, spec, image_id, report)

    def give_up(self, error: DispatchError) -> None:
        """Ask no more, and say so."""
        if not self._off:
            self._off = True
            self._say(f"registry {self.repository}: {error.message}: what is missing is built here")
