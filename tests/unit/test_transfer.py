"""The table of ways between locations and engines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dispatch.engine.base import Capabilities
from dispatch.errors import ConfigurationError
from dispatch.location import BeakerDataset, HostPath, Location, SharedPath, Spool
from dispatch.transfer import Cell, Way, cell, mount_source

DOCKER = Capabilities("docker", (HostPath, SharedPath), uid=0, gid=0, cpus=2, memory=1)
BEAKER = Capabilities("beaker", (BeakerDataset,), uid=0, gid=0, cpus=2, memory=1)


@pytest.mark.parametrize("location", [HostPath(Path("/ws")), SharedPath(Path("/net/ws"))])
def test_local_to_docker(location: Location) -> None:
    """Between a local workspace and a Docker Engine nothing is copied, in either direction."""
    assert cell(location, DOCKER) == Cell(inputs=Way.MOUNT, results=Way.RENAME)
    assert mount_source(location, DOCKER) == location


@pytest.mark.parametrize(
    ("location", "capabilities", "words"),
    [
        (BeakerDataset("01ABC"), DOCKER, "on Beaker .*'docker'"),
        (Spool(Path("/spool")), DOCKER, "in memory .*'docker'"),
        (HostPath(Path("/ws")), BEAKER, "on this machine .*'beaker'"),
        (BeakerDataset("01ABC"), BEAKER, "on Beaker .*'beaker'"),
        (SharedPath(Path("/net")), replace(DOCKER, accepts=(HostPath,)), "on a shared drive .*'docker'"),
    ],
)
def test_no_way(location: Location, capabilities: Capabilities, words: str) -> None:
    """What no way leads to is refused with both ends named, and with a way out."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        mount_source(location, capabilities)
    assert "workspace:" in caught.value.remedy
