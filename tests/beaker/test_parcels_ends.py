"""Directories on their way to datasets and back: what ends it, what does not, a server that was killed."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from dispatch._beaker import (
    BeakerConflictError,
    BeakerDoor,
    BeakerError,
    BeakerNotFoundError,
    BeakerUnreachableError,
)
from dispatch._beaker.parcels import download, upload
from dispatch.beakerd.config import Config, Limits
from dispatch.testing.beaker import Beakers
from dispatch.testing.beaker_doors import door_of
from dispatch.testing.beaker_faults import Faults
from dispatch.testing.beaker_parcels import fetched, sent
from dispatch.workspace.manifest import survey

DEADLINE = 60.0


@pytest.fixture
def door(beaker_door: BeakerDoor) -> BeakerDoor:
    """The door to the server at which faults can be asked for."""
    return beaker_door


@pytest.mark.parametrize("which", ["large", "small"])
def test_a_server_that_stays_away_ends_it(
    door: BeakerDoor, faults: Faults, tmp_path: Path, which: str, request: pytest.FixtureRequest
) -> None:
    """When patience is at its end, both ways; the other files do not go on."""
    source = request.getfixturevalue(which)
    where = sent(door, source)
    faults.add("rest:*", "unavailable", after=1)
    for act in (lambda: sent(door, source), lambda: fetched(door, where, tmp_path / "target")):
        began = time.monotonic()
        with pytest.raises(BeakerUnreachableError, match="does not answer"):
            act()
        assert time.monotonic() - began < DEADLINE


def test_what_is_not_there_is_said(door: BeakerDoor, small: Path, large: Path, tmp_path: Path) -> None:
    """A path that the dataset has not, and a dataset that is gone."""
    dataset, parcel = sent(door, small)
    for packed in (True, False):
        for expected in (None, parcel.content):
            with pytest.raises(BeakerNotFoundError):
                download(door, dataset, "other", packed, tmp_path / f"{packed}", expected)
    door.datasets.delete([dataset])
    with pytest.raises(BeakerNotFoundError):
        download(door, dataset, parcel.subpath, True, tmp_path / "gone", parcel.content)
    for source in (small, large):
        created = door.datasets.create("gone")
        door.datasets.delete([created.dataset.id])
        with pytest.raises(BeakerNotFoundError):
            upload(door, created, source, "result")


@pytest.mark.parametrize("which", ["large", "small"])
def test_a_committed_dataset_takes_nothing(
    door: BeakerDoor, which: str, request: pytest.FixtureRequest
) -> None:
    """Whoever holds an attempt no more learns it."""
    created = door.datasets.create(f"done-{which}")
    door.datasets.commit(created.dataset.id)
    with pytest.raises(BeakerConflictError, match=f"dataset done-{which}: .* it is committed"):
        upload(door, created, request.getfixturevalue(which), "result")


def test_half_an_upload_is_written_over(door: BeakerDoor, large: Path, tmp_path: Path) -> None:
    """What an earlier attempt left of the same dataset does not matter."""
    created = door.datasets.create("again")
    door.datasets.write(created, "result/big", b"half")
    parcel = upload(door, door.datasets.open(created.dataset), large, "result")
    door.datasets.commit(created.dataset.id)
    assert fetched(door, (created.dataset.id, parcel), tmp_path / "target", told=False) == survey(large)


def test_an_expired_token_of_storage_is_renewed(beakers: Beakers, large: Path, small: Path) -> None:
    """The dataset's own token ends before ours does."""
    later = [0]
    # Not a day, as it is by default: a server that thinks so much later takes what is sent for forgotten.
    short = Config(limits=Limits(storage_token=600.0))
    running = beakers.start(short, wall=lambda: time.time_ns() + later[0])
    door = door_of(running)
    for number, source in enumerate((large, small)):
        created = door.datasets.create(f"late{number}")
        later[0] += 601 * 10**9
        parcel = upload(door, created, source, "result")
        assert parcel.content == survey(source)
    door.close()


@pytest.mark.parametrize("moment", [0.0, 0.1, 0.3])
def test_a_server_that_is_killed_and_comes_back_is_gone_on_with(
    beakers: Beakers, large: Path, small: Path, tmp_path: Path, moment: float
) -> None:
    """Both ways, and nobody notices but for the time."""
    running = beakers.spawn()
    door = door_of(running, patience=DEADLINE)
    failed: list[BeakerError] = []

    def move() -> None:
        try:
            for number, source in enumerate((large, small, large)):
                where = sent(door, source)
                assert fetched(door, where, tmp_path / f"t{number}") == survey(source)
        except BeakerError as error:
            failed.append(error)

    mover = threading.Thread(target=move)
    mover.start()
    time.sleep(moment)
    for _ in range(2):
        running.kill()
        running = beakers.spawn()
        time.sleep(moment)
    mover.join(2 * DEADLINE)
    assert not mover.is_alive()
    assert failed == []
    assert survey(tmp_path / "t2") == survey(large)
    door.close()
