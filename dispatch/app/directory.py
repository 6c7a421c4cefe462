"""The images of one configuration in a directory of the OCI layout: no engine takes part.

Owns what becomes of a declaration then: nothing can be run, so bytecode is left out, which is another digest,
and what steps inside of an image make is refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch.environment import (
    BeakerImage,
    CondaImage,
    DockerfileImage,
    Environment,
    ImageDeclaration,
    PipImage,
)
from dispatch.errors import EngineError, ImageError
from dispatch.image.ocilayout import OciLayout
from dispatch.image.spec import platform_of
from dispatch.reporting import Reporter

if TYPE_CHECKING:
    from dispatch._docker import ImageRecord
    from dispatch._docker.helper import Finished, OneShot
    from dispatch.image.shipping import Shipping


class NoEngine:
    """Runs nothing. Satisfies :class:`dispatch.image.ports.HelperRunner`."""

    def run_once(self, shot: OneShot) -> Finished:
        """Refuse."""
        raise EngineError(
            f"image {shot.image[:19]}: which Python it has can only be found out by running it",
            "name a base that is made from a lock, or build into the engine",
        )


@dataclass(frozen=True)
class Fetching:
    """Brings images of registries into a directory; ``shipping`` speaks to the registry at a host."""

    shipping: Callable[[str], Shipping]

    def __call__(self, reference: str, layout: OciLayout, report: Reporter) -> ImageRecord:
        """Fetch an image for this machine's platform."""
        from dispatch._registry import parse_reference

        named = parse_reference(reference)
        shipping = self.shipping(named.host)
        published = shipping.find(named, platform_of(os.uname().machine))
        if published is None:
            raise ImageError(
                f"image {reference}: its registry has none of this name for this machine", "correct the name"
            )
        return shipping.pull(published, layout, report)


def without_engine(
    environments: Mapping[str, Environment], names: Iterable[str], root: Path
) -> dict[str, Environment]:
    """Return a catalogue as it can be built into the directory ``root``.

    :raises ImageError: for one of the names that needs an engine, itself or below it
    """
    waiting = list(names)
    while waiting:
        environment = environments.get(waiting.pop())
        if environment is not None:
            _refuse(environment, root)
            waiting.append(getattr(environment.declaration, "base", ""))
    return {name: replace(each, declaration=_plain(each)) for name, each in environments.items()}


def _refuse(environment: Environment, root: Path) -> None:
    declaration = environment.declaration
    if isinstance(declaration, DockerfileImage):
        what = "is built by running commands"
    elif isinstance(declaration, BeakerImage):
        what = "is Beaker's"
    elif isinstance(declaration, PipImage) and declaration.sdists:
        what = "has packages that are built from source"
    else:
        return
    raise ImageError(
        f"image {environment.name!r}: it {what}, and into {root} images come without an engine",
        "build it into the engine; `docker save` writes it to a file",
    )


def _plain(environment: Environment) -> ImageDeclaration:
    declaration = environment.declaration
    if isinstance(declaration, (PipImage, CondaImage)):
        return replace(declaration, bytecode=False)
    return declaration
