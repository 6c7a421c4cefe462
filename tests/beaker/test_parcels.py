"""Directories in datasets: they come back as they were, whatever lies in them and whatever the line does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch._beaker import BeakerDoor
from dispatch._beaker.parcels import download, upload
from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_doors import door_of
from dispatch.workspace.manifest import Content, survey


@pytest.fixture
def door(beaker: LocalBeaker) -> Iterator[BeakerDoor]:
    """A door to a server with the default configuration."""
    made = door_of(beaker)
    yield made
    made.close()


def many(root: Path) -> None:
    """Many small files."""
    for number in range(50):
        (root / f"d{number % 7}").mkdir(exist_ok=True)
        (root / f"d{number % 7}" / f"f{number}").write_bytes(os.urandom(100))


def odd(root: Path) -> None:
    """What Beaker itself does not keep."""
    (root / "empty").touch()
    (root / "hollow").mkdir()
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "sub").mkdir()
    (root / "sub" / "link").symlink_to("../run.sh")
    (root / "ab?c#%41 ü").write_text("x")
    (root / ("long" * 50)).write_text("x")
    (root / os.fsdecode(b"no\xfftext")).write_text("x")


def few(root: Path) -> None:
    """A file of some size, and one below a directory."""
    (root / "big").write_bytes(os.urandom(40 << 20))
    (root / "a").mkdir()
    (root / "a" / "b +=,@.txt").write_text("x")


@pytest.mark.parametrize(("fill", "packed"), [(many, True), (odd, True), (few, False)])
def test_a_directory_comes_back_as_it_was(
    door: BeakerDoor, tmp_path: Path, fill: object, packed: bool
) -> None:
    """Content, links, empty things and exec bits are those that were sent, also with nothing told of them."""
    source = tmp_path / "source"
    source.mkdir()
    fill(source)  # type: ignore[operator]
    created = door.datasets.create("one")
    parcel = upload(door, created, source, "result")
    door.datasets.commit(created.dataset.id)
    assert (parcel.packed, parcel.content) == (packed, survey(source))
    for number, expected in enumerate((parcel.content, None)):
        target = tmp_path / f"target{number}"
        found = download(door, created.dataset.id, parcel.subpath, parcel.packed, target, expected)
        assert found == parcel.content == survey(target)
        modes = [
            [path.stat().st_mode & 0o111 for path in sorted(root.rglob("*")) if path.is_file()]
            for root in (source, target)
        ]
        assert modes[0] == modes[1]


def test_what_beaker_lists_is_enough_to_expect(door: BeakerDoor, tmp_path: Path) -> None:
    """A pointer knows files alone: the directories that they are in come with them."""
    source = tmp_path / "source"
    source.mkdir()
    few(source)
    created = door.datasets.create("listed")
    upload(door, created, source, "")
    listed = Content(
        {each.path: (each.size, each.sha256) for each in door.datasets.files(created.dataset.id)}
    )
    target = tmp_path / "target"
    assert download(door, created.dataset.id, "", False, target, listed) == survey(source) == survey(target)
