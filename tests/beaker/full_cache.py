"""A program that keeps copies of results on a small disk of its own, in a mount namespace, until it is full.

``full_cache.py DIRECTORY``; fails where something is not as it should be.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from dispatch.errors import WorkspaceError
from dispatch.workspace.beaker.diskcache import DiskCache
from dispatch.workspace.manifest import Content, survey

MIB = 1 << 20


def writer(size: int) -> Callable[[Path], Content]:
    """What fills a copy with so many bytes."""

    def fetch(target: Path) -> Content:
        target.mkdir(exist_ok=True)
        with (target / "data").open("wb", buffering=0) as file:
            for _ in range(size // 65536):
                file.write(b"x" * 65536)
        return survey(target)

    return fetch


def main(directory: Path) -> None:
    """Fill it up."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(directory)], check=True)
    cache = DiskCache(directory / "cache")
    cache.hold("kept", writer(2 * MIB))
    with cache.using("old", writer(4 * MIB)):
        pass
    with cache.using("new", writer(4 * MIB)) as place:
        assert (place / "data").stat().st_size == 4 * MIB
    assert not cache.place("old").exists()
    try:
        cache.hold("large", writer(12 * MIB))
    except WorkspaceError as error:
        assert "No space left" in error.message, error.message
        assert str(directory) in error.remedy, error.remedy
    else:
        raise AssertionError("12 MiB have no room in 8")
    assert (cache.place("kept") / "data").stat().st_size == 2 * MIB
    assert not any((directory / "cache" / "parts").iterdir())
    # There is room again for what fits.
    with cache.using("new", writer(4 * MIB)) as place:
        assert (place / "data").stat().st_size == 4 * MIB


if __name__ == "__main__":
    main(Path(sys.argv[1]))
