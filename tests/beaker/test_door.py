"""The door: what comes through it are our values and errors, and asking twice is the same as once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dispatch._beaker import BeakerConflictError, BeakerDoor, BeakerError, BeakerNotFoundError
from dispatch._beaker.archive import PIECE
from dispatch.beakerd.config import Assumptions, Config, NameScope, UserConfig
from dispatch.errors import ConfigurationError
from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_doors import door_of, options_of

USERS = (UserConfig("me", ("ai2",), admin=True), UserConfig("you", ("ai2",)))


@pytest.fixture
def two(beaker_of: Callable[[Config], LocalBeaker]) -> Iterator[tuple[BeakerDoor, BeakerDoor]]:
    """Doors of two users of one workspace."""
    running = beaker_of(Config(users=USERS))
    doors = door_of(running, "me"), door_of(running, "you")
    yield doors
    for door in doors:
        door.close()


@pytest.fixture
def door(two: tuple[BeakerDoor, BeakerDoor]) -> BeakerDoor:
    """The first of them."""
    return two[0]


def test_a_dataset_is_made_written_and_read(door: BeakerDoor) -> None:
    """Bytes come back as they were, and digests are known before it is committed."""
    datasets = door.datasets
    created = datasets.create("one", "first words")
    for path, data in (("a/b c.txt", b"x" * 100), ("empty", b""), ("ü", b"y")):
        datasets.write(created, path, data)
        assert datasets.read(created.dataset.id, path) == data
        assert b"".join(datasets.stream(created.dataset.id, path)) == data
    assert b"".join(datasets.stream(created.dataset.id, "a/b c.txt", 90)) == b"x" * 10
    assert [each.path for each in datasets.files(created.dataset.id, "a/")] == ["a/b c.txt"]
    assert {(each.path, each.size, len(each.sha256)) for each in datasets.files(created.dataset.id)} == {
        ("a/b c.txt", 100, 64),
        ("empty", 0, 64),
        ("ü", 1, 64),
    }
    with pytest.raises(BeakerNotFoundError, match=r"dataset .*: other: is not on Beaker"):
        datasets.read(created.dataset.id, "other")


def test_a_file_of_any_size_is_written(door: BeakerDoor, tmp_path: Path) -> None:
    """As a body, or in pieces, from memory or from the disk, at and around where one becomes the other."""
    created = door.datasets.create("sizes")
    piece = PIECE
    for size in (0, 1, piece - 1, piece, piece + 1, 2 * piece, 3 * piece + 7):
        data = bytes([size % 251]) * size
        (tmp_path / "file").write_bytes(data)
        door.datasets.write(created, f"memory/{size}", data)
        door.datasets.write(created, f"disk/{size}", tmp_path / "file")
        for place in ("memory", "disk"):
            assert b"".join(door.datasets.stream(created.dataset.id, f"{place}/{size}")) == data


def test_what_is_committed_is_final(door: BeakerDoor) -> None:
    """Committing again is no error, writing is one."""
    created = door.datasets.create("final")
    assert not door.datasets.get(created.dataset.id).committed
    door.datasets.commit(created.dataset.id)
    door.datasets.commit(created.dataset.id)
    assert door.datasets.get(created.dataset.id).committed
    with pytest.raises(BeakerConflictError, match="committed"):
        door.datasets.write(created, "late", b"x")
    door.datasets.describe(created.dataset.id, "words may change")
    assert door.datasets.get(created.dataset.id).description == "words may change"


def test_what_is_deleted_is_gone(door: BeakerDoor) -> None:
    """Deleting again is no error; everything else is told so."""
    created = door.datasets.create("gone")
    identity = created.dataset.id
    door.datasets.delete([identity])
    door.datasets.delete([identity, identity])
    assert door.datasets.find("gone") is None
    for act in (
        lambda: door.datasets.get(identity),
        lambda: door.datasets.commit(identity),
        lambda: door.datasets.describe(identity, "x"),
        lambda: door.datasets.write(created, "a", b"x"),
        lambda: door.datasets.open(created.dataset),
        lambda: door.datasets.files(identity),
        lambda: door.datasets.read(identity, "a"),
    ):
        with pytest.raises(BeakerNotFoundError):
            act()
    assert door.datasets.create("gone").dataset.id != identity


def test_datasets_are_found_by_all_that_is_asked(two: tuple[BeakerDoor, BeakerDoor]) -> None:
    """By text in name or description, by author, committed or not; oldest first, over pages."""
    me, you = two
    for number in range(60):
        me.datasets.create(f"mine-{number:02}")
    theirs = you.datasets.create("theirs", "also mine-00")
    you.datasets.commit(theirs.dataset.id)
    assert [each.name for each in me.datasets.search("mine-")] == [
        *(f"mine-{number:02}" for number in range(60)),
        "theirs",
    ]
    assert [each.name for each in me.datasets.search("mine-00")] == ["mine-00", "theirs"]
    assert [each.name for each in me.datasets.search("mine-00", own=True)] == ["mine-00"]
    assert [each.name for each in me.datasets.search(committed=True)] == ["theirs"]
    assert len(me.datasets.search(committed=False)) == 60
    assert len(me.datasets.search("mine", limit=55)) == 55
    found = me.datasets.find("you/theirs")
    assert found is not None
    assert (found.author_id, found.committed) == (you.account.user_id, True)
    assert me.datasets.find("theirs") is None


@pytest.mark.parametrize("scope", NameScope)
def test_a_name_is_taken_by_one(beaker_of: Callable[[Config], LocalBeaker], scope: NameScope) -> None:
    """Of many threads of two users: one for each user, or one for all, as the server has it."""
    running = beaker_of(Config(users=USERS, assume=Assumptions(names=scope)))
    doors = [door_of(running, user) for user in ("me", "you") for _ in range(4)]
    made: list[str] = []
    taken: list[str] = []

    def create(door: BeakerDoor) -> None:
        try:
            made.append(door.datasets.create("one").dataset.author_id)
        except BeakerConflictError as error:
            taken.append(error.message)

    threads = [threading.Thread(target=create, args=(door,)) for door in doors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == len(set(made)) == (2 if scope is NameScope.AUTHOR else 1)
    assert all("dataset one: " in each for each in taken)
    for door in doors:
        door.close()


def test_a_secret_is_written_when_it_changes(door: BeakerDoor) -> None:
    """And only then; removing is the same twice."""
    assert door.secrets.write("TOKEN", "s3cr3t")
    assert not door.secrets.write("TOKEN", "s3cr3t")
    assert door.secrets.write("TOKEN", "other")
    assert door.secrets.names() == ["TOKEN"]
    door.secrets.delete("TOKEN")
    door.secrets.delete("TOKEN")
    assert door.secrets.names() == []


def test_an_image_is_declared_committed_and_found(door: BeakerDoor) -> None:
    """By name, id and description; taken names are told; removing is the same twice."""
    identity = door.images.create("tool", "sha256:" + "1" * 64, "tool:1", "digest=abc")
    with pytest.raises(BeakerConflictError, match="image tool"):
        door.images.create("tool", "sha256:" + "2" * 64, "tool:2", "")
    found = door.images.find("tool")
    assert found is not None
    assert (found.id, found.committed, found.description) == (identity, False, "digest=abc")
    assert [each.id for each in door.images.search("digest=abc", own=True)] == [identity]
    repository = door.images.repository(identity, upload=True)
    assert repository.password not in repr(repository)
    door.images.delete([identity])
    door.images.delete([identity])
    assert door.images.find("tool") is None
    with pytest.raises(BeakerNotFoundError):
        door.images.commit(identity)


def test_clusters_tell_what_is_free(door: BeakerDoor) -> None:
    """With their nodes; one that nobody knows is told by name."""
    cluster = door.clusters.get("ai2/general-cirrascale", occupancy=True)
    assert cluster.name == "ai2/general-cirrascale"
    assert cluster.free_slots is not None
    assert [node.hostname for node in door.clusters.nodes(cluster.name)] == ["local-1"]
    assert door.clusters.get(cluster.name).free_slots is None
    with pytest.raises(BeakerNotFoundError, match="cluster ai2/none"):
        door.clusters.get("ai2/none")


def test_a_workspace_is_named_in_several_ways(beaker: LocalBeaker) -> None:
    """By its whole name, its id, the configuration's default, and a word in the default organisation."""
    first = door_of(beaker)
    identity = first.account.workspace_id
    defaults = {"default_org": "ai2", "default_workspace": "ai2/my-workspace"}
    for name in ("ai2/my-workspace", identity, None, "my-workspace"):
        door = BeakerDoor(name, {**options_of(beaker), **defaults})
        assert (door.account.workspace_id, door.account.workspace_name) == (identity, "ai2/my-workspace")
        door.close()
    door = BeakerDoor(None, options_of(beaker))
    with pytest.raises(BeakerError, match="no Beaker workspace is named"):
        door.account.workspace_id  # noqa: B018
    first.close()


def test_options_are_those_of_the_public_client(beaker: LocalBeaker) -> None:
    """What it does not know is a mistake of the configuration, as is no token; nothing is sent for either."""
    with pytest.raises(ConfigurationError, match="Beaker"):
        BeakerDoor("ai2/my-workspace", {**options_of(beaker), "no_such": "x"}).account.client  # noqa: B018


def test_making_a_door_sends_nothing() -> None:
    """Nor does closing one that was never used."""
    door = BeakerDoor("ai2/my-workspace", {"user_token": "x", "agent_address": "http://127.0.0.1:1"})
    door.close()
    assert not door.account.has_answered
    assert "client" not in vars(door.account)


def test_threads_share_a_door(door: BeakerDoor) -> None:
    """Each has its own connection for files; what one does another sees."""
    created = door.datasets.create("shared")
    failed: list[Exception] = []

    def work(name: str) -> None:
        try:
            for number in range(10):
                door.datasets.write(created, f"{name}/{number}", name.encode())
                assert door.datasets.read(created.dataset.id, f"{name}/{number}") == name.encode()
                door.datasets.get(created.dataset.id)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(door.datasets.files(created.dataset.id)) == 80
