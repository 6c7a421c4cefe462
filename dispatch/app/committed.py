"""The committed locks of a configuration's images, each read once and held against what is below it.

Refuses to renew them: that is :mod:`dispatch.app.locking`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dispatch.config.expansion import base_lock_command
from dispatch.environment import CondaImage, DebianImage, Environment, PipImage
from dispatch.lock.debian import read_debian
from dispatch.lock.model import CondaLock, DebianLock, Lock, PipLock
from dispatch.lock.pip import read_pip


class CommittedLocks:
    """Reads locks, each once; ``config`` is the file that a message's command names.

    Those of pip packages are held against what is locked below them, where ``environments`` has it.
    """

    def __init__(self, config: str, environments: Mapping[str, Environment] | None = None) -> None:
        self._config = config
        self._environments = environments or {}
        self._read: dict[Path, Lock] = {}

    def pip(self, environment: Environment) -> PipLock:
        """The lock of a pip environment."""
        path = _lock_path(environment)
        if path not in self._read:
            below = provided(environment, self._environments, self)
            command = f"dispatch lock {self._config}"
            self._read[path] = read_pip(environment, command=command, provided=below)
        found = self._read[path]
        assert isinstance(found, PipLock)
        return found

    def debian(self, environment: Environment) -> DebianLock:
        """The lock of a Debian base."""
        path = _lock_path(environment)
        if path not in self._read:
            command = base_lock_command(environment.name, self._config)
            self._read[path] = read_debian(environment, command)
        found = self._read[path]
        assert isinstance(found, DebianLock)
        return found

    def conda(self, environment: Environment) -> CondaLock:
        """The lock of a conda environment."""
        from dispatch.lock.conda import read_conda

        path = _lock_path(environment)
        if path not in self._read:
            self._read[path] = read_conda(environment, f"dispatch lock {self._config}")
        found = self._read[path]
        assert isinstance(found, CondaLock)
        return found

    def of(self, environment: Environment) -> Lock | None:
        """The lock of any environment; None for one that has none."""
        if isinstance(environment.declaration, CondaImage):
            return self.conda(environment)
        if isinstance(environment.declaration, PipImage):
            return self.pip(environment)
        if isinstance(environment.declaration, DebianImage):
            return self.debian(environment)
        return None


def _lock_path(environment: Environment) -> Path:
    assert isinstance(environment.declaration, (PipImage, CondaImage, DebianImage))
    return environment.declaration.lock


def provided(
    environment: Environment, environments: Mapping[str, Environment], locks: CommittedLocks
) -> tuple[str, ...]:
    """Return what the base of a pip environment brings for pip, as ``name==version``.

    LockError where the base has no lock that fits.
    """
    declaration = environment.declaration
    base = environments.get(declaration.base) if isinstance(declaration, PipImage) else None
    if base is None or not isinstance(base.declaration, CondaImage):
        return ()
    from dispatch.lock.condanames import pip_constraints

    return pip_constraints(locks.conda(base))
