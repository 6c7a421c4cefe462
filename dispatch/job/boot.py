"""What a job begins with where an engine can mount little: the script that makes its places, and the runtime.

Owns the directory of both, one for all jobs, below the cache and named by its content. It is made beside its
place and renamed into it, so it is whole or absent. Refuses to bring it anywhere.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dispatch.errors import DispatchError
from dispatch.job.places import BOOTED, BootedPlaces

_START = "start.sh"
_FILE_MODE = 0o644
_FOLDER_MODE = 0o755


@dataclass(frozen=True)
class Boot:
    """The directory to be shown at ``BOOTED.boot``, and the digest (hex) that names what is in it."""

    directory: Path
    digest: str


def provide_boot(cache: Path, runtime: Path, places: BootedPlaces = BOOTED) -> Boot:
    """Return the directory, made if it is not there. ``runtime`` is one that :mod:`dispatch.payload` made.

    Such a directory is named by its content, so the name is all that is looked at.
    """
    script = _script(places).encode()
    digest = hashlib.sha256(b"dispatch-boot 1\n" + script + b"\0" + runtime.name.encode()).hexdigest()
    place = cache / "boot" / digest
    if not (place / _START).is_file():
        try:
            _make(place, runtime, script)
        except OSError as error:
            raise DispatchError(
                f"boot: {place} cannot be made: {error.strerror}", "make the cache directory writable"
            ) from error
    return Boot(place, digest)


def _script(places: BootedPlaces) -> str:
    from dispatch.render import render

    return render("entrypoint/start.sh.j2", {"root": places.root, "source": places.source})


def _make(place: Path, runtime: Path, script: bytes) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".making-", dir=place.parent))
    try:
        shutil.copytree(runtime, made / "runtime")
        (made / _START).write_bytes(script)
        (made / _START).chmod(_FILE_MODE)
        made.chmod(_FOLDER_MODE)
        try:
            made.rename(place)
        except OSError:
            # Another process was first, and its is the same.
            if not (place / _START).is_file():
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
