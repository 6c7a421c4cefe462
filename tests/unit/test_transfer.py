"""The table of ways between locations and engines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dispatch.engine.base import Capabilities
from dispatch.errors import ConfigurationError
from dispatch.location import BeakerDataset, HostPath, Location, SharedPath, Spool
from dispatch.transfer import Cell, Way, beside, cell, cell_of, is_downloaded, mount_source, place, stays

DOCKER = Capabilities("docker", (HostPath, SharedPath, Spool), uid=0, gid=0, cpus=2, memory=1)
LOCAL = Capabilities("local", (HostPath, SharedPath, Spool), uid=0, gid=0, cpus=2, memory=1)
APART = replace(DOCKER, accepts=(SharedPath,), obstacle="it is elsewhere")
SLURM = Capabilities("slurm", (SharedPath,), uid=0, gid=0, cpus=2, memory=1)
BEAKER = Capabilities("beaker", (BeakerDataset, SharedPath), uid=0, gid=0, cpus=2, memory=1)
FETCHING = replace(DOCKER, accepts=(*DOCKER.accepts, BeakerDataset))
DATASET = BeakerDataset("01ABC", "result.tar", packed=True)


@pytest.mark.parametrize("location", [HostPath(Path("/ws")), SharedPath(Path("/net/ws"))])
def test_local_to_docker(location: Location) -> None:
    """Between a local workspace and a Docker Engine nothing is copied, in either direction."""
    assert cell(location, DOCKER) == Cell(inputs=Way.MOUNT, results=Way.RENAME)
    assert mount_source(location, DOCKER) == location


def test_memory_to_docker() -> None:
    """What stands in for memory is mounted as any directory."""
    spool = Spool(Path("/spool"))
    assert cell(spool, DOCKER) == Cell(inputs=Way.MOUNT, results=Way.RENAME)
    assert mount_source(spool, DOCKER) == HostPath(Path("/spool"))


@pytest.mark.parametrize("kind", [HostPath, Spool])
def test_to_docker_elsewhere(kind: type[HostPath]) -> None:
    """Where the engine does not see our files everything is copied, and the cell says why."""
    location = kind(Path("/ws"))
    assert cell(location, APART) == Cell(Way.COPY_IN, Way.COPY_BACK, "it is elsewhere")
    assert mount_source(location, APART) == HostPath(Path("/ws"))


def test_shared_drive_to_docker_elsewhere() -> None:
    """What both sides see is mounted all the same."""
    shared = SharedPath(Path("/net/ws"))
    assert cell(shared, APART) == Cell(Way.MOUNT, Way.RENAME)
    assert mount_source(shared, APART) == shared


def test_neighbours() -> None:
    """What lies beside something on a shared drive is on it, and nothing else is."""
    path = Path("/net/ws/job")
    assert beside(SharedPath(Path("/net/ws")), path) == SharedPath(path)
    assert beside(HostPath(Path("/ws")), path) == beside(Spool(Path("/ws")), path) == HostPath(path)


@pytest.mark.parametrize(
    ("location", "capabilities", "words"),
    [
        (SharedPath(Path("/ws")), SLURM, "yet"),
        (BeakerDataset("01ABC"), APART, "yet"),
        (HostPath(Path("/ws")), SLURM, "'slurm'$"),
        (Spool(Path("/ws")), BEAKER, "'beaker'$"),
        (Spool(Path("/ws")), SLURM, "'slurm'$"),
    ],
)
def test_planned_and_impossible(location: Location, capabilities: Capabilities, words: str) -> None:
    """What is to come is told from what will never be."""
    with pytest.raises(ConfigurationError, match=words):
        cell(location, capabilities)


@pytest.mark.parametrize(
    ("location", "expected", "there"),
    [
        (DATASET, Cell(Way.DATASET, Way.POINTER), True),
        (HostPath(Path("/ws")), Cell(Way.UPLOAD, Way.DOWNLOAD), False),
        (SharedPath(Path("/net/ws")), Cell(Way.MOUNT, Way.RENAME), False),
    ],
)
def test_to_beaker(location: Location, expected: Cell, there: bool) -> None:
    """Datasets are mounted and stay; files of this machine are brought and come back; drives are mounted."""
    assert cell(location, BEAKER) == cell_of(type(location), BEAKER) == expected
    assert mount_source(location, BEAKER) == location
    assert stays(type(location), BEAKER) is there
    assert not is_downloaded(location, BEAKER)


@pytest.mark.parametrize(
    "capabilities", [FETCHING, replace(LOCAL, accepts=FETCHING.accepts), replace(FETCHING, obstacle="far")]
)
def test_from_beaker(capabilities: Capabilities) -> None:
    """What is on Beaker comes to this machine before a job of ours starts, and the result goes there."""
    assert cell(DATASET, capabilities) == Cell(Way.DOWNLOAD, Way.UPLOAD)
    assert is_downloaded(DATASET, capabilities)
    assert not stays(BeakerDataset, capabilities)


@pytest.mark.parametrize("kind", [HostPath, SharedPath, Spool])
def test_to_a_process(kind: type[HostPath]) -> None:
    """A process of this machine reads where the bytes are, and its result is renamed into place."""
    location = kind(Path("/ws"))
    assert cell(location, LOCAL) == Cell(inputs=Way.IN_PLACE, results=Way.RENAME)
    assert place(location, LOCAL) == Path("/ws")


@pytest.mark.parametrize(
    ("location", "capabilities", "words"),
    [
        (BeakerDataset("01ABC"), DOCKER, "on Beaker .*'docker'"),
        (Spool(Path("/spool")), BEAKER, "in memory .*'beaker'"),
        (SharedPath(Path("/net")), replace(BEAKER, accepts=(BeakerDataset,)), "on a shared drive .*'beaker'"),
        (BeakerDataset("01ABC"), LOCAL, "on Beaker .*'local'"),
        (SharedPath(Path("/net")), replace(DOCKER, accepts=(HostPath,)), "on a shared drive .*'docker'"),
    ],
)
def test_no_way(location: Location, capabilities: Capabilities, words: str) -> None:
    """What no way leads to is refused with both ends named, and with a way out."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        mount_source(location, capabilities)
    assert "workspace:" in caught.value.remedy
