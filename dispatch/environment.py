"""What a step declares about its image, as values: kinds of declaration, and references to built images.

Owns no file access: ``config`` parses declarations into these, ``lock`` resolves them, ``image`` builds them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Union


class ImageKind(enum.Enum):
    """The kinds of declaration a step's image can come from."""

    DOCKER = "docker"
    PIP = "pip"
    DEBIAN = "debian"
    CONDA = "conda"
    DOCKERFILE = "dockerfile"
    BEAKER = "beaker"


@dataclass(frozen=True)
class DockerImage:
    """An image that exists already, by reference (``name:tag``, ``name@sha256:…``)."""

    reference: str

    kind = ImageKind.DOCKER


class Resolver(enum.Enum):
    """The tools that can resolve a pip declaration; both write one format."""

    UV = "uv"
    PIP_TOOLS = "pip-tools"


@dataclass(frozen=True)
class TargetProfile:
    """What the machines that shall run an image offer, as far as the declaration says it.

    ``glibc`` is ``major.minor``, None for the base's own; ``cuda`` is the highest CUDA version that the
    driver supports (``"12.4"``), None where no GPU is assumed.
    """

    glibc: str | None = None
    cuda: str | None = None


@dataclass(frozen=True)
class CopiedFile:
    """A file or a directory of the host (an absolute path) and its absolute path in the image."""

    source: Path
    target: str


@dataclass(frozen=True)
class Extras:
    """What generated images have beside their packages.

    ``apt`` are packages of the base's distribution, ``run`` commands for ``/bin/sh`` that run after the
    installation: both make images of their own below and above (see ``config.expansion``), so that an
    environment that is built has neither. ``platform`` (``linux/arm64``) is None for the base's own; an
    empty ``user`` is the base's.
    """

    apt: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    copy: tuple[CopiedFile, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    user: str = ""
    platform: str | None = None
    target: TargetProfile = TargetProfile()


@dataclass(frozen=True)
class PipImage:
    """An image made of a base and the locked packages of a requirements file or a ``pyproject.toml``.

    ``requirements`` is an absolute path: a requirements file, a ``pyproject.toml`` (with ``extras`` and
    dependency ``groups``), or an ``environment.yml``, of which its pip section is meant; ``base`` names
    another environment of the catalogue or a Docker reference; ``python`` is a minor version (``"3.11"``)
    or None for the base's own. ``sdists`` are the packages that may be built from source.
    """

    requirements: Path
    lock: Path
    base: str
    python: str | None = None
    bytecode: bool = True
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    resolver: Resolver = Resolver.UV
    sdists: tuple[str, ...] = ()
    more: Extras = Extras()

    kind = ImageKind.PIP

    @property
    def env(self) -> tuple[tuple[str, str], ...]:
        """Variables that every container of the image has."""
        return self.more.env


@dataclass(frozen=True)
class CondaImage:
    """An image made of a base and the locked conda packages of an ``environment.yml``.

    Its pip section is an image of its own, a :class:`PipImage` upon this one. ``file`` is an absolute path;
    ``lock`` is the lock for ``more.platform``; ``python`` is what the declaration demands, None for what
    the file brings. ``resolver`` and ``sdists`` are for the pip section.
    """

    file: Path
    lock: Path
    base: str
    python: str | None = None
    bytecode: bool = True
    resolver: Resolver = Resolver.UV
    sdists: tuple[str, ...] = ()
    more: Extras = Extras()

    kind = ImageKind.CONDA

    @property
    def env(self) -> tuple[tuple[str, str], ...]:
        """Variables that every container of the image has."""
        return self.more.env


@dataclass(frozen=True)
class BuildSecret:
    """A secret of a build: its id in the Dockerfile, and the file or the variable that holds it."""

    id: str
    file: Path | None = None
    variable: str | None = None


@dataclass(frozen=True)
class DockerfileImage:
    """An image that steps inside of it make: those of the user's Dockerfile, or of one that we render.

    With ``file`` (absolute) it is the user's, built from the directory ``context``; without, it is ``base``
    with ``more.apt`` installed and ``more.run`` run. A ``base`` given to a user's file is the build argument
    ``BASE``. ``stage`` is the stage that is built; several ``platforms`` make a multi-platform image.
    """

    file: Path | None
    context: Path | None
    base: str = ""
    args: tuple[tuple[str, str], ...] = ()
    stage: str = ""
    secrets: tuple[BuildSecret, ...] = ()
    ssh: bool = False
    platforms: tuple[str, ...] = ()
    more: Extras = Extras()

    kind = ImageKind.DOCKERFILE

    @property
    def env(self) -> tuple[tuple[str, str], ...]:
        """Variables that every container of the image has."""
        return self.more.env


@dataclass(frozen=True)
class DebianImage:
    """A base image assembled from packages of a Debian archive, each by version and SHA-256.

    ``suites`` are the archive's suites in order (``bookworm``, ``bookworm-security``); ``packages`` are
    installed beside the suite's essential ones; ``python`` is the minor version they bring, or None.
    """

    suites: tuple[str, ...]
    packages: tuple[str, ...]
    architecture: str
    epoch: int
    lock: Path
    python: str | None = None
    env: tuple[tuple[str, str], ...] = ()

    kind = ImageKind.DEBIAN


@dataclass(frozen=True)
class BeakerImage:
    """An image that is on Beaker already: ``author/name``, the name of one of our own, or its id."""

    name: str

    kind = ImageKind.BEAKER


ImageDeclaration = Union[DockerImage, PipImage, CondaImage, DebianImage, DockerfileImage, BeakerImage]


@dataclass(frozen=True)
class Environment:
    """A named declaration. ``origin`` is the file that declares it, for messages only."""

    name: str
    declaration: ImageDeclaration
    origin: Path


@dataclass(frozen=True)
class LocalId:
    """An image of the local engine, by image ID: the digest (``sha256:…``) of its configuration."""

    id: str


@dataclass(frozen=True)
class RegistryDigest:
    """An image of a registry, by the digest of its manifest (``name@sha256:…``).

    Where a user named it otherwise and no engine here has to hold it, by the reference as it was given.
    """

    reference: str


@dataclass(frozen=True)
class BeakerId:
    """An image of Beaker, by its id there."""

    id: str


ImageRef = Union[LocalId, RegistryDigest, BeakerId]
