"""Conda locks: ``environment.yml`` → exact packages with hashes for one platform.

Owns the file, what makes it stale, and its renewal.
"""

from __future__ import annotations

from dispatch.environment import Environment
from dispatch.errors import LockError
from dispatch.lock.model import CondaLock


def read_conda(environment: Environment, command: str = "dispatch lock") -> CondaLock:
    """Read the committed lock of a conda environment and hold that it still fits.

    LockError where it is missing, malformed, changed by hand, or made from other inputs; ``command`` is what
    the remedy names.
    """
    raise LockError(f"image {environment.name!r} has no lock", f"make it with `{command}`")
