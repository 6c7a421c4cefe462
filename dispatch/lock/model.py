"""Locks as values: what exactly an environment resolved to, and what a pip lock must know of its base.

Owns the shapes, their digests and the writing of a lock file. Refuses to read or resolve anything: that
is ``lock.pip`` and ``lock.debian``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dispatch.errors import LockError

HEADER = "# Made by `dispatch lock`. Do not edit: change the inputs and lock again."
FORMAT_VERSION = "1"


def content_digest(tree: object) -> str:
    """Return the SHA-256 (hex) of a JSON tree; the encoding has one spelling for each tree."""
    text = json.dumps(tree, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class BaseFacts:
    """What is known of the image a generated environment stands on.

    ``python`` and ``glibc`` are ``major.minor`` or None where the base has none; ``architecture`` is the
    machine name of the kernel (``x86_64``, ``aarch64``).
    """

    name: str
    python: str | None
    glibc: str | None
    architecture: str


@dataclass(frozen=True)
class Target:
    """What a wheel must fit: Python minor, newest glibc it may need, machine.

    ``cuda`` is the highest CUDA version that the driver supports; None where nothing is said of it.
    """

    python: str
    glibc: str
    architecture: str
    cuda: str | None = None

    def __str__(self) -> str:
        cuda = f", CUDA {self.cuda}" if self.cuda else ""
        return f"Python {self.python}, glibc {self.glibc}, {self.architecture}{cuda}"


@dataclass(frozen=True)
class Upgrade:
    """Which versions of a present lock are not kept: all of them, or those of some packages.

    ``packages`` are normalised names.
    """

    everything: bool = False
    packages: tuple[str, ...] = ()


NO_UPGRADE = Upgrade()


@dataclass(frozen=True)
class PipPin:
    """One package of a pip lock: normalised name, exact version, ``sha256:…`` of each allowed file.

    ``via`` says who asked for it; it is a comment of the file and in no digest.
    """

    name: str
    version: str
    hashes: tuple[str, ...]
    via: tuple[str, ...] = ()


@dataclass(frozen=True)
class PipLock:
    """The exact packages of a pip environment for one target.

    ``inputs`` is the digest of what was asked for; ``indexes`` are the index addresses that the
    requirements file itself names, the first of them the default one if ``own_default`` is set. ``sdists``
    are the packages that are built from source, ``builders`` what is installed for that, and not in the
    image. ``provided`` are packages of the base, as
    ``name==version``, that the pins were resolved with: they are not installed again.
    """

    base: str
    target: Target
    inputs: str
    pins: tuple[PipPin, ...]
    indexes: tuple[str, ...] = ()
    own_default: bool = False
    sdists: tuple[str, ...] = ()
    provided: tuple[str, ...] = ()
    builders: tuple[PipPin, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over target, indexes and pins; comments and the base's name do not enter.

        Nor does CUDA: it decided which pins there are, and changes nothing of what they are.
        """
        target = [self.target.python, self.target.glibc, self.target.architecture]
        tree = ["pip-lock", 1, target, list(self.indexes), self.own_default, _plain(self.pins)]
        built = [list(self.sdists), _plain(self.builders)]
        return content_digest([*tree, *built] if self.sdists else tree)

    @property
    def identity(self) -> str:
        """SHA-256 (hex) over Python and pins: what the packages are, on whatever platform."""
        return content_digest(["pip-identity", 1, self.target.python, _plain(self.pins)])


def _plain(pins: tuple[PipPin, ...]) -> list[object]:
    return [list(pin) for pin in sorted((pin.name, pin.version, sorted(pin.hashes)) for pin in pins)]


@dataclass(frozen=True)
class DebianPackage:
    """One .deb: its SHA-256 (hex) and size, and where an archive that carries ``suite`` keeps it."""

    name: str
    version: str
    architecture: str
    sha256: str
    size: int
    suite: str
    path: str


