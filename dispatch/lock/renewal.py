"""Renewing the lock of an environment of any kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dispatch.environment import CondaImage, DebianImage, Environment, PipImage, Resolver
from dispatch.errors import ConfigurationError
from dispatch.lock.apt import Apt
from dispatch.lock.conda import renew_conda
from dispatch.lock.condalock import CondaLockTool
from dispatch.lock.debian import renew_debian
from dispatch.lock.model import NO_UPGRADE, BaseFacts, Renewal, Upgrade
from dispatch.lock.pip import renew_pip
from dispatch.lock.piptools import PipTools
from dispatch.lock.sdists import Sdists
from dispatch.lock.uv import Uv


@dataclass(frozen=True)
class Tools:
    """What renewing needs of this machine; ``say`` takes one line of progress.

    ``sdists`` fetches what is built from source, where a declaration has that.
    """

    uv: Uv
    piptools: PipTools
    conda: CondaLockTool
    apt: Apt
    say: Callable[[str], None]
    sdists: Sdists | None = None


def renew(
    environment: Environment,
    facts: BaseFacts | None,
    tools: Tools,
    upgrade: Upgrade = NO_UPGRADE,
    provided: tuple[str, ...] = (),
) -> Renewal | None:
    """Renew the lock of an environment of any kind; None where its kind has no lock (``docker``).

    ``facts`` are those of its base, and needed for the kinds that stand on one; ``provided`` are packages
    that the base has, as ``name==version``. Versions that ``upgrade`` names are not kept; a Debian lock
    always takes the archive as it is today.
    """
    declaration = environment.declaration
    if isinstance(declaration, DebianImage):
        return renew_debian(environment, tools.apt, tools.say)
    if not isinstance(declaration, (PipImage, CondaImage)):
        return None
    if facts is None:
        raise ConfigurationError(
            f"image {environment.name!r}: nothing is known of its base {declaration.base}",
            remedy="lock or build the base first",
        )
    if isinstance(declaration, CondaImage):
        return renew_conda(environment, facts, tools.conda, upgrade.everything, upgrade.packages)
    resolver = tools.uv if declaration.resolver is Resolver.UV else tools.piptools
    requires = tools.sdists.requires if tools.sdists is not None else None
    return renew_pip(environment, facts, resolver, upgrade, provided, requires)
