"""A program that runs a local Beaker on a small disk of its own, which gets full, in a mount namespace.

Usage: fill_disk.py DIRECTORY. Mounts 16 megabytes there, and exits with 0 if all was as it should be.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_rest import Store, new_dataset, rest_of, tree_of, uploads_of

MIB = 1 << 20
FULL = "disk is full"


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


def too_large_for_it(beaker: LocalBeaker, store: Store) -> None:
    """Files and pieces for which there is no room: refused, and nothing of them is kept."""
    for size in (20 * MIB, 60 * MIB):
        answer = store.put("large", os.urandom(size))
        assert (answer.status, FULL in answer.message) == (507, True), answer
        assert uploads_of(beaker) == []
    upload, data = store.begin(), os.urandom(20 * MIB)
    answer = store.piece(upload, data, 0, len(data))
    assert (answer.status, FULL in answer.message) == (507, True), answer
    assert (beaker.layout.uploads / upload).stat().st_size == 0
    assert tree_of(beaker, store.dataset) == {"kept": b"kept"}


def full_to_the_last_byte(beaker: LocalBeaker, workspace: str, store: Store) -> None:
    """No room for the database: whatever writes is refused, whatever reads goes on."""
    rest, written = rest_of(beaker), 0
    secrets = f"/api/v3/workspaces/{workspace}/secrets"
    # What was written once has room in the journal, until that is used up.
    while (answer := rest.ask("PUT", f"{secrets}/s{written}/value", os.urandom(100_000))).status == 200:
        written += 1
    assert (answer.status, FULL in answer.message) == (507, True), answer
    answer = store.put("new", b"x" * 100_000)
    assert (answer.status, FULL in answer.message) == (507, True), answer
    assert store.get("kept").body == b"kept"
    assert tree_of(beaker, store.dataset) == {"kept": b"kept"}
    with beaker.client() as client:
        assert len(list(client.secret.list())) == written
        dataset = client.dataset.get(store.dataset)
        assert [file.path for file in client.dataset.list_files(dataset)] == ["kept"]


def as_before(beaker: LocalBeaker, store: Store) -> None:
    """There is room again: what was refused is accepted, and all can be removed."""
    assert store.put("new", b"x" * MIB).status == 200
    with beaker.client() as client:
        made = client.dataset.commit(client.dataset.get(store.dataset))
        assert {file.path: file.size for file in client.dataset.list_files(made)} == {"kept": 4, "new": MIB}
        for secret in list(client.secret.list()):
            client.secret.delete(secret)
        client.dataset.delete(made)
    assert [line for line in beaker.lines if "Traceback" in line] == [], beaker.lines


def main(directory: Path) -> None:
    """Fill the disk in each way, and go on as if nothing had been."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(directory)], check=True)
    beakers = Beakers(directory / "state")
    beakers.prepare()
    os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(beakers.authority)
    try:
        beaker = beakers.start()
        with beaker.client() as client:
            workspace = client.workspace.get("ai2/my-workspace").id
        store = new_dataset(rest_of(beaker), workspace)
        assert store.put("kept", b"kept").status == 200
        too_large_for_it(beaker, store)
        ballast = fill_up(directory)
        full_to_the_last_byte(beaker, workspace, store)
        ballast.unlink()
        as_before(beaker, store)
        beaker.stop()
        assert uploads_of(beakers.start()) == []
    finally:
        beakers.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
