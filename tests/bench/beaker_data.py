"""Datasets of a local Beaker, through the real client: lists of many, large files, many small ones.

The limit beside the large file is a plain socket between two processes, with SHA-256 in the receiver.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from beakerservers import client, told
from harness import MIB, Row, milliseconds

from dispatch.beakerd.store import datasets as store
from dispatch.testing.beaker import BeakerProcess, Beakers

MANY = 10_000
SIZE = 1024 * MIB


def fill(beakers: Beakers) -> None:
    """Make so many datasets, every third committed, in the state of the server that is measured."""
    beaker = beakers.start()
    backend = beaker.server.backend
    assert backend is not None
    with backend.database.write() as tx:
        user = tx.execute("SELECT id FROM users").fetchone()[0]
        workspace = tx.execute("SELECT id FROM workspaces").fetchone()[0]
        for number in range(MANY):
            new = store.NewDataset(
                id=backend.ids.new(),
                author_id=user,
                workspace_id=workspace,
                created=backend.clock.now(),
                name=f"dataset-{number * 7919 % MANY:05}",
                description=f"number {number}",
            )
            store.create(tx, new, backend.config.assume.names)
        tx.execute("UPDATE datasets SET committed = created WHERE created % 3 = 0")
    beaker.stop()


def peak(beaker: BeakerProcess) -> int:
    """The most memory that the server's process has had, in bytes."""
    status = Path(f"/proc/{beaker.process.pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.M)
    assert found is not None
    return int(found[1]) * 1024


def ask(beakers: Beakers, beaker: BeakerProcess, *words: object) -> Any:
    """What a client in a process of its own measures."""
    config = beaker.layout.users / "me" / "config.yml"
    return told(client("beaker_data", {"ca": str(beakers.authority), "config": str(config)}, *words))


def rows() -> list[Row]:
    """One server for all."""
    with tempfile.TemporaryDirectory() as place:
        beakers = Beakers(Path(place) / "beaker")
        beakers.prepare()
        fill(beakers)
        beaker = beakers.spawn()
        try:
            lists = ask(beakers, beaker, "lists")
            small = ask(beakers, beaker, "small", place)
            before = peak(beaker)
            large = ask(beakers, beaker, "large", place, SIZE)
            grown = peak(beaker) - before
        finally:
            beakers.close()
    found = [
        Row(
            f"{MANY} datasets, {what}: a page, median (worst)",
            f"{milliseconds(m)} ({milliseconds(w)})",
            "≤ 30 ms",
        )
        for what, (m, w) in lists.items()
    ]
    found += [Row(f"dataset of {n} files: create and commit", milliseconds(t)) for n, t in small.items()]
    limit = large["limit"]
    for what in ("upload", "download"):
        rate = f"{SIZE / MIB / large[what]:.0f} MiB/s, {limit / large[what]:.2f} of a socket with SHA-256"
        found.append(Row(f"1 GiB, {what}, verified", rate, "≥ 0.5"))
    for what, name in (
        ("client", "download by the client from a server that only sends"),
        ("sink", "upload by the client to a server that only hashes"),
        ("copy", "file to file on this disk, with SHA-256"),
    ):
        found.append(
            Row(f"1 GiB, {name}", f"{SIZE / MIB / large[what]:.0f} MiB/s, {limit / large[what]:.2f}")
        )
    return [*found, Row("1 GiB up and down: the server's memory grows by", f"{grown / MIB:.0f} MiB", "flat")]
