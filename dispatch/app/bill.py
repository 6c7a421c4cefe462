"""The bill of materials of images, for the command: from their locks, without an engine."""

from __future__ import annotations

from typing import Any

from dispatch import __version__
from dispatch.app.chosen import Chosen
from dispatch.environment import BeakerImage, DockerImage
from dispatch.errors import ConfigurationError
from dispatch.image.sbom import spdx


def bill(chosen: Chosen) -> tuple[dict[str, Any], list[str]]:
    """Return the SPDX document of images, and those of them that it leaves out: nobody knows what is in them.

    ConfigurationError where that is all of them; LockError for a lock that is missing or stale.
    """
    environments = chosen.images.environments
    left = [
        name
        for name in chosen.names
        if isinstance(environments[name].declaration, (BeakerImage, DockerImage))
    ]
    names = [name for name in chosen.names if name not in left]
    if not names:
        raise ConfigurationError(
            f"{', '.join(left) or 'no image'}: there is no lock that says what is in it",
            "name an image that is made from a lock",
        )
    return spdx(chosen.images.recipes(names), f"dispatch-{__version__}"), left
