"""The table of how bytes get to an engine and back, and nothing else knows it.

Owns, for each kind of location and each engine, how an input is brought and how a result is taken in.
Refuses, before anything starts, what no way leads to. Moves nothing itself.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from pathlib import Path

from dispatch.engine.base import Capabilities
from dispatch.errors import ConfigurationError
from dispatch.location import BeakerDataset, HostPath, Location, SharedPath, Spool


class Way(enum.Enum):
    """A way for bytes, in the words that plans show."""

    MOUNT = "mount"
    IN_PLACE = "in place"
    RENAME = "rename"
    COPY_IN = "copied in"
    COPY_BACK = "copied back"
    DOWNLOAD = "downloaded by this machine"
    UPLOAD = "uploaded by this machine"
    DATASET = "mounted dataset"
    POINTER = "nothing moves"
    SUBMIT_HOST = "by the submit host"


@dataclass(frozen=True)
class Cell:
    """How inputs at a location reach the engine's jobs, and how results come to be at that location.

    ``reason`` says why they are copied, where they are.
    """

    inputs: Way
    results: Way
    reason: str = ""


# The engines as the table has them: a Docker Engine that does not see our files is another one.
APART = "docker, apart"
BEAKER = "beaker"
_TABLE: dict[tuple[type, str], Cell] = {
    (Spool, "local"): Cell(Way.IN_PLACE, Way.RENAME),
    (Spool, "docker"): Cell(Way.MOUNT, Way.RENAME),
    (Spool, APART): Cell(Way.COPY_IN, Way.COPY_BACK),
    (HostPath, "local"): Cell(Way.IN_PLACE, Way.RENAME),
    (HostPath, "docker"): Cell(Way.MOUNT, Way.RENAME),
    (HostPath, APART): Cell(Way.COPY_IN, Way.COPY_BACK),
    (SharedPath, "local"): Cell(Way.IN_PLACE, Way.RENAME),
    (SharedPath, "docker"): Cell(Way.MOUNT, Way.RENAME),
    (SharedPath, APART): Cell(Way.MOUNT, Way.RENAME),
    (HostPath, BEAKER): Cell(Way.UPLOAD, Way.DOWNLOAD),
    (SharedPath, BEAKER): Cell(Way.MOUNT, Way.RENAME),
    (BeakerDataset, "local"): Cell(Way.DOWNLOAD, Way.UPLOAD),
    (BeakerDataset, "docker"): Cell(Way.DOWNLOAD, Way.UPLOAD),
    (BeakerDataset, APART): Cell(Way.DOWNLOAD, Way.UPLOAD),
    (BeakerDataset, BEAKER): Cell(Way.DATASET, Way.POINTER),
}
# Cells whose engine or workspace is still to come: known, shown to nobody, refused with "yet".
PLANNED: dict[tuple[type, str], Cell] = {
    (SharedPath, "slurm"): Cell(Way.MOUNT, Way.RENAME),
    (BeakerDataset, "slurm"): Cell(Way.SUBMIT_HOST, Way.SUBMIT_HOST),
}
# Ways on which the engine brings what it does not see.
_BROUGHT = (Way.COPY_IN, Way.UPLOAD)
_REMEDY_ON_BEAKER = (
    "use a workspace that jobs can reach: `workspace: beaker://ORG/NAME`, or `local:///DIRECTORY`"
)
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
    return cell_of(type(location), capabilities)


def cell_of(kind: type[Location], capabilities: Capabilities) -> Cell:
    """Return the ways between places of a kind and an engine; see :func:`cell`."""
    engine = capabilities.name
    apart = engine == "docker" and bool(capabilities.obstacle)
    key = kind, APART if apart else engine
    found = _TABLE.get(key)
    if found is not None and found.inputs in _BROUGHT:
        return replace(found, reason=capabilities.obstacle)
    if found is None or kind not in capabilities.accepts:
        yet = " yet" if key in PLANNED or found is not None else ""
        raise ConfigurationError(
            f"results {_WHERE[kind]} cannot be used by the engine {engine!r}{yet}",
            _REMEDY_ON_BEAKER
            if engine == BEAKER
            else "use a workspace in a directory of this machine: `workspace: {type: local, dir: …}`",
        )
    return found


def mount_source(location: Location, capabilities: Capabilities) -> Location:
    """Return what to mount so that a container sees the bytes at ``location``.

    An engine that does not see them brings them itself.

    :raises ConfigurationError: when the engine has no way to them
    """
    way = cell(location, capabilities).inputs
    # What has to be downloaded first is somewhere else by then.
    assert way in (Way.MOUNT, Way.DATASET, *_BROUGHT)
    return HostPath(location.path) if isinstance(location, Spool) else location


def is_downloaded(location: Location, capabilities: Capabilities) -> bool:
    """Say whether this machine has to have the bytes at ``location`` before a job can start.

    :raises ConfigurationError: when the engine has no way to them
    """
    return cell(location, capabilities).inputs is Way.DOWNLOAD


def stays(kind: type[Location], capabilities: Capabilities) -> bool:
    """Say whether a result for a place of this kind stays where the engine keeps it.

    :raises ConfigurationError: when the engine has no way there
    """
    return cell_of(kind, capabilities).results is Way.POINTER


def beside(location: Location, path: Path) -> Location:
    """Return the location of another path of this machine that is where ``location`` is.

    What lies on a shared drive is seen by whoever sees its neighbours.
    """
    return SharedPath(path) if isinstance(location, SharedPath) else HostPath(path)


def place(location: Location, capabilities: Capabilities) -> Path:
    """Return the path under which a process of this machine has the bytes at ``location``.

    :raises ConfigurationError: when there is none
    """
    way = cell(location, capabilities).inputs
    assert way is Way.IN_PLACE  # the only way of processes so far
    assert not isinstance(location, BeakerDataset)
    return location.path
