"""A small catalogue of images with its locks in memory: what planning and building are tested with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dispatch.environment import DebianImage, DockerImage, Environment, ImageDeclaration, PipImage
from dispatch.errors import LockError
from dispatch.lock.model import CondaLock, DebianLock, DebianPackage, Lock, PipLock, PipPin, Target

ORIGIN = Path("/repo/experiment.yml")


def pip_lock(*packages: str, python: str = "3.11", glibc: str = "2.36") -> PipLock:
    """Return a lock of ``name==version`` packages."""
    pins = tuple(
        PipPin(name, version, (f"sha256:{name:0<64.64}",))
        for name, _, version in (package.partition("==") for package in packages)
    )
    return PipLock("base", Target(python, glibc, "x86_64"), "0" * 64, pins)


def debian_lock(python: str = "3.11.2-1+b1", libc: str = "2.36-9+deb12u10") -> DebianLock:
    """Return a lock of a base with Python."""
    versions = {"python3": python, "libc6": libc}
    packages = tuple(
        DebianPackage(name, version, "amd64", "0" * 64, 1, "bookworm", f"pool/{name}.deb")
        for name, version in versions.items()
    )
    return DebianLock(("bookworm",), "amd64", 1700000000, "0" * 64, packages)


def debian_image(name: str = "base") -> DebianImage:
    """Return the declaration of a base with Python."""
    return DebianImage(("bookworm",), ("python3",), "x86_64", 1700000000, Path(f"/repo/{name}.lock"))


def pip_image(name: str, base: str = "base", bytecode: bool = True) -> PipImage:
    """Return the declaration of a pip environment."""
    return PipImage(Path(f"/repo/{name}.in"), Path(f"/repo/{name}.lock"), base, bytecode=bytecode)


def environments(**declarations: ImageDeclaration | str) -> dict[str, Environment]:
    """Return a catalogue; a string stands for the Docker image of that reference."""
    return {
        name: Environment(name, DockerImage(each) if isinstance(each, str) else each, ORIGIN)
        for name, each in declarations.items()
    }


@dataclass
class FakeLocks:
    """Locks by the name of their environment; one that is not there is missing."""

    locks: Mapping[str, Lock] = field(default_factory=dict)

    def pip(self, environment: Environment) -> PipLock:
        """Return a pip lock."""
        found = self._of(environment)
        assert isinstance(found, PipLock)
        return found

    def debian(self, environment: Environment) -> DebianLock:
        """Return a Debian lock."""
        found = self._of(environment)
        assert isinstance(found, DebianLock)
        return found

    def conda(self, environment: Environment) -> CondaLock:
        """Return a conda lock."""
        found = self._of(environment)
        assert isinstance(found, CondaLock)
        return found

    def _of(self, environment: Environment) -> Lock:
        if environment.name not in self.locks:
            raise LockError(f"image {environment.name!r}: no lock", remedy="renew it with `dispatch lock`")
        return self.locks[environment.name]