@dataclass(frozen=True)
class DebianLock:
    """The exact packages of a Debian base. ``architecture`` is Debian's name for it (``amd64``)."""

    suites: tuple[str, ...]
    architecture: str
    epoch: int
    inputs: str
    packages: tuple[DebianPackage, ...]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over architecture, epoch and every .deb by content; no place enters."""
        packages = sorted([p.name, p.version, p.architecture, p.sha256] for p in self.packages)
        return content_digest(["debian-lock", 1, self.architecture, self.epoch, packages])

    @property
    def identity(self) -> str:
        """SHA-256 (hex) over names and versions: what the packages are, on whatever platform."""
        return content_digest(["debian-identity", 1, sorted([p.name, p.version] for p in self.packages)])


@dataclass(frozen=True)
class CondaPackage:
    """One conda package: the file ``subdir/file`` of a channel, by its SHA-256 (hex).

    ``channel`` is what the declaration calls it (``conda-forge``, an address, a path as it is written there);
    ``noarch`` is ``""``, ``"python"`` or ``"generic"``; ``depends`` are match specifications.
    """

    name: str
    version: str
    build: str
    channel: str
    subdir: str
    file: str
    sha256: str
    size: int
    noarch: str = ""
    depends: tuple[str, ...] = ()


@dataclass(frozen=True)
class CondaLock:
    """The exact conda packages of an environment for one platform.

    ``platform`` is conda's name for it (``linux-64``); ``virtual`` are the virtual packages that were
    assumed, by name (``__glibc`` → ``2.36``); ``inputs`` is the digest of what was asked for.
    """

    platform: str
    virtual: tuple[tuple[str, str], ...]
    inputs: str
    packages: tuple[CondaPackage, ...]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over platform, virtual packages and every package; no channel enters."""
        return content_digest(["conda-lock", 1, self.platform, dict(self.virtual), self._packages()])

    @property
    def identity(self) -> str:
        """SHA-256 (hex) over names, versions and builds' contents: what the packages are."""
        named = sorted([package.name, package.version] for package in self.packages)
        return content_digest(["conda-identity", 1, named])

    @property
    def python(self) -> str | None:
        """The minor version of Python that it brings, or None."""
        found = next((each.version for each in self.packages if each.name == "python"), None)
        return None if found is None else ".".join(found.split(".")[:2])

    def _packages(self) -> list[object]:
        # What an installer writes down of a package beside its files enters, too: a channel can amend it.
        return [
            [p.name, p.version, p.build, p.subdir, p.file, p.sha256, p.size, p.noarch, list(p.depends)]
            for p in sorted(self.packages, key=lambda package: (package.name, package.file))
        ]


Lock = PipLock | DebianLock | CondaLock


@dataclass(frozen=True)
class Renewal:
    """What renewing a lock did: the file, whether it is another one now, and one line for the user."""

    path: Path
    changed: bool
    summary: str


def summarise(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Say in one line how the versions by name differ; at most six changes are spelled out."""
    changes = [f"+ {name} {after[name]}" for name in sorted(after.keys() - before.keys())]
    changes += [f"- {name}" for name in sorted(before.keys() - after.keys())]
    changes += [
        f"{name} {before[name]} → {after[name]}"
        for name in sorted(before.keys() & after.keys())
        if before[name] != after[name]
    ]
    if not before or not changes:
        return f"{len(after)} packages"
    more = f", and {len(changes) - 6} more" if len(changes) > 6 else ""
    return f"{len(after)} packages: {', '.join(changes[:6])}{more}"


def write_lock(path: Path, text: str) -> bool:
    """Write a lock by rename, so that a reader sees the old file or the new one; False if it was the same."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if path.read_text(encoding="utf-8") == text:
            return False
    import tempfile  # reading locks is on the path of every command, and this is slow to import

    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise LockError(
            f"{path}: the lock cannot be written: {error.strerror}",
            remedy="make its directory writable",
        ) from error
    return True
