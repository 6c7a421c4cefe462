"""The bill of materials of images, for the command: from their locks, without an engine."""

from __future__ import annotations

from typing import Any

from dispatch import __version__
from dispatch.app.chosen import Chosen
from dispatch.image.sbom import spdx


def bill(chosen: Chosen) -> dict[str, Any]:
    """Return the SPDX document of images; foreign ones are left out.

    ConfigurationError where that is all of them; LockError for a lock that is missing or stale.
    """
    ours = chosen.ours()
    return spdx(ours.images.recipes(ours.names), f"dispatch-{__version__}")
