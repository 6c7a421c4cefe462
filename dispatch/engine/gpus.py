"""Which GPUs there are, by device id, and of what model.

Owns the reading of what the driver of this machine, and a remote engine, say about them. Ids are the driver's
indexes as text, in the order of the bus, as its own tools count.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NVIDIA_DEVICES = Path("/proc/driver/nvidia/gpus")
VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"
DEVICE_ORDER = "CUDA_DEVICE_ORDER"
_MODEL = re.compile(r"^Model:[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)
_UUID = re.compile(r"^GPU UUID:[ \t]*(\S+)[ \t]*$", re.MULTILINE)
_DISCOVERED = re.compile(r"nvidia\.com/gpu=([0-9]{1,4})")


@dataclass(frozen=True)
class Gpu:
    """One GPU; ``type`` (its model) and ``uuid`` are empty where nobody says."""

    id: str
    type: str = ""
    uuid: str = ""


def gpus_here(devices: Path = NVIDIA_DEVICES) -> tuple[Gpu, ...]:
    """Return the GPUs of this machine; none where there is no driver."""
    places = sorted(devices.iterdir()) if devices.is_dir() else []
    return tuple(_read(str(index), place / "information") for index, place in enumerate(places))


def gpus_of_engine(info: Mapping[str, Any], here: bool, devices: Path = NVIDIA_DEVICES) -> tuple[Gpu, ...]:
    """Return the GPUs that an engine can give to containers, by its own description.

    An engine ``here`` uses those of this machine. One elsewhere tells of them only if it is new enough to
    list devices; where it does not, settings can.
    """
    if "nvidia" not in (info.get("Runtimes") or {}):
        return ()
    if here:
        return gpus_here(devices)
    names = [str(device.get("ID", "")) for device in info.get("DiscoveredDevices") or ()]
    indexes = {int(match[1]) for name in names if (match := _DISCOVERED.fullmatch(name))}
    return tuple(Gpu(str(index)) for index in sorted(indexes))


def in_bus_order(environ: Mapping[str, str], devices: Path = NVIDIA_DEVICES) -> Mapping[str, str]:
    """Return an environment in which programs count the GPUs of this machine as we do.

    CUDA counts the fastest first where nobody says otherwise. What the user set is left: who names GPUs by
    index in an order of his own is to get these.
    """
    if not devices.is_dir() or VISIBLE_DEVICES in environ:
        return environ
    return {DEVICE_ORDER: "PCI_BUS_ID", **environ}


def visible(gpus: Sequence[Gpu], variable: str | None) -> tuple[Gpu, ...]:
    """Return those GPUs, by index or UUID, that the value of ``CUDA_VISIBLE_DEVICES`` leaves; None is all."""
    if variable is None:
        return tuple(gpus)
    known = {name: gpu for gpu in gpus for name in (gpu.id, gpu.uuid) if name}
    names = [name for each in variable.split(",") if (name := each.strip()) not in ("", "-1")]
    return tuple(Gpu(name, known[name].type if name in known else "") for name in names)


def _read(index: str, information: Path) -> Gpu:
    try:
        text = information.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return Gpu(index)
    model, uuid = _MODEL.search(text), _UUID.search(text)
    return Gpu(index, model[1] if model else "", uuid[1] if uuid else "")
