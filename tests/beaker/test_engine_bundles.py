"""Bundles: sent once for all, found again only where they are whole and right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dispatch._beaker import BeakerDoor
from dispatch._beaker.parcels import download
from dispatch.beakerd.config import Assumptions, Config, NameScope, UserConfig
from dispatch.engine.beaker import Bundles
from dispatch.errors import EngineError
from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_doors import door_of
from dispatch.testing.beaker_faults import Faults

USERS = (UserConfig("me", ("ai2",), admin=True), UserConfig("you", ("ai2",)))


@pytest.fixture(params=NameScope)
def two(
    beaker_of: Callable[[Config], LocalBeaker], request: pytest.FixtureRequest
) -> Iterator[tuple[BeakerDoor, BeakerDoor, LocalBeaker]]:
    """Two users' doors to one server, whatever its names are unique in."""
    beaker = beaker_of(Config(users=USERS, control=True, assume=Assumptions(names=request.param)))
    doors = door_of(beaker), door_of(beaker, "you")
    yield *doors, beaker
    for door in doors:
        door.close()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory as a boot bundle may be: with an empty file in it."""
    root = tmp_path / "tree"
    (root / "runtime").mkdir(parents=True)
    (root / "start.sh").write_text("echo hello\n")
    (root / "runtime" / "__init__.py").touch()
    (root / "runtime" / "main.py").write_text("print('hello')\n")
    return root


Two = tuple[BeakerDoor, BeakerDoor, LocalBeaker]


@pytest.mark.parametrize("packed", [None, True, False])
def test_come_back_as_they_were(two: Two, tree: Path, tmp_path: Path, packed: bool | None) -> None:
    """A directory, however it travels, is on Beaker what it was here, empty files too."""
    mine, _, _ = two
    place = Bundles(mine).provide(tree, "boot", packed=packed)
    assert place.packed is (packed is not False)
    download(mine, place.id, place.subpath, place.packed, tmp_path / "back")
    assert (tmp_path / "back" / "start.sh").read_text() == "echo hello\n"
    assert (tmp_path / "back" / "runtime" / "__init__.py").read_bytes() == b""


def test_sent_once_by_all(two: Two, tree: Path) -> None:
    """Another client of another user finds a bundle again; other content, or another name, is another one."""
    mine, yours, _ = two
    first = Bundles(mine).provide(tree, "boot", packed=False)
    assert Bundles(yours).provide(tree, "boot", packed=False) == first
    assert Bundles(yours).provide(tree, "other", packed=False).id != first.id
    (tree / "start.sh").write_text("echo others\n")
    assert Bundles(yours).provide(tree, "boot", packed=False).id != first.id


def test_named_by_their_content_they_are_looked_at_once(two: Two, tree: Path, tmp_path: Path) -> None:
    """What was named by its content is not even read again, by no process, as long as it is on Beaker."""
    mine, _, _ = two
    first = Bundles(mine, tmp_path / "cache").provide(tree, "boot", content="runtime.1")
    (tree / "start.sh").unlink()
    later = Bundles(mine, tmp_path / "cache")
    assert later.provide(tree, "boot", content="runtime.1") == first
    assert later.provide(tree, "boot", content="runtime.1") == first
    mine.datasets.delete([first.id])
    assert Bundles(mine, tmp_path / "cache").provide(tree, "boot", content="runtime.1").id != first.id


def test_half_a_bundle_is_none(two: Two, tree: Path) -> None:
    """One that was never committed is not used, whoever left it, and is in nobody's way."""
    mine, yours, _ = two
    whole = Bundles(mine).provide(tree, "boot")
    name = mine.datasets.get(whole.id).name
    mine.datasets.delete([whole.id])
    left = mine.datasets.create(name, "half")
    for door in (mine, yours):
        place = Bundles(door).provide(tree, "boot")
        assert place.id not in (left.dataset.id, whole.id)
        assert door.datasets.get(place.id).committed


def test_a_foreign_dataset_of_that_name_is_not_trusted(two: Two, tree: Path) -> None:
    """A committed dataset of the right name with other bytes in it is not used."""
    mine, yours, _ = two
    whole = Bundles(mine).provide(tree, "boot", packed=False)
    found, files = mine.datasets.get(whole.id), mine.datasets.files(whole.id)
    mine.datasets.delete([whole.id])
    wrong = yours.datasets.create(found.name, found.description)
    for file in files:
        yours.datasets.write(wrong, file.path, b"x" * file.size)
    yours.datasets.commit(wrong.dataset.id)
    assert Bundles(mine).provide(tree, "boot", packed=False).id != wrong.dataset.id


def test_one_that_cannot_be_sent_leaves_nothing(two: Two, tree: Path) -> None:
    """Where Beaker keeps other bytes than were sent, the error says so, and no dataset is left."""
    mine, _, beaker = two
    before = {each.id for each in mine.datasets.search("dispatch-")}
    Faults(beaker).add("rpc:ListDatasetFiles", "wrong-digest")
    with pytest.raises(EngineError, match="is not what it was sent"):
        Bundles(mine).provide(tree, "boot")
    assert {each.id for each in mine.datasets.search("dispatch-")} == before
