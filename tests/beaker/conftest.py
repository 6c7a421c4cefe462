"""One authority for all local Beakers of the session, trusted by the gRPC of this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dispatch._beaker import BeakerDoor
from dispatch._docker import Door, ImageRecord
from dispatch.beakerd.config import Assumptions, Config
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_doors import door_of
from dispatch.testing.beaker_faults import Faults
from dispatch.testing.beaker_images import Bench
from dispatch.testing.beaker_parcels import large_in, small_in
from dispatch.testing.beaker_rest import Store, new_dataset, rest_of
from dispatch.testing.beaker_runs import Rig
from dispatch.testing.beaker_sites import Site, site_at


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the session's authority; gRPC reads the variable once, at its first secure channel."""
    root = tmp_path_factory.mktemp("authority")
    beakers = Beakers(root)
    beakers.prepare()
    os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(beakers.authority)
    return root


@pytest.fixture
def beakers(authority: Path, tmp_path: Path) -> Iterator[Beakers]:
    """Makes servers for one test, and ends them."""
    made = Beakers(tmp_path / "beaker", tls=authority / "tls")
    made.prepare()
    yield made
    made.close()


@pytest.fixture
def beaker(beakers: Beakers) -> LocalBeaker:
    """A server with the default configuration."""
    return beakers.start()


@pytest.fixture
def beaker_of(beakers: Beakers) -> Callable[[Config], LocalBeaker]:
    """A server with a configuration of the test's own."""
    return beakers.start


@pytest.fixture
def rig_of(beakers: Beakers) -> Iterator[Callable[..., Rig]]:
    """A rig with a configuration of the test's own."""
    made: list[Rig] = []

    def make(config: Config, name: str = "one") -> Rig:
        made.append(Rig(beakers, config, name))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


@pytest.fixture
def rig(rig_of: Callable[..., Rig]) -> Rig:
    """A rig whose jobs get little time to end."""
    return rig_of(Config(assume=Assumptions(grace=1.0)))


@pytest.fixture
def workspace(beaker: LocalBeaker) -> str:
    """The id of the default workspace."""
    with beaker.client() as client:
        return str(client.workspace.get("ai2/my-workspace").id)


@pytest.fixture
def store(beaker: LocalBeaker, workspace: str) -> Store:
    """An empty dataset."""
    return new_dataset(rest_of(beaker), workspace)


@pytest.fixture
def bench(door: Door, tmp_path: Path) -> Iterator[Bench]:
    """Images in the engine and on Beaker, of one test."""
    made = Bench(door, tmp_path / "locks")
    yield made
    made.close()


@pytest.fixture(scope="module")
def controlled(authority: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBeaker]:
    """One server for all tests of a file, at which faults can be asked for."""
    made = Beakers(tmp_path_factory.mktemp("beaker"), tls=authority / "tls")
    made.prepare()
    yield made.start(Config(control=True))
    made.close()


@pytest.fixture
def faults(controlled: LocalBeaker) -> Iterator[Faults]:
    """The faults of that server, gone after the test."""
    made = Faults(controlled)
    yield made
    made.clear()


@pytest.fixture
def beaker_door(controlled: LocalBeaker) -> Iterator[BeakerDoor]:
    """A door to it."""
    made = door_of(controlled, patience=5.0)
    yield made
    made.close()


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A directory that travels as files, one of them in several pieces."""
    return large_in(tmp_path)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A directory that travels as a tar."""
    return small_in(tmp_path)


@pytest.fixture
def site_of(beakers: Beakers, tmp_path: Path, busybox_image: ImageRecord) -> Iterator[Callable[..., Site]]:
    """Makes servers by what they assume."""
    assert busybox_image
    made: list[Site] = []

    def make(**assumed: Any) -> Site:
        made.append(site_at(beakers, tmp_path, **assumed))
        return made[-1]

    yield make
    for site in made:
        site.lab.close()
