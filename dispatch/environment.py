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


@dataclass(frozen=True)
class PipImage:
    """An image made of a base and the locked packages of a ``requirements.in``.

    ``requirements`` is an absolute path; ``base`` names another environment of the catalogue or a
    Docker reference; ``python`` is a minor version (``"3.11"``) or None for the base's own.
    """

    requirements: Path
    lock: Path
    base: str
    python: str | None = None
    bytecode: bool = True
    env: tuple[tuple[str, str], ...] = ()

    kind = ImageKind.PIP


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


ImageDeclaration = Union[DockerImage, PipImage, DebianImage, BeakerImage]


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
