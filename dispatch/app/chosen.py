"""Which images a command is about: those of a configuration, one by its name alone, or one of the engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch import assets
from dispatch.environment import BeakerImage, DockerImage
from dispatch.errors import ConfigurationError, DispatchError, ImageError, did_you_mean

if TYPE_CHECKING:
    from dispatch.app import App, Overlay
    from dispatch.app.images import Images


@dataclass(frozen=True)
class Chosen:
    """Images, and the names of those that are meant."""

    images: Images
    names: tuple[str, ...]

    @property
    def foreign(self) -> tuple[str, ...]:
        """Those of the names whose images others made: no lock says what is in them."""
        environments = self.images.environments
        kinds = (BeakerImage, DockerImage)
        return tuple(name for name in self.names if isinstance(environments[name].declaration, kinds))

    def ours(self) -> Chosen:
        """Return the same without the foreign ones. ConfigurationError where that leaves nothing."""
        foreign = self.foreign
        names = tuple(name for name in self.names if name not in foreign)
        if not names:
            raise ConfigurationError(
                f"{', '.join(foreign) or 'no image'}: no lock says what is in it",
                "name an image that is made from a lock",
            )
        return Chosen(self.images, names)


def choose(app: App, target: str, names: Sequence[str], overlay: Overlay) -> Chosen:
    """Return the images that ``target`` names: a configuration (of it ``names``, or what its steps use), a
    reference of the engine, or an image of ``images/`` or of the settings.

    ConfigurationError where there is no such thing.
    """
    path = Path(target)
    if not path.exists() and names:
        raise ConfigurationError(f"{target}: there is no such configuration", "name CONFIG, or IMAGE alone")
    if not path.exists() and (":" in target or "@" in target):
        return _of_reference(app, target)
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
    return Chosen(app.named_images([target], assets.images()), (target,))


def _of_reference(app: App, reference: str) -> Chosen:
    """Find the declaration that an image of the engine was built from here, or that has its name."""
    record = app.door.inspect_image(reference)
    if record is None:
        raise ImageError(f"image {reference}: it is not in the engine", "see `dispatch images`")
    for chosen in _candidates(app, record.id, reference):
        try:
            (name,) = chosen.names
            image = chosen.images.plan([name]).of(name).image
        except DispatchError:
            continue  # it was declared otherwise then
        if image is not None and image.id == record.id:
            return chosen
    raise ConfigurationError(
        f"image {reference}: no declaration is known here that it was built from",
        "name the configuration that declares it, as it was then",
    )


def _candidates(app: App, image: str, reference: str) -> Iterator[Chosen]:
    from dispatch.app import NO_OVERLAY
    from dispatch.image.usage import usage_of

    for declarer in usage_of(app.surroundings.cache).of(image).by:
        try:
            config = app.config(declarer.origin, NO_OVERLAY, unused=True)
            if declarer.name in config.environments:
                yield Chosen(app.images(config), (declarer.name,))
        except DispatchError:
            continue  # it is no configuration, or no longer
    name = reference.rpartition(":")[2].partition("--")[0]
    try:
        yield Chosen(app.named_images([name], assets.images()), (name,))
    except DispatchError:
        return
