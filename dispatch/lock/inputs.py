"""What a pip lock is made from, whichever file says it: the requirements, and what else decides the packages.

Owns the digest by which a lock is known to be stale.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dispatch.environment import PipImage
from dispatch.errors import ConfigurationError
from dispatch.lock.model import PipPin, Target, content_digest
from dispatch.lock.requirements import (
    Collected,
    Place,
    Requirements,
    normalise,
    read_requirements,
    take_line,
)

# What a version may look like (PEP 440).
_VERSION = re.compile(
    r"([0-9]+!)?[0-9]+(\.[0-9]+)*((a|b|rc)[0-9]+)?(\.post[0-9]+)?(\.dev[0-9]+)?(\+[a-z0-9]+([._-][a-z0-9]+)*)?"
)


@dataclass(frozen=True)
class PipInputs:
    """The requirements, the packages that may come from source, and what the base has installed.

    ``provided`` are ``name==version``, normalised and sorted.
    """

    requirements: Requirements
    sdists: tuple[str, ...] = ()
    provided: tuple[str, ...] = ()

    def digest(self, target: Target, provided: Sequence[str] | None = None) -> str:
        """SHA-256 (hex) of all that decides which packages are right for ``target``.

        Of what the base provides only ``provided`` enters, what a lock needs of it: the rest may change.
        Which tool resolves does not enter: both give the same packages.
        """
        plain = self.requirements.digest(target)
        more = {
            "cuda": target.cuda or "",
            "sdists": list(self.sdists),
            "provided": sorted(self.provided if provided is None else provided),
        }
        given = {key: value for key, value in more.items() if value}
        return content_digest(["pip-inputs", 2, plain, given]) if given else plain

    def needed(self, pins: Iterable[PipPin], locked: Iterable[str] = ()) -> tuple[str, ...]:
        """Return what of the base's packages concerns these pins, or was needed by a lock: ``locked``."""
        names = {pin.name for pin in pins} | {name_of(each) for each in locked}
        return tuple(each for each in self.provided if name_of(each) in names)


def name_of(pinned: str) -> str:
    """Return the name in ``name==version``."""
    return pinned.partition("==")[0]


def read_inputs(declaration: PipImage, architecture: str, provided: Sequence[str] = ()) -> PipInputs:
    """Read what a declaration asks for on a machine (``x86_64``); ConfigurationError names file and place.

    ``provided`` are the packages of its base, as ``name==version``; those whose version no package of an
    index can have are left out.
    """
    pairs = (each.partition("==") for each in provided)
    known = {f"{normalise(name)}=={version}" for name, _, version in pairs if _VERSION.fullmatch(version)}
    sdists = tuple(sorted(map(normalise, declaration.sdists)))
    return PipInputs(_requirements(declaration, architecture), sdists, tuple(sorted(known)))


def _requirements(declaration: PipImage, architecture: str) -> Requirements:
    path = declaration.requirements
    if path.suffix == ".toml":
        from dispatch.lock.pyproject import read_pyproject

        return read_pyproject(path, declaration.extras, declaration.groups)
    if declaration.extras or declaration.groups:
        named = "extras" if declaration.extras else "groups"
        raise ConfigurationError(
            f"{path}: only a pyproject.toml has {named}", f"remove `{named}:`, or name a pyproject.toml"
        )
    return read_pip_section(path, architecture) if is_section(path) else read_requirements(path)


def is_section(path: Path) -> bool:
    """Whether a file of requirements is an ``environment.yml``, of which the pip section is meant."""
    return path.suffix in (".yml", ".yaml")


def read_pip_section(path: Path, architecture: str) -> Requirements:
    """Read the pip section of an ``environment.yml`` as it is meant for a machine."""
    from dispatch.lock.condainputs import PLATFORMS
    from dispatch.lock.environmentfile import read_environment_file

    into = Collected()
    for line in read_environment_file(path, PLATFORMS.get(architecture, architecture)).pip:
        where = f", line {line.number}" if line.number else ""
        take_line(line.text, into, Place(path, where))
    return into.of(path)
