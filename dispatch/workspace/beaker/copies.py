"""Results as directories on this machine: fetched when asked for, and kept as long as there is room."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from dispatch._beaker import parcels
from dispatch.workspace.beaker.diskcache import DiskCache
from dispatch.workspace.beaker.lookup import Result
from dispatch.workspace.beaker.site import Site
from dispatch.workspace.manifest import Content


class Copies:
    """The copies of one workspace's results. May be used from several threads."""

    def __init__(self, site: Site) -> None:
        self._site = site

    @cached_property
    def _disk(self) -> DiskCache:
        return DiskCache(self._site.cache / "results")

    def place(self, result: Result) -> Path:
        """Return where a result's copy is, once it is held. Asks nobody."""
        return self._disk.place(self._key(result))

    def hold(self, result: Result) -> Path:
        """Have a copy here while this process lives."""
        return self._disk.hold(self._key(result), lambda target: self.fetch(result, target))

    @contextmanager
    def using(self, result: Result) -> Iterator[Path]:
        """Have a copy here for a while."""
        with self._disk.using(self._key(result), lambda target: self.fetch(result, target)) as place:
            yield place

    def take_in(self, result: Result, directory: Path) -> None:
        """Make a directory with just what the result is, which nobody needs there any more, its copy."""

        def move(target: Path) -> Content:
            if target.exists() or not directory.is_dir():
                return self.fetch(result, target)
            directory.rename(target)
            return result.manifest.content

        with self._disk.using(self._key(result), move):
            return

    def close(self) -> None:
        """Let go of all copies."""
        if "_disk" in self.__dict__:
            self._disk.close()

    def remove(self, result: Result) -> None:
        """Remove a copy, unless somebody holds it."""
        self._disk.remove(self._key(result))

    def fetch(self, result: Result, target: Path) -> Content:
        """Fetch a result to a directory, every byte checked, and say what it holds.

        :raises BeakerNotFoundError: its dataset is gone
        :raises BeakerDamagedError: other bytes came than were committed, several times
        """
        where = result.location
        return parcels.download(
            self._site.door, where.id, where.subpath, where.packed, target, result.manifest.content
        )

    def _key(self, result: Result) -> str:
        # Ids of datasets are unique on a server, and there may be several.
        server = hashlib.sha256(self._site.door.address.encode()).hexdigest()[:8]
        return f"{server}-{result.dataset.id}"
