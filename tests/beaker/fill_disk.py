"""A program that runs a local Beaker on a small disk of its own, which gets full, in a mount namespace.

Usage: fill_disk.py DIRECTORY. Mounts 24 megabytes there, and exits with 0 if all was as it should be.
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
    assert store.piece(upload, data[:MIB], 0, MIB).status == 400, "the length is what it was"
    assert tree_of(beaker, store.dataset) == {"kept": b"kept"}


def full_to_the_last_byte(beaker: LocalBeaker, workspace: str, store: Store, ballast: Path) -> None:
    """No room for the database: whatever writes is refused, whatever reads goes on."""
    rest, wrote = rest_of(beaker), 0
    for number in range(400):
        # What was written once has room in the journal, until that is used up.
        answer = rest.ask(
            "PUT", f"/api/v3/workspaces/{workspace}/secrets/s{number}/value", os.urandom(100_000)
        )
        wrote += answer.status == 200
        if answer.status != 200:
            break
    assert (answer.status, FULL in answer.message) == (507, True), answer
    asked = [
        store.put("new", b"x" * 100_000),
        rest.ask("POST", "/api/v3/datasets", b'{"workspace": "%s"}' % workspace.encode()),
    ]
    assert {answer.status for answer in asked} <= {200, 507}
    assert asked[0].status == 507
    assert store.get("kept").body == b"kept"
    with beaker.client() as client:
        assert len(list(client.secret.list())) == wrote
        assert [file.path for file in client.dataset.list_files(client.dataset.get(store.dataset))] == [
            "kept"
        ]
    ballast.unlink()


def main(directory: Path) -> None:
    """Fill the disk in each way, and go on as if nothing had been."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(directory)], check=True)
    beakers = Beakers(directory / "state")
    beakers.prepare()
    os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(beakers.authority)
    beaker = beakers.start()
    with beaker.client() as client:
        workspace = client.workspace.get("ai2/my-workspace").id
    store = new_dataset(rest_of(beaker), workspace)
    assert store.put("kept", b"kept").status == 200
    too_large_for_it(beaker, store)
    full_to_the_last_byte(beaker, workspace, store, fill_up(directory))
    assert store.put("new", b"x" * MIB).status == 200
    with beaker.client() as client:
        made = client.dataset.commit(client.dataset.get(store.dataset))
        assert {file.path: file.size for file in client.dataset.list_files(made)} == {"kept": 4, "new": MIB}
        for secret in list(client.secret.list()):
            client.secret.delete(secret)
        client.dataset.delete(made)
    assert uploads_of(beaker) == []
    assert [line for line in beaker.lines if "Traceback" in line] == [], beaker.lines
    beaker.stop()
    beakers.start().stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
