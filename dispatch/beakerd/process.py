"""What names this process among all that ever ran on this machine, and how long it has run."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

# The house's own constant is beyond this package's wall.
VERSION = version("dispatch-toolchain")

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot() -> str:
    """The id of the machine's current boot."""
    return _BOOT_ID.read_text(encoding="ascii").strip()


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since the machine did: with its number it names it."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def uptime(pid: int) -> float:
    """For how many seconds a process has run."""
    machine = float(Path("/proc/uptime").read_text().split()[0])
    return max(0.0, machine - start_ticks(pid) / os.sysconf("SC_CLK_TCK"))
