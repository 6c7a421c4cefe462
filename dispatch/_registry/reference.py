"""Names of images in registries, taken apart.

Owns what a host, a repository, a tag and a digest may look like, and the names that Docker leaves out
(``python:3.11`` is ``docker.io/library/python:3.11``). Source: the grammar of distribution references.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from dispatch._registry.problems import RegistryError

DOCKER_HUB = "docker.io"

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:]+\])(?::[0-9]{{1,5}})?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Reference:
    """An image of a registry: ``host/repository`` with a tag, a digest, or both; the digest then decides."""

    host: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """The repository with its host."""
        return f"{self.host}/{self.repository}"

    @property
    def pointer(self) -> str:
        """What a registry is asked for: the digest, else the tag, else ``latest``."""
        return self.digest or self.tag or "latest"

    def tagged(self, tag: str) -> Reference:
        """Return the same repository's image of a tag."""
        return replace(self, tag=tag, digest="")

    def at(self, digest: str) -> Reference:
        """Return the same repository's image of a digest."""
        return replace(self, tag="", digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return self.name + tag + (f"@{self.digest}" if self.digest else "")


def parse_reference(text: str) -> Reference:
    """Read ``[HOST/]REPOSITORY[:TAG][@DIGEST]``; without a host it is one of Docker Hub's.

    :raises RegistryError: when it is none
    """
    name, at, digest = text.partition("@")
    head, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        head, colon, tag = name, "", ""
    first, slash, rest = head.partition("/")
    if not slash or not is_host(first):
        first, rest = DOCKER_HUB, head if slash else f"library/{head}"
    good = (
        _HOST.fullmatch(first)
        and _REPOSITORY.fullmatch(rest)
        and (not colon or _TAG.fullmatch(tag))
        and (not at or _DIGEST.fullmatch(digest))
    )
    if not good:
        raise RegistryError(
            f"image {text!r}: this is not a reference to an image of a registry",
            "write HOST/NAME:TAG or HOST/NAME@sha256:…, the name in lower case",
        )
    return Reference(first, rest, tag, digest)


def parse_prefix(text: str) -> Reference:
    """Read ``HOST[:PORT][/PATH]``, below which images are to be kept; the repository may be empty.

    :raises RegistryError: when it is none, or names no host
    """
    host, slash, path = text.rstrip("/").partition("/")
    if not _HOST.fullmatch(host) or not is_host(host) or (slash and not _REPOSITORY.fullmatch(path)):
        raise RegistryError(
            f"registry {text!r}: this is not the address of a registry",
            "write HOST, HOST:PORT or HOST/PATH, without http:// and a tag: registry.example.org/team",
        )
    return Reference(host, path)


def is_host(word: str) -> bool:
    """Tell a registry's host from the first part of a repository, as Docker does."""
    return "." in word or ":" in word or word == "localhost"


def is_loopback(host: str) -> bool:
    """Whether a host (with or without a port) is this machine and no other."""
    if host.startswith("["):
        return host[1:].partition("]")[0] == "::1"
    name = host.partition(":")[0]
    return name == "localhost" or re.fullmatch(r"127(?:\.[0-9]{1,3}){3}", name) is not None


def checked_digest(text: object) -> str:
    """Return ``text`` if it is a digest that we can check.

    :raises RegistryError: when it is none
    """
    if not isinstance(text, str) or not _DIGEST.fullmatch(text):
        raise RegistryError(f"digest {text!r}: this is no SHA-256 digest")
    return text
