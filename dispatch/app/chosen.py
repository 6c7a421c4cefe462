"""Which images a command is about: those of a configuration, or one by its name alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch import assets
from dispatch.errors import ConfigurationError, did_you_mean

if TYPE_CHECKING:
    from dispatch.app import App, Overlay
    from dispatch.app.images import Images


@dataclass(frozen=True)
class Chosen:
    """Images, and the names of those that are meant."""

    images: Images
    names: tuple[str, ...]


def choose(app: App, target: str, names: Sequence[str], overlay: Overlay) -> Chosen:
    """Return the images that ``target`` names: a configuration (of it ``names``, or what its steps use), else
    an image of ``images/`` or of the settings. ConfigurationError where there is no such thing.
    """
    path = Path(target)
    if path.exists() or path.suffix or "/" in target:
        config = app.config(path, overlay, unused=bool(names))
        used = [name for name in config.images.values() if name is not None]
        for name in names:
            if name not in config.environments:
                known = list(config.environments)
                raise ConfigurationError(
                    f"{path.name}: no image {name!r}{did_you_mean(name, known)}", f"known: {', '.join(known)}"
                )
        return Chosen(app.images(config), tuple(dict.fromkeys(names or used)))
    if names:
        raise ConfigurationError(
            f"{target!r} is no configuration, so no image of it can be named", "name CONFIG, or IMAGE alone"
        )
    return Chosen(app.named_images([target], assets.images()), (target,))
