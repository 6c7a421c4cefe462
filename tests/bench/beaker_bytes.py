"""Results to Beaker and back, beside beaker-py's own upload and download of the same directories."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import MIB, RUNS, Row, milliseconds, times

from dispatch._beaker import BeakerDoor
from dispatch._beaker.parcels import download, upload
from dispatch.testing.beaker import Beakers
from dispatch.testing.beaker_doors import door_of

SIZE = int(os.environ.get("DISPATCH_BENCH_UPLOAD_MIB", "1024")) * MIB
COUNT = 1000


def rows() -> list[Row]:
    """One large file, and many small ones, each way in turn with the public client."""
    with tempfile.TemporaryDirectory() as place:
        beakers = Beakers(Path(place) / "beaker")
        beakers.prepare()
        os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(beakers.authority)
        server = beakers.spawn()
        door = door_of(server)
        try:
            with server.client() as client:
                pair = Pair(door, client, Path(place))
                return [
                    *pair.rows(f"{SIZE // MIB} MiB", large, max(4, RUNS), "≤ 1.3 ×"),
                    *pair.rows(f"{COUNT} files of 1 kB", small, max(4, RUNS), "≤ 0.2 ×"),
                ]
        finally:
            door.close()
            beakers.close()


def large(root: Path) -> None:
    """One file."""
    block = os.urandom(MIB)
    with (root / "large").open("wb") as file:
        for number in range(SIZE // MIB):
            file.write(number.to_bytes(8, "big") + block[8:])


def small(root: Path) -> None:
    """Many files."""
    for number in range(COUNT):
        (root / f"f{number}").write_bytes(os.urandom(1000))


class Pair:
    """Our door and the public client, at the same server."""

    def __init__(self, door: BeakerDoor, client: Any, place: Path) -> None:
        self._door = door
        self._client = client
        self._place = place
        self._made = 0

    def rows(self, what: str, fill: Callable[[Path], None], runs: int, asked: str) -> list[Row]:
        """Up and committed, down and verified: the fastest of several, for what else runs only slows it."""
        source = self._place / "source"
        source.mkdir()
        fill(source)
        spent = [(*self.ours(source), *self.theirs(source)) for _ in range(runs)]
        shutil.rmtree(source)
        up, down, their_up, their_down = (min(column) for column in zip(*spent, strict=True))
        return [
            Row(
                f"{what} {way}",
                f"{milliseconds(mine)}, {times(mine, others)} of beaker-py's {milliseconds(others)}",
                asked,
            )
            for way, mine, others in (("stored", up, their_up), ("loaded", down, their_down))
        ]

    def ours(self, source: Path) -> tuple[float, float]:
        """Seconds of each way with ours."""
        datasets, target = self._door.datasets, self._place / "target"
        began = time.perf_counter()
        created = datasets.create(self._name())
        parcel = upload(self._door, created, source, "result")
        datasets.commit(created.dataset.id)
        sent = time.perf_counter()
        download(self._door, created.dataset.id, parcel.subpath, parcel.packed, target, parcel.content)
        got = time.perf_counter()
        datasets.delete([created.dataset.id])
        shutil.rmtree(target)
        return sent - began, got - sent

    def theirs(self, source: Path) -> tuple[float, float]:
        """Seconds of each way as users of the public client write it."""
        target = self._place / "target"
        target.mkdir()
        began = time.perf_counter()
        made = self._client.dataset.create(self._name(), source)
        sent = time.perf_counter()
        for each in self._client.dataset.list_files(made):
            with (target / each.path).open("wb") as file:
                for chunk in self._client.dataset._stream_file(made, each):
                    file.write(chunk)
        got = time.perf_counter()
        self._client.dataset.delete(made)
        shutil.rmtree(target)
        return sent - began, got - sent

    def _name(self) -> str:
        self._made += 1
        return f"bench{self._made}"
