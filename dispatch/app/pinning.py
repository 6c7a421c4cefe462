"""Fixing images of registries to digests: asks each registry what a tag is now, and writes it down.

Owns which references are asked for. A pin stays as it is until an upgrade is asked for, as versions do; what
no registry gave is in no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from dispatch.config.pinned import read_pin_file, render_pins
from dispatch.errors import ConfigurationError
from dispatch.lock.model import Renewal, summarise, write_lock
from dispatch.reporting import Reporter
from dispatch.settings import RegistrySetting, Surroundings


@dataclass(frozen=True)
class Registries:
    """The registries of all references, with the user's logins; ``own`` is trusted as the settings say."""

    around: Surroundings
    own: RegistrySetting | None

    def __call__(self, reference: str) -> str | None:
        """Return the digest of the image that a reference is of now; raises ImageError."""
        from dispatch._registry import RegistryDoor, docker_logins, parse_reference, way_to

        image, environ, home = parse_reference(reference), self.around.environ, self.around.home
        own = self.own if self.own and self.own.address.partition("/")[0] == image.host else None
        insecure, authority = (own.insecure, own.authority) if own else (False, None)
        way = way_to(image.host, environ, home, insecure, authority)
        return RegistryDoor(image.host, docker_logins(environ, home), way).digest(image)


@dataclass(frozen=True)
class Pinning:
    """The pins of one file. ``ask`` gives the digest of a reference, None for none, or raises ImageError."""

    path: Path
    ask: Callable[[str], str | None]
    say: Reporter

    def renew(self, references: Iterable[str], upgrade: bool) -> Renewal:
        """Fetch the digests of references that have no pin, with ``upgrade`` of all, and write the file.

        ConfigurationError for a reference that its registry does not know; nothing is written then.
        """
        before = read_pin_file(self.path)
        pins = dict(before)
        for reference in sorted(set(references)):
            if reference in pins and not upgrade:
                continue
            self.say(f"{reference}: asking its registry")
            digest = self.ask(reference)
            if digest is None:
                raise ConfigurationError(
                    f"image {reference}: its registry has no such image",
                    "mend the reference, or log in to the registry (`docker login`)",
                )
            pins[reference] = digest
        self.path.parent.mkdir(parents=True, exist_ok=True)
        changed = write_lock(self.path, render_pins(pins))
        return Renewal(
            self.path, changed, summarise(_short(before), _short(pins)).replace("packages", "pins")
        )


def _short(pins: dict[str, str]) -> dict[str, str]:
    return {reference: digest[7:19] for reference, digest in pins.items()}
