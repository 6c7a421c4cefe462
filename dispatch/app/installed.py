"""What is installed in the current environment, for steps that run in it."""

from __future__ import annotations

import importlib.metadata
import re


def packages() -> dict[str, str]:
    """The distributions of this interpreter with their versions, by normalised name, sorted."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        # The first on the path is the one that is imported; a broken installation has no name.
        if name:
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), distribution.version)
    return dict(sorted(found.items()))
