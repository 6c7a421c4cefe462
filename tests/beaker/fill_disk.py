"""A program that runs a local Beaker on a small disk of its own, which gets full, in a mount namespace.

Usage: fill_disk.py DIRECTORY. Mounts sixteen megabytes there, and exits with 0 if all was as it should be.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from beaker.exceptions import BeakerError

from dispatch.testing.beaker import Beakers, LocalBeaker

MIB = 1 << 20


def fill_up(directory: Path) -> Path:
    """Use up all room there is, to the last byte."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC
    return ballast


def refused(call: Callable[..., object], *arguments: object, **options: object) -> None:
    """Hold that a call fails with the reason."""
    try:
        call(*arguments, **options)
    except (requests.HTTPError, BeakerError) as error:
        assert "disk is full" in str(error), error
        return
    raise AssertionError(f"{call} did not fail on a full disk")


def seen(client: Any, beaker: LocalBeaker, dataset: Any) -> dict[str, int]:
    """The dataset's files, which are the same in its tree."""
    listed = {file.path: file.size for file in client.dataset.list_files(dataset)}
    tree = beaker.layout.files(dataset.id)
    on_disk = {str(path.relative_to(tree)): path.stat().st_size for path in tree.rglob("*") if path.is_file()}
    assert listed == on_disk
    return listed


def raw(client: Any, dataset: Any, data: bytes) -> int:
    """Put a file, and return the status."""
    storage = client.dataset._get_storage(dataset)
    url = f"{storage.address}/datasets/{dataset.id}/files/raw"
    return requests.put(
        url, data, headers={"Authorization": f"Bearer {storage.token}"}, timeout=60
    ).status_code


def main(directory: Path) -> None:
    """Fill the disk in each way, and go on as if nothing had been."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(directory)], check=True)
    beakers = Beakers(directory / "beaker")
    beakers.prepare()
    os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(beakers.authority)
    beaker = beakers.start()
    with beaker.client() as client:
        client.MAX_RETRIES = 0
        dataset = client.dataset.create("small", commit=False)
        client.dataset.upload(dataset, b"before", "f")
        before = seen(client, beaker, dataset)
        # In the middle of a body, in one request and in pieces.
        assert raw(client, dataset, bytes(20 * MIB)) == 507
        refused(client.dataset.upload, dataset, bytes(20 * MIB), "g")
        refused(client.dataset.upload, dataset, bytes(40 * MIB), "g")
        assert seen(client, beaker, dataset) == before
        # The client repeats a failed upload with a file that is at its end: no empty file comes of it.
        client.MAX_RETRIES = 2
        refused(client.dataset.upload, dataset, bytes(20 * MIB), "g")
        client.MAX_RETRIES = 0
        assert seen(client, beaker, dataset) == before
        # Before anything is written: the server reads on, and refuses what needs room.
        ballast = fill_up(directory)
        refused(client.dataset.upload, dataset, os.urandom(MIB), "f")
        for number in range(40):
            try:
                client.dataset.create(f"more-{number}", description="x" * 10_000, commit=False)
            except requests.HTTPError as error:
                assert "disk is full" in str(error), error
                break
        else:
            raise AssertionError("datasets were made on a full disk")
        assert b"".join(client.dataset.stream_file(dataset, "f")) == b"before"
        assert client.dataset.get("me/small").id == dataset.id
        # With room again all goes on.
        ballast.unlink()
        client.dataset.upload(dataset, os.urandom(MIB), "f")
        client.dataset.upload(dataset, os.urandom(MIB), "g")
        assert seen(client, beaker, dataset) == {"f": MIB, "g": MIB}
        client.dataset.commit(dataset)
        left = [path for path in beaker.layout.uploads.iterdir() if path.suffix]
        assert left == []
    beakers.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
