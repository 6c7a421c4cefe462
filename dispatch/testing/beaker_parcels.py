"""Directories of the kinds that travel differently to a dataset, sent and fetched as the tests do."""

from __future__ import annotations

import os
from pathlib import Path

from dispatch._beaker import BeakerDoor
from dispatch._beaker.parcels import Parcel, download, upload
from dispatch.workspace.manifest import Content

MIB = 1 << 20


def large_in(place: Path) -> Path:
    """A directory that travels as files, one of them in several pieces."""
    source = place / "large"
    (source / "sub").mkdir(parents=True)
    (source / "big").write_bytes(os.urandom(20 * MIB + 12345))
    (source / "sub" / "small").write_bytes(b"x" * 1000)
    return source


def small_in(place: Path) -> Path:
    """A directory that travels as a tar."""
    source = place / "small"
    source.mkdir()
    for number in range(30):
        (source / f"f{number}").write_bytes(os.urandom(5000))
    return source


def sent(door: BeakerDoor, source: Path) -> tuple[str, Parcel]:
    """Send a directory as a dataset of its own, and commit that."""
    created = door.datasets.create(f"of-{os.urandom(4).hex()}")
    parcel = upload(door, created, source, "result")
    door.datasets.commit(created.dataset.id)
    return created.dataset.id, parcel


def fetched(door: BeakerDoor, where: tuple[str, Parcel], target: Path, *, told: bool = True) -> Content:
    """Fetch what was sent, with or without what it should be."""
    dataset, parcel = where
    return download(door, dataset, parcel.subpath, parcel.packed, target, parcel.content if told else None)
