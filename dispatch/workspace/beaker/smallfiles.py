"""Small sealed files of datasets, kept on this machine once they cannot change any more.

A committed dataset never changes, so what it holds, or does not hold, is asked for once. The copies are
derived: any of them may be deleted at any time, and one that is damaged is fetched again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dispatch._beaker import BeakerDamagedError, BeakerDoor, BeakerNotFoundError, Dataset
from dispatch.workspace.beaker.sealed import BrokenSealError, unseal

PARALLEL = 16
# Small ones, so many, are kept in memory.
_IN_MEMORY, _LARGE = 4096, 64 << 10
_TRIES = 3
_ABSENT = b"absent\n"


class SmallFiles:
    """Reads sealed files of datasets; copies are below ``directory``. May be used from several threads."""

    def __init__(self, door: BeakerDoor, directory: Path) -> None:
        self._door = door
        self._directory = directory
        self._known: OrderedDict[tuple[str, str], dict[str, Any] | None] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, dataset: Dataset, path: str) -> dict[str, Any] | None:
        """Return what a file holds, None where the dataset has no such file of ours, or is gone.

        What is returned is not to be changed.

        :raises BeakerDamagedError: other bytes come than Beaker has, several times
        """
        if not dataset.committed:
            return self._fetch(dataset, path)[0]
        key = (dataset.id, path)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        found = self._on_disk(dataset, path)
        if found is None:
            found = self._fetch(dataset, path)
            self._keep(dataset, path, found[1])
        value, stored = found
        if len(stored) > _LARGE:
            return value
        with self._lock:
            self._known[key] = value
            while len(self._known) > _IN_MEMORY:
                self._known.popitem(last=False)
        return value

    def read_all(self, datasets: Iterable[Dataset], path: str) -> None:
        """Fetch a file of many committed datasets at once, so that :meth:`read` asks nobody afterwards.

        What cannot be read is left to whoever reads it.
        """
        wanted = [each for each in datasets if each.committed and not self._is_known(each, path)]
        if len(wanted) < 2:
            return

        def fetch(dataset: Dataset) -> None:
            with contextlib.suppress(BeakerDamagedError):
                self.read(dataset, path)

        with ThreadPoolExecutor(min(PARALLEL, len(wanted))) as pool:
            list(pool.map(fetch, wanted))

    def _is_known(self, dataset: Dataset, path: str) -> bool:
        with self._lock:
            if (dataset.id, path) in self._known:
                return True
        return self._place(dataset, path).exists()

    def _fetch(self, dataset: Dataset, path: str) -> tuple[dict[str, Any] | None, bytes]:
        """Ask Beaker. Where the seal is broken, its digest tells whether that is the line's fault."""
        for _ in range(_TRIES):
            try:
                stored = self._door.datasets.read(dataset.id, path)
                return unseal(stored), stored
            except BeakerNotFoundError:
                return None, _ABSENT
            except BrokenSealError:
                listed = {each.path: each.sha256 for each in self._door.datasets.files(dataset.id, path)}
                if listed.get(path) in ("", hashlib.sha256(stored).hexdigest()):
                    # So it was written: somebody else's file under our name.
                    return None, _ABSENT
        raise BeakerDamagedError(
            f"dataset {dataset.name}: {path}: other bytes come than Beaker has", "repeat the command"
        )

    def _place(self, dataset: Dataset, path: str) -> Path:
        return self._directory / dataset.id / path.replace("/", "_")

    def _on_disk(self, dataset: Dataset, path: str) -> tuple[dict[str, Any] | None, bytes] | None:
        try:
            stored = self._place(dataset, path).read_bytes()
            return None if stored == _ABSENT else unseal(stored), stored
        except (OSError, BrokenSealError):
            return None

    def _keep(self, dataset: Dataset, path: str, stored: bytes) -> None:
        place = self._place(dataset, path)
        aside = place.with_name(f".{place.name}.{os.urandom(6).hex()}")
        # A full disk makes it slower, not wrong.
        with contextlib.suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(stored)
            aside.replace(place)
