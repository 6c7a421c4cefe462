"""What a Docker Engine is and has, and which engines are refused for now.

Owns the reading of the engine's own description. Whether the engine sees our files is not asked here: it
refuses to create a container with a mount that it does not see, so every start is that probe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dispatch._docker import Door
from dispatch.engine.base import Capabilities
from dispatch.engine.gpus import NVIDIA_DEVICES, gpus_of_engine
from dispatch.errors import EngineError
from dispatch.location import HostPath, SharedPath, Spool

NAME = "docker"


def probe(door: Door, uid: int, gid: int, nvidia_devices: Path = NVIDIA_DEVICES) -> Capabilities:
    """Ask an engine what it has.

    :raises EngineError: when it does not answer, or is of a kind that is not supported yet
    """
    info = door.info()
    refuse_unsupported(info, str(door.address))
    gpus = gpus_of_engine(info, door.address.is_local, nvidia_devices)
    return Capabilities(
        name=NAME,
        accepts=(HostPath, SharedPath, Spool),
        uid=uid,
        gid=gid,
        cpus=int(info["NCPU"]),
        memory=int(info["MemTotal"]),
        gpus=tuple(gpu.id for gpu in gpus),
        gpu_types=tuple(gpu.type for gpu in gpus),
    )


def refuse_unsupported(info: Mapping[str, Any], address: str) -> None:
    """Raise EngineError, with what to do, for an engine that we cannot work with yet."""
    options: Sequence[str] = info.get("SecurityOptions") or ()
    status: dict[str, str] = dict(info.get("DriverStatus") or ())
    kinds = {option.split(",")[0] for option in options}
    if info.get("OSType", "linux") != "linux":
        fact, remedy = f"runs {info['OSType']} containers", "use an engine that runs Linux containers"
    elif "name=rootless" in kinds:
        fact, remedy = "is rootless, which is not supported yet", "use an engine that root has started"
    elif "name=userns" in kinds:
        fact = "remaps user ids, which is not supported yet"
        remedy = "take `userns-remap` out of the engine's /etc/docker/daemon.json"
    elif "io.containerd.snapshotter.v1" in status.get("driver-type", ""):
        fact = "keeps its images in containerd's store, which is not supported yet"
        remedy = (
            'set {"features": {"containerd-snapshotter": false}} in the engine\'s /etc/docker/daemon.json'
        )
    elif "Docker Desktop" in str(info.get("OperatingSystem", "")):
        fact = "is Docker Desktop, a machine of its own, which is not supported yet"
        remedy = "use a Docker Engine that runs on this machine itself"
    else:
        return
    raise EngineError(f"Docker Engine: the engine at {address} {fact}", remedy)
