"""What is installed: in the current environment, and in an image as its locks tell."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping

from dispatch.environment import CondaImage, DebianImage, Environment, PipImage
from dispatch.image.ports import Locks


def packages() -> dict[str, str]:
    """The distributions of this interpreter with their versions, by normalised name, sorted."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        # The first on the path is the one that is imported; a broken installation has no name.
        if name:
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), distribution.version)
    return dict(sorted(found.items()))


def locked(name: str, environments: Mapping[str, Environment], locks: Locks) -> frozenset[str] | None:
    """The distributions that an image's Python sees, by normalised name; None where no lock tells."""
    found: set[str] = set()
    while name in environments:
        environment = environments[name]
        declaration = environment.declaration
        if isinstance(declaration, DebianImage):
            debian = locks.debian(environment).packages
            return frozenset(found | {package.name.removeprefix("python3-") for package in debian})
        if isinstance(declaration, CondaImage):
            from dispatch.lock.condanames import distributions

            # Its Python is another one than the base's, and sees nothing of that.
            return frozenset(found | distributions(locks.conda(environment)).keys())
        if not isinstance(declaration, PipImage):
            return None
        found |= {pin.name for pin in locks.pip(environment).pins}
        name = declaration.base
    return None
