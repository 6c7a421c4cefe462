"""What depends on where the containers of a run are: here, or on a system of other machines.

Owns what is refused, which image a step has and how images and source come to the jobs, for the engines of
this machine. ``onbeaker.side`` has the same for Beaker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch.app.cloning import clone_for
from dispatch.app.engines import Engines
from dispatch.errors import ConfigurationError, SourceError
from dispatch.graph import SHELL, StepNode
from dispatch.plan import Place, PlannedStep, RunPlan

if TYPE_CHECKING:
    from dispatch.app import App
    from dispatch.app.images import Images
    from dispatch.app.running import Running
    from dispatch.app.source import SourceTree
    from dispatch.config import Config
    from dispatch.environment import ImageRef
    from dispatch.executor import ProcessMaterials
    from dispatch.executor.materials import Common
    from dispatch.image.plan import BuildPlan
    from dispatch.job import Clone

Secret = Callable[[str], str]


class Side:
    """This machine, and the Docker Engine that it uses."""

    def __init__(self, app: App, parallelism: int | None) -> None:
        self.app = app
        self.engines = Engines(app, parallelism)

    def check(self) -> None:
        """Refuse settings that cannot be, before anything is asked."""

    def fits(self, place: Place, node: StepNode) -> None:
        """Refuse what a step asks for by itself, where nothing ever can give it.

        :raises UnrecoverableResourceAssignmentError: where nothing can
        """
        self.engines.here(place, Path()).refuse_impossible(node.options.resources)

    def complete(self, config: Config) -> Config:
        """Return the configuration with what only this side adds to it."""
        return config

    def image_of(self, config: Config, node: StepNode) -> str | None:
        """The name of a step's image, or None where the current environment is to run it."""
        kind, image = self.app.settings.executor.type, config.images[node.name]
        where = f"{config.path}: step {node.name!r}"
        if kind == "local" and image is not None and node.type == SHELL:
            # What a command gives depends on the image, whose digest is in its identity.
            raise ConfigurationError(
                f"{where}: names image {image!r}, but the settings say `executor: {{type: local}}`",
                "leave the image out, or use `executor: {type: docker}`",
            )
        if kind == "docker" and image is None and node.options.resources.machine != "local":
            raise ConfigurationError(
                f"{where}: says no image, and the settings say `executor: {{type: docker}}`",
                "name one with `step_image:`, or for all steps with `image:` at the top of the file",
            )
        return None if kind == "local" else image

    def refuse_dirty(self, source: SourceTree, *, inside: bool) -> None:
        """Refuse changes that may not run, ``inside`` containers or at all."""
        app = self.app
        if source.ref.dirty and app.settings.allow_dirty is False:
            raise SourceError(
                f"{source.repository.root}: uncommitted changes, and the settings say `allow_dirty: false`",
                "commit them, or leave that line out to run a snapshot of the working tree",
            )
        if inside and source.ref.dirty and app.settings.allow_dirty is None and not app.door.address.is_local:
            raise SourceError(
                f"{source.repository.root}: uncommitted changes, and the engine is another machine's "
                f"({app.door.address})",
                "commit them, or say `allow_dirty: true` in the settings to send a snapshot of them there",
            )

    def builds(self, images: Images, names: Iterable[str]) -> BuildPlan:
        """What is to be done for the named images."""
        return images.plan(names)

    def provide(self, images: Images, names: Iterable[str]) -> Mapping[str, ImageRef]:
        """Have the named images where jobs run, and return what jobs are to name."""
        report = images.build(images.plan(names))
        report.raise_failures()
        return report.images

    def clone(self, plan: RunPlan, source: SourceTree, secret: Secret) -> Clone | None:
        """Return what the plan's containers are to clone, having asked the remote; see :func:`clone_for`."""
        return clone_for(plan, source, self.app.settings.source, self.app.say, secret)

    def secrets(self) -> Mapping[str, str]:
        """The values of secrets that the settings themselves hold."""
        return {}

    def materials(
        self,
        running: Running,
        steps: Iterable[PlannedStep],
        images: Mapping[str, ImageRef],
        here: ProcessMaterials,
    ) -> Common:
        """What the containers of ``steps`` share, whose images were provided."""
        return running.container_materials(steps, images, here)


def side_of(app: App, parallelism: int | None) -> Side:
    """The side that the settings' executor is on."""
    if app.settings.executor.type == "beaker":
        from dispatch.app.onbeaker.side import BeakerSide

        return BeakerSide(app, parallelism)
    return Side(app, parallelism)
