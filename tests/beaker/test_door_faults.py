"""The door while the line or the server does its worst: repeated where that can help, and said where not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dispatch._beaker import (
    BeakerConflictError,
    BeakerDoor,
)
from dispatch.beakerd.config import Config
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_doors import door_of
from dispatch.testing.beaker_faults import Faults

LIMIT = 60.0


@pytest.fixture(scope="module")
def server(authority: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBeaker]:
    """One server for all, at which faults can be asked for."""
    beakers = Beakers(tmp_path_factory.mktemp("beaker"), tls=authority / "tls")
    beakers.prepare()
    yield beakers.start(Config(control=True))
    beakers.close()


@pytest.fixture
def faults(server: LocalBeaker) -> Iterator[Faults]:
    """Its faults, gone after the test."""
    made = Faults(server)
    yield made
    made.clear()


@pytest.fixture
def door(server: LocalBeaker) -> Iterator[BeakerDoor]:
    """A door to it, that knows who and where it is."""
    made = door_of(server, patience=20.0)
    assert made.account.workspace_id and made.account.user_id and made.account.organization_id
    yield made
    made.close()


def a_dataset(door: BeakerDoor) -> str:
    """A dataset of its own name, with a file."""
    created = door.datasets.create(f"d-{os.urandom(6).hex()}", "x")
    door.datasets.write(created, "a", b"abc")
    return created.dataset.id


def deleted(door: BeakerDoor, dataset: str) -> bool:
    """Delete a dataset, and say whether it is gone."""
    door.datasets.delete([dataset])
    return all(each.id != dataset for each in door.datasets.search())


def committed(door: BeakerDoor, dataset: str) -> bool:
    """Commit a dataset, and say whether it is."""
    door.datasets.commit(dataset)
    return door.datasets.get(dataset).committed


def described(door: BeakerDoor, dataset: str) -> str:
    """Describe a dataset, and say how it is described."""
    door.datasets.describe(dataset, "words")
    return door.datasets.get(dataset).description


# What is done, and what has to come out of it.
ACTS: dict[str, tuple[Callable[[BeakerDoor, str], Any], Any]] = {
    "create": (lambda door, _: len(a_dataset(door)), 26),
    "write": (lambda door, d: door.datasets.write(door.datasets.open(door.datasets.get(d)), "b", b"x"), None),
    "commit": (lambda door, d: committed(door, d), True),
    "get": (lambda door, d: door.datasets.get(d).id == d, True),
    "search": (lambda door, d: any(each.id == d for each in door.datasets.search("d-")), True),
    "describe": (described, "words"),
    "delete": (deleted, True),
    "files": (lambda door, d: [(each.path, each.size) for each in door.datasets.files(d)], [("a", 3)]),
    "read": (lambda door, d: door.datasets.read(d, "a"), b"abc"),
    "secret": (lambda door, d: (door.secrets.write(d, "x"), door.secrets.names().count(d))[1], 1),
    "cluster": (lambda door, _: len(door.clusters.nodes("ai2/general-cirrascale")), 1),
    "images": (lambda door, _: door.images.search("nothing"), []),
    "experiments": (lambda door, _: door.experiments.search("nothing"), []),
}
BOTH = ("drop", "lose", "unavailable", "429", "500")


@pytest.mark.parametrize("act", ACTS)
def test_what_passes_is_not_noticed(door: BeakerDoor, faults: Faults, act: str) -> None:
    """The first two requests of each protocol fail, in every way there is; what comes out is the same."""
    run, expected = ACTS[act]
    for on, kinds in (("rpc:*", (*BOTH, "reset")), ("rest:*", (*BOTH, "conflict", "truncate"))):
        for kind in kinds:
            dataset = a_dataset(door)
            faults.add(on, kind, times=2)
            assert run(door, dataset) == expected, (on, kind)
            faults.clear()


def test_who_and_where_we_are_is_asked_until_it_is_answered(server: LocalBeaker, faults: Faults) -> None:
    """The first questions of a process, too."""
    for kind in (*BOTH, "reset"):
        door = door_of(server, patience=20.0)
        faults.add("rpc:*", kind, times=3)
        assert (door.account.user_name, door.account.workspace_name) == ("me", "ai2/my-workspace")
        assert door.account.organization_id
        faults.clear()
        door.close()


def test_a_creation_whose_answer_was_lost_is_ours(door: BeakerDoor, faults: Faults) -> None:
    """It is known by its description; somebody else's of the same name is a conflict."""
    fault = faults.add("rest:POST /api/v3/datasets", "lose", times=1)
    created = door.datasets.create("lost", "of a kind")
    assert faults.hits(fault) == 1
    door.datasets.write(created, "a", b"x")
    faults.add("rest:POST /api/v3/datasets", "lose", times=1)
    with pytest.raises(BeakerConflictError):
        door.datasets.create("lost", "of another kind")
