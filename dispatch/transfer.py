"""The table of how bytes get to an engine and back, and nothing else knows it.

Owns, for each kind of location and each engine, how an input is brought and how a result is taken in.
Refuses, before anything starts, what no way leads to. Moves nothing itself.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

from dispatch.engine.base import Capabilities
from dispatch.errors import ConfigurationError
from dispatch.location import BeakerDataset, HostPath, Location, SharedPath, Spool


class Way(enum.Enum):
    """A way for bytes, in the words that plans show."""

    MOUNT = "mount"
    IN_PLACE = "in place"
    RENAME = "rename"


@dataclass(frozen=True)
class Cell:
    """How inputs at a location reach the engine's jobs, and how results come to be at that location."""

    inputs: Way
    results: Way


_TABLE: dict[tuple[type, str], Cell] = {
    (HostPath, "docker"): Cell(Way.MOUNT, Way.RENAME),
    (SharedPath, "docker"): Cell(Way.MOUNT, Way.RENAME),
    (Spool, "docker"): Cell(Way.MOUNT, Way.RENAME),
    (HostPath, "local"): Cell(Way.IN_PLACE, Way.RENAME),
    (SharedPath, "local"): Cell(Way.IN_PLACE, Way.RENAME),
    (Spool, "local"): Cell(Way.IN_PLACE, Way.RENAME),
}
_WHERE: dict[type, str] = {
    HostPath: "on this machine",
    SharedPath: "on a shared drive",
    BeakerDataset: "on Beaker",
    Spool: "in memory",
}


def cell(location: Location, capabilities: Capabilities) -> Cell:
    """Return the ways between a location and an engine.

    :raises ConfigurationError: when there is none
    """
    kind = type(location)
    found = _TABLE.get((kind, capabilities.name))
    if found is None or kind not in capabilities.accepts:
        raise ConfigurationError(
            f"results {_WHERE[kind]} cannot be used by the engine {capabilities.name!r} yet",
            "use a workspace in a directory of this machine: `workspace: {type: local, dir: …}`",
        )
    return found


def mount_source(location: Location, capabilities: Capabilities) -> Location:
    """Return what to mount so that a container sees the bytes at ``location``.

    :raises ConfigurationError: when the engine has no way to them
    """
    way = cell(location, capabilities).inputs
    assert way is Way.MOUNT  # the only way of containers so far
    return HostPath(location.path) if isinstance(location, Spool) else location


def place(location: Location, capabilities: Capabilities) -> Path:
    """Return the path under which a process of this machine has the bytes at ``location``.

    :raises ConfigurationError: when there is none
    """
    way = cell(location, capabilities).inputs
    assert way is Way.IN_PLACE  # the only way of processes so far
    assert not isinstance(location, BeakerDataset)
    return location.path
