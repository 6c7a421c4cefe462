"""Gives each image a runtime directory with bytecode that its own interpreter can load.

The client compiles for its own minor version. For an image with another one, its interpreter does, once, in a
helper container; the result is for that image alone.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from dispatch import job as jobs
from dispatch import payload
from dispatch._docker import Door
from dispatch._docker.containers import Bind
from dispatch._docker.helper import OneShot
from dispatch.environment import CondaImage, Environment, ImageRef, LocalId, PipImage
from dispatch.errors import DispatchError

COMPILE_TIMEOUT = 120.0
# The first Python on the path, as the entrypoint finds it.
_COMMAND = 'python=$(command -v python3 || command -v python) && exec "$python" "$1/main.py" bytecode "$2"'


class Runtimes:
    """Runtime directories below ``cache`` for the images of one engine."""

    def __init__(self, cache: Path, door: Callable[[], Door]) -> None:
        self._cache = cache
        self._door = door
        self.own = payload.provide(cache)

    def of(self, environment: Environment, image: ImageRef) -> Path:
        """Return the directory to mount for an image of the engine.

        Bytecode only saves time: where it cannot be made, the sources do, and a step says what is wrong.
        """
        if (
            not isinstance(image, LocalId)
            or _python(environment) == f"{sys.version_info.major}.{sys.version_info.minor}"
        ):
            return self.own.directory
        found = payload.find_for(self._cache, image.id)
        if found is None:
            found = payload.provide_for(self._cache, image.id, self._compile(image.id))
        return found.directory

    def _compile(self, image: str) -> dict[str, bytes]:
        with tempfile.TemporaryDirectory(prefix="dispatch-runtime-") as output:
            binds = (
                Bind(str(self.own.directory), jobs.CONTAINER.runtime),
                Bind(output, jobs.CONTAINER.output, read_only=False),
            )
            command = ("/bin/sh", "-c", _COMMAND, "sh", jobs.CONTAINER.runtime, jobs.CONTAINER.output)
            user = f"{os.getuid()}:{os.getgid()}"
            shot = OneShot(image, command, binds, user=user, timeout=COMPILE_TIMEOUT)
            try:
                self._door().run_once(shot)
            except DispatchError:
                return {}
            return {
                path.relative_to(output).as_posix(): path.read_bytes()
                for path in Path(output).rglob("*.pyc")
                if path.is_file() and not path.is_symlink()
            }


def _python(environment: Environment) -> str | None:
    """The minor version of an environment's Python, where its declaration or lock tells."""
    declaration = environment.declaration
    if isinstance(declaration, PipImage):
        from dispatch.lock.pip import read_pip

        return read_pip(environment).target.python
    if isinstance(declaration, CondaImage):
        from dispatch.lock.conda import read_conda

        return read_conda(environment).python
    return getattr(declaration, "python", None)
