"""Renewing the lock of an environment of any kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dispatch.environment import DebianImage, Environment, PipImage
from dispatch.errors import ConfigurationError
from dispatch.lock.apt import Apt
from dispatch.lock.debian import renew_debian
from dispatch.lock.model import BaseFacts, Renewal
from dispatch.lock.pip import renew_pip
from dispatch.lock.uv import Uv


@dataclass(frozen=True)
class Tools:
    """What renewing needs of this machine; ``say`` takes one line of progress."""

    uv: Uv
    apt: Apt
    say: Callable[[str], None]


def renew(
    environment: Environment, facts: BaseFacts | None, tools: Tools, upgrade: bool = False
) -> Renewal | None:
    """Renew the lock of an environment of any kind; None where its kind has no lock (``docker``).

    ``facts`` are those of its base, and needed for the kinds that stand on one. With ``upgrade`` versions of
    the present pip lock are not kept; a Debian lock always takes the archive as it is today.
    """
    declaration = environment.declaration
    if isinstance(declaration, DebianImage):
        return renew_debian(environment, tools.apt, tools.say)
    if not isinstance(declaration, PipImage):
        return None
    if facts is None:
        raise ConfigurationError(
            f"image {environment.name!r}: nothing is known of its base {declaration.base}",
            remedy="lock or build the base first",
        )
    return renew_pip(environment, facts, tools.uv, upgrade)
