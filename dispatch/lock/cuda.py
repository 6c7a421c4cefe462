"""Which CUDA locked packages are built for, and how a driver's maximum limits what is resolved.

Owns the names under which NVIDIA publishes the toolkit, and the marks that others put on their packages.
Only facts of a lock are looked at; what to say of them is up to who asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dispatch.lock.model import CondaLock, PipLock

# Parts of the toolkit whose versions begin with CUDA's own. Up to CUDA 12 the names end in -cu11 or -cu12.
_PARTS = (
    "nvidia-cublas",
    "nvidia-cuda-cupti",
    "nvidia-cuda-nvcc",
    "nvidia-cuda-nvrtc",
    "nvidia-cuda-runtime",
    "nvidia-nvjitlink",
    "nvidia-nvtx",
)
_ENDINGS = ("", "-cu11", "-cu12")
_TOOLKIT = frozenset({f"{part}{ending}" for part in _PARTS for ending in _ENDINGS} | {"cuda-toolkit"})
_CONDA = frozenset({"cuda-version", "cuda-cudart", "cuda-nvrtc", "cudatoolkit"})
_LOCAL = re.compile(r"(?:.*[+._])?cu(?:da)?([0-9]{2})([0-9])(?:[._].*)?")
_NAMED = re.compile(r".*-(?:cu|cuda)([0-9]{2})x?(?:-.*)?")
_BASES = (
    re.compile(r"(?:.*/)?cuda:([0-9]{1,2})\.([0-9]{1,2})(?:[.@-].*)?"),
    re.compile(r".*[:/-]cuda-?([0-9]{1,2})\.([0-9]{1,2})(?:[.@-].*)?"),
    re.compile(r".*[:-]cu([0-9]{2})([0-9])(?:[.@-].*)?"),
)

Version = tuple[int, int]


@dataclass(frozen=True)
class CudaNeed:
    """A locked package and the CUDA version it is built for; ``minor`` is None where only a major shows."""

    package: str
    major: int
    minor: int | None

    def above(self, maximum: str) -> bool:
        """Whether a driver that supports CUDA up to ``maximum`` is too old for it."""
        limit = parts(maximum)
        return (self.major, 0 if self.minor is None else self.minor) > limit

    @property
    def version(self) -> str:
        """The version as people write it."""
        return str(self.major) if self.minor is None else f"{self.major}.{self.minor}"


def parts(version: str) -> Version:
    """Return ``(12, 4)`` for ``"12.4"``."""
    major, _, minor = version.partition(".")
    return int(major), int(minor or 0)


def limits(maximum: str | None) -> tuple[str, ...]:
    """Return constraints that keep the toolkit at or below what a driver supports; none if nothing is said.

    So a resolver takes the newest release of a library that was built for such a toolkit.
    """
    if maximum is None:
        return ()
    major, minor = parts(maximum)
    return tuple(f"{name}<{major}.{minor + 1}" for name in sorted(_TOOLKIT))


def needs(lock: PipLock | CondaLock) -> tuple[CudaNeed, ...]:
    """Return the packages of a lock that are built for CUDA, highest first."""
    found = _of_conda(lock) if isinstance(lock, CondaLock) else _of_pip(lock)
    return tuple(sorted(found, key=lambda need: (-need.major, -(need.minor or 0), need.package)))


def of_reference(reference: str) -> str | None:
    """Return the CUDA version that a Docker reference names (``nvidia/cuda:12.4.1-base``), or None."""
    for pattern in _BASES:
        if match := pattern.fullmatch(reference):
            return f"{match[1]}.{match[2]}"
    return None


def _of_pip(lock: PipLock) -> Iterator[CudaNeed]:
    for pin in lock.pins:
        shown = f"{pin.name} {pin.version}"
        local = _LOCAL.fullmatch(pin.version.partition("+")[2])
        if pin.name in _TOOLKIT:
            yield CudaNeed(shown, *_two(pin.version))
        elif local:
            yield CudaNeed(shown, int(local[1]), int(local[2]))
        elif match := _NAMED.fullmatch(pin.name):
            yield CudaNeed(shown, int(match[1]), None)


def _of_conda(lock: CondaLock) -> Iterator[CudaNeed]:
    for package in lock.packages:
        shown = f"{package.name} {package.version}"
        local = _LOCAL.fullmatch(package.build)
        if package.name in _CONDA and package.version[:1].isdigit():
            yield CudaNeed(shown, *_two(package.version))
        elif local:
            yield CudaNeed(f"{shown} ({package.build})", int(local[1]), int(local[2]))


def _two(version: str) -> Version:
    numbers = [int(each) for each in re.findall(r"[0-9]+", version)[:2]]
    return numbers[0], numbers[1] if len(numbers) > 1 else 0


def highest(found: Iterable[CudaNeed], maximum: str) -> CudaNeed | None:
    """Return the first need that is above a driver's maximum."""
    return next((need for need in found if need.above(maximum)), None)
