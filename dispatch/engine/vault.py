"""Where the secrets of processes of this machine are: a directory in memory, private to the user.

Owns the choice of the place and its name. The helper that starts the step makes and removes it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from dispatch.engine.base import JobSpec
from dispatch.errors import EngineError

SECRETS_DIR = "DISPATCH_SECRETS_DIR"
SHARED_MEMORY = Path("/dev/shm")
RUNTIME_DIR = "XDG_RUNTIME_DIR"
_MOUNTS = Path("/proc/self/mounts")


def place_of(
    environ: Mapping[str, str],
    nonce: Callable[[], str] = lambda: secrets.token_hex(8),
    shared: Path = SHARED_MEMORY,
) -> Path:
    """Return a new path for a directory in memory. EngineError where this machine has no such place."""
    places = [shared, Path(environ.get(RUNTIME_DIR) or shared)]
    for place in places:
        if os.access(place, os.W_OK | os.X_OK) and _is_memory(place):
            return place / f"dispatch-secrets-{os.geteuid()}-{nonce()}"
    raise EngineError(
        f"secrets: neither {SHARED_MEMORY} nor ${RUNTIME_DIR} is a file system in memory",
        "mount a tmpfs there, or run the step in a container",
    )


def order_of(job: JobSpec, place: Path) -> dict[str, object]:
    """What the helper is told of a job's secrets."""
    return {"place": str(place), "values": dict(job.secrets)}


def variables_of(job: JobSpec, place: Path) -> dict[str, str]:
    """What a job with secrets has in its environment because of them."""
    return {**{name: job.secrets[name] for name in job.secret_variables}, SECRETS_DIR: str(place)}


def remove(place: Path) -> None:
    """Take away what a helper that is gone has left."""
    shutil.rmtree(place, ignore_errors=True)


def _is_memory(place: Path) -> bool:
    """Whether a directory is on a tmpfs: what is written there is on no disk."""
    kinds = {}
    with contextlib.suppress(OSError):
        for line in _MOUNTS.read_text("utf-8", "replace").splitlines():
            _, target, kind, *_ = line.split(" ")
            kinds[target] = kind
    found = next((kinds[str(each)] for each in (place, *place.parents) if str(each) in kinds), "")
    return found in ("tmpfs", "ramfs")
