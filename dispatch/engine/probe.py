"""What a Docker Engine is and has, and which engines are refused for now.

Owns the reading of the engine's own description. What it sees of our files is found out by the door's
``sight``, and asked again for the directories of each job.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dispatch._docker import Door
from dispatch.engine.base import Capabilities
from dispatch.engine.gpus import NVIDIA_DEVICES, gpus_of_engine
from dispatch.errors import EngineError
from dispatch.location import HostPath, SharedPath, Spool

NAME = "docker"


def probe(door: Door, uid: int, gid: int, nvidia_devices: Path = NVIDIA_DEVICES) -> Capabilities:
    """Ask an engine what it has. ``uid`` and ``gid`` are the caller's.

    :raises EngineError: when it does not answer, or is of a kind that is not supported yet
    """
    info = door.info()
    refuse_unsupported(info, str(door.address))
    gpus = gpus_of_engine(info, door.address.is_local, nvidia_devices)
    obstacle = door.sight.obstacle([door.home])
    user = door.sight.user(uid, gid)
    return Capabilities(
        name=NAME,
        accepts=(SharedPath,) if obstacle else (HostPath, SharedPath, Spool),
        uid=user[0],
        gid=user[1],
        cpus=int(info["NCPU"]),
        memory=int(info["MemTotal"]),
        gpus=tuple(gpu.id for gpu in gpus),
        gpu_types=tuple(gpu.type for gpu in gpus),
        obstacle=obstacle,
    )


def refuse_unsupported(info: Mapping[str, Any], address: str) -> None:
    """Raise EngineError, with what to do, for an engine that we cannot work with yet."""
    status: dict[str, str] = dict(info.get("DriverStatus") or ())
    if info.get("OSType", "linux") != "linux":
        fact, remedy = f"runs {info['OSType']} containers", "use an engine that runs Linux containers"
    elif "io.containerd.snapshotter.v1" in status.get("driver-type", ""):
        fact = "keeps its images in containerd's store, which is not supported yet"
        remedy = (
            'set {"features": {"containerd-snapshotter": false}} in the engine\'s /etc/docker/daemon.json'
        )
    else:
        return
    raise EngineError(f"Docker Engine: the engine at {address} {fact}", remedy)
