"""The side of a run whose containers are on Beaker: what is checked, provided and shared there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from dispatch.app.onbeaker import rules
from dispatch.app.onbeaker.engines import BeakerEngines
from dispatch.app.onbeaker.source import Cloning
from dispatch.app.sides import Secret, Side
from dispatch.image.plan import Action, Generated, ImagePlan
from dispatch.plan import Place

if TYPE_CHECKING:
    from dispatch.app import App
    from dispatch.app.images import Images
    from dispatch.app.running import Running
    from dispatch.app.source import SourceTree
    from dispatch.config import Config
    from dispatch.environment import ImageRef
    from dispatch.executor import ProcessMaterials
    from dispatch.executor.materials import Common
    from dispatch.graph import StepNode
    from dispatch.image.plan import BuildPlan
    from dispatch.job import Clone
    from dispatch.plan import PlannedStep, RunPlan
    from dispatch.schedule.beaker import BeakerScheduler


class BeakerSide(Side):
    """Beaker, as the settings' account sees it. ``scheduler`` is a program's own."""

    engines: BeakerEngines

    def __init__(self, app: App, parallelism: int | None, scheduler: BeakerScheduler | None = None) -> None:
        super().__init__(app, parallelism)
        self.setup = rules.setup_of(app.settings)
        self.engines = BeakerEngines(app, parallelism, self.setup, scheduler)

    def check(self) -> None:
        """Refuse a workspace that cannot be, and find out whether Beaker is there and has what is named."""
        rules.check_workspace(self.app.workspace, self.app.say)
        self.reach()

    def reach(self) -> str:
        """Find out whether Beaker is there and has what the settings name, and say who is where.

        Raises what :func:`dispatch._beaker.preflight.preflight` does.
        """
        from dispatch._beaker.preflight import Needs, preflight

        setup = self.setup
        given = setup.scheduler is None
        preflight(
            self.engines.door,
            Needs(
                clusters=setup.clusters if given else (),
                image=setup.beaker_image,
                budget=setup.budget,
                priority=setup.priority if given else None,
                jobs=True,
            ),
        )
        account = self.engines.door.account
        return f"{self.engines.door.address}: {account.user_name} in {account.workspace_name}"

    def fits(self, place: Place, node: StepNode) -> None:
        """Refuse what a step asks for, where no cluster ever can give it."""
        if place is Place.CONTAINER:
            self.engines.fits(node)
        else:
            super().fits(place, node)

    def complete(self, config: Config) -> Config:
        """Give steps without an image the executor's, and say what Beaker cannot give."""
        rules.tell_of_networks(config.graph, self.app.say)
        return rules.with_default_image(config, self.setup, self.app.settings.path)

    def image_of(self, config: Config, node: StepNode) -> str | None:
        """The name of a step's image; None for those that must run on this machine and name none."""
        return config.images[node.name]

    def refuse_dirty(self, source: SourceTree, *, inside: bool) -> None:
        """Refuse uncommitted changes, unless they may run."""
        if inside or self.app.settings.allow_dirty is False:
            rules.refuse_dirty(source.ref, source.repository.root, self.app.settings)

    def builds(self, images: Images, names: Iterable[str]) -> BuildPlan:
        """What the named images are, and whether jobs can have them; no engine of this machine is asked."""
        wanted = list(names)
        plan = images.recipes(wanted)
        there = {plan.names[name] for name in images.publishing.found(wanted)}
        return replace(plan, images=tuple(_standing(each, there) for each in plan.images))

    def provide(self, images: Images, names: Iterable[str]) -> Mapping[str, ImageRef]:
        """Have the named images on Beaker, and return what jobs are to name."""
        return images.on_beaker(names)

    def clone(self, plan: RunPlan, source: SourceTree, secret: Secret) -> Clone | None:
        """Return what jobs clone; None where the source is exported."""
        settings, app = self.app.settings, self.app
        environ = app.surroundings.environ
        return Cloning(settings.source, self.setup, environ, app.say, secret).clone(plan, source)

    def secrets(self) -> Mapping[str, str]:
        """The token that the settings hold."""
        from dispatch.app.onbeaker.source import TOKEN

        return {TOKEN: self.setup.github_token} if self.setup.github_token else {}

    def materials(
        self,
        running: Running,
        steps: Iterable[PlannedStep],  # noqa: ARG002
        images: Mapping[str, ImageRef],
        here: ProcessMaterials,
    ) -> Common:
        """What jobs on Beaker share."""
        from dispatch.app.onbeaker.materials import for_beaker

        return for_beaker(running, self.setup, images, self.engines.beaker().bundles, here)


def _standing(plan: ImagePlan, there: Collection[str]) -> ImagePlan:
    """Say of an image what has to be done until jobs have it."""
    if plan.key in there:
        ours = isinstance(plan.source, Generated)
        return replace(plan, action=Action.PRESENT, reason="on Beaker" if ours else "Beaker fetches it")
    return replace(plan, reason="not on Beaker")
