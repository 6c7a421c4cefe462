"""What a conda lock is made from: the environment's file, its target, and what its base offers.

Owns conda's names of platforms, and the virtual packages: what packages may demand of the machine comes from
the target and the base, never from the machine that locks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dispatch.environment import CondaImage
from dispatch.errors import ConfigurationError, LockError
from dispatch.lock.environmentfile import EnvironmentFile, read_environment_file, spec_name
from dispatch.lock.model import BaseFacts, CondaLock

PLATFORMS = {"x86_64": "linux-64", "aarch64": "linux-aarch64", "ppc64le": "linux-ppc64le"}
_DOCKER = {"amd64": "linux-64", "arm64": "linux-aarch64", "ppc64le": "linux-ppc64le"}
# The oldest kernel that a machine is assumed to have.
_KERNEL = "4.18"
_BOUNDS = re.compile(r"(?:>=|<=|!=|>|<)[0-9.]+(?:,(?:>=|<=|!=|>|<)[0-9.]+)*")


@dataclass(frozen=True)
class Inputs:
    """What is to be resolved. ``path`` is the file that says so, and relative channels are relative to it."""

    path: Path
    channels: tuple[str, ...]
    specs: tuple[str, ...]
    platform: str
    virtual: tuple[tuple[str, str], ...]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all that decides which packages are right."""
        file = EnvironmentFile(self.path, self.channels, self.specs)
        return file.digest(self.platform, dict(self.virtual))


def inputs_for(name: str, declaration: CondaImage, facts: BaseFacts) -> Inputs:
    """Return what the environment ``name`` asks for on a base.

    ConfigurationError where no conda package runs on that base, or where it offers less than the target.
    """
    platform = PLATFORMS.get(facts.architecture)
    if platform is None or facts.glibc is None:
        lacking = "no glibc" if facts.glibc is None else f"the machine {facts.architecture}"
        raise ConfigurationError(
            f"image {name!r}: its base {facts.name} has {lacking}, so no conda packages fit it",
            remedy=f"choose a base with glibc, for one of: {', '.join(PLATFORMS)}",
        )
    declared = conda_platform(declaration)
    if declared is not None and declared != platform:
        raise ConfigurationError(
            f"image {name!r} is for {declaration.more.platform}, its base {facts.name} for {platform}",
            remedy="name a base for that platform",
        )
    glibc = declaration.more.target.glibc or facts.glibc
    if version_key(glibc) > version_key(facts.glibc):
        raise ConfigurationError(
            f"image {name!r}: its target promises glibc {glibc}, its base {facts.name} has {facts.glibc}",
            remedy=f'write `glibc: "{facts.glibc}"` or less, or choose a newer base',
        )
    return _inputs(declaration, platform, glibc)


def inputs_of(declaration: CondaImage, lock: CondaLock) -> Inputs:
    """Return what a declaration asks for now, as far as it says; for the rest, what the lock was made for."""
    platform = conda_platform(declaration) or lock.platform
    glibc = declaration.more.target.glibc or dict(lock.virtual).get("__glibc", "")
    return _inputs(declaration, platform, glibc)


def conda_platform(declaration: CondaImage) -> str | None:
    """Return conda's name of the platform that is declared, or None where it is the base's."""
    platform = declaration.more.platform
    if platform is None:
        return None
    machine = platform.split("/")[1] if platform.startswith("linux/") else ""
    if machine not in _DOCKER:
        raise ConfigurationError(
            f"{declaration.file}: no conda packages are made for the platform {platform}",
            remedy=f"choose one of: {', '.join(f'linux/{each}' for each in _DOCKER)}",
        )
    return _DOCKER[machine]


def virtual_packages(platform: str, glibc: str, cuda: str | None) -> tuple[tuple[str, str], ...]:
    """Return what packages may demand of the machine, by name."""
    machine = next((machine for machine, name in PLATFORMS.items() if name == platform), "")
    offered = {
        "__unix": "0",
        "__linux": _KERNEL,
        # The oldest of its kind: a package for newer processors would not run everywhere.
        "__archspec": f"1 {machine}",
        "__glibc": glibc,
    }
    if cuda is not None:
        offered["__cuda"] = cuda
    return tuple(sorted(offered.items()))


def version_key(version: str) -> tuple[int, ...]:
    """Return a version of glibc as something to compare."""
    return tuple(int(part) for part in version.split("."))


def refuse_misfit(name: str, lock: CondaLock, facts: BaseFacts) -> None:
    """Raise LockError if the lock of the environment ``name`` was made for another base than this."""
    platform = PLATFORMS.get(facts.architecture, facts.architecture)
    glibc = dict(lock.virtual).get("__glibc", "0")
    if platform != lock.platform:
        problem = f"locked for {lock.platform}, its base {facts.name!r} is {platform}"
    elif facts.glibc is None or version_key(glibc) > version_key(facts.glibc):
        has = f"has {facts.glibc}" if facts.glibc else "has none"
        problem = f"locked for glibc {glibc}, its base {facts.name!r} {has}"
    else:
        return
    raise LockError(f"image {name!r}: {problem}", remedy="renew the lock with `dispatch lock`")


def _inputs(declaration: CondaImage, platform: str, glibc: str) -> Inputs:
    file = read_environment_file(declaration.file, platform)
    specs = tuple(" ".join(spec.split()) for spec in file.specs)
    if declaration.python:
        specs = _with_python(specs, f"{declaration.python}.*")
    virtual = virtual_packages(platform, glibc, declaration.more.target.cuda)
    return Inputs(file.path, file.channels, specs, platform, virtual)


def _with_python(specs: tuple[str, ...], demanded: str) -> tuple[str, ...]:
    """Return the specifications with a version of Python demanded, too.

    One of another form than bounds is left as it is: what it brings is held against the declaration later.
    """
    own = next((spec for spec in specs if spec_name(spec) == "python"), None)
    if own is None:
        return (*specs, f"python {demanded}")
    bounds = own.removeprefix("python").replace(" ", "")
    if own != "python" and not _BOUNDS.fullmatch(bounds):
        return specs
    both = f"python {bounds},{demanded}" if bounds else f"python {demanded}"
    return tuple(both if spec == own else spec for spec in specs)
