"""Locks and images of a configuration: composes readers, tools and builder for the engine of this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from dispatch._docker import Door
from dispatch.app.committed import CommittedLocks
from dispatch.app.wish import WISH, Wish
from dispatch.environment import (
    BeakerId,
    CondaImage,
    DebianImage,
    DockerfileImage,
    DockerImage,
    Environment,
    ImageRef,
    PipImage,
)
from dispatch.errors import ConfigurationError, DispatchError, StaleBaseError
from dispatch.image.history import history_of
from dispatch.image.plan import BuildPlan, Elsewhere, plan_images
from dispatch.image.ports import ImageStore, SharedImages
from dispatch.image.report import BuildReport, report_present
from dispatch.image.spec import platform_of
from dispatch.image.usage import usage_of
from dispatch.lock.model import BaseFacts, Renewal, Upgrade
from dispatch.reporting import Reporter
from dispatch.settings import Surroundings

if TYPE_CHECKING:
    from dispatch._beaker import BeakerDoor
    from dispatch.app.locking import Locking
    from dispatch.app.publishing import Publishing
    from dispatch.app.sharing import Lenient
    from dispatch.app.toolbox import Toolbox
    from dispatch.image.builder import Builder
    from dispatch.image.importing import Importer
    from dispatch.image.maker import Tools

# What builds and renews is imported where it is used: most commands find everything there already, and these
# modules take longer to import than all of the planning.


def _no_beaker() -> BeakerDoor:
    raise AssertionError("images of Beaker are asked for where none were foreseen")


@dataclass(frozen=True)
class Doors:
    """The vendors' doors, each made when it is first needed; ``registry`` is None where nobody named one.

    With ``directory``, a store of images without an engine, it takes the place of the engine.
    """

    docker: Callable[[], Door]
    beaker: Callable[[], BeakerDoor] = _no_beaker
    registry: Callable[[], SharedImages] | None = None
    directory: ImageStore | None = None


class Images:
    """The images of one configuration on one engine, or on Beaker. Making one does nothing."""

    def __init__(
        self,
        environments: Mapping[str, Environment],
        surroundings: Surroundings,
        doors: Doors,
        config: str,
        say: Reporter,
    ) -> None:
        self.environments = environments
        self._surroundings = surroundings
        self._door = doors.docker
        self._beaker = doors.beaker
        self._registry = doors.registry
        self._directory = doors.directory
        self._config = config
        self._say = say
        self._locks = CommittedLocks(config, environments)

    def plan(self, names: Iterable[str], wish: Wish = WISH) -> BuildPlan:
        """Say of the named images what building would do."""
        wanted = tuple(names)
        again = frozenset(wanted if wish.again else ())
        elsewhere = Elsewhere(self._identify, self._shared, again, self._platform)
        return self._plan(wanted, self._directory or self._door(), elsewhere)

    def plannable(self, names: Iterable[str]) -> tuple[list[str], dict[str, DispatchError]]:
        """Tell those of the names that can be planned from the others, with what is against each of these."""
        good: list[str] = []
        refused: dict[str, DispatchError] = {}
        for name in names:
            try:
                self.recipes([name])
                good.append(name)
            except ConfigurationError as error:
                refused[name] = error
        return good, refused

    def recipes(self, names: Iterable[str]) -> BuildPlan:
        """Say the same where no engine is asked: what is made from locks alone has its digest even so."""
        from dispatch.app.publishing import NoStore

        here = platform_of(os.uname().machine)
        elsewhere = Elsewhere(
            lambda name: BeakerId(self._importer().committed(name).id), platform=lambda: here
        )
        return self._plan(names, NoStore(), elsewhere)

    def _plan(self, names: Iterable[str], store: ImageStore, elsewhere: Elsewhere) -> BuildPlan:
        history = history_of(self._surroundings.cache)
        return plan_images(names, self.environments, self._locks, store, history, elsewhere)

    @cached_property
    def _shared(self) -> Lenient | None:
        """The registry of the settings, if there is one; it is asked only for what the engine lacks."""
        from dispatch.app.sharing import Lenient

        return Lenient(self._registry, self._say) if self._registry is not None else None

    def _platform(self) -> str:
        if self._directory is not None:
            return platform_of(os.uname().machine)
        return platform_of(str(self._door().info().get("Architecture") or os.uname().machine))

    def _identify(self, name: str) -> BeakerId:
        return self._importer().identify(name)

    def build(self, plan: BuildPlan, wish: Wish = WISH) -> BuildReport:
        """Carry out a plan; what failed is in the report.

        What a registry was to give, and did not, is built. With ``wish.renew_base`` the locks of bases that
        the archive has moved on from are renewed, once.
        """
        report = self._built(plan, wish)
        if self._directory is None:
            usage_of(self._surroundings.cache).note(report.images, self.environments)
        return report

    def _built(self, plan: BuildPlan, wish: Wish) -> BuildReport:
        present = report_present(plan)
        if present is not None:
            return present
        from dispatch.app.rounds import Rounds  # it loads all that builds

        builder = self._builder(wish)
        rounds = Rounds(
            lambda each: builder.build(each, self._say),
            lambda: self.plan(plan.names, wish),
            self._shared,
            self._say,
        )
        report = rounds.carry_out(plan)
        stale = any(isinstance(each, StaleBaseError) for each in report.failures.values())
        if not wish.renew_base or not stale:
            return report
        bases = [
            name for name, each in self.environments.items() if isinstance(each.declaration, DebianImage)
        ]
        self._say(f"the archive has dropped locked packages: renewing the lock of {', '.join(bases)}")
        self.renew(bases, Upgrade(everything=True))
        return rounds.carry_out(self.plan(plan.names, wish))

    @property
    def publishing(self) -> Publishing:
        """The same images on Beaker."""
        from dispatch.app.publishing import Publishing

        return Publishing(self, self._beaker(), self._door(), self._surroundings.cache / "locks", self._say)

    def on_beaker(self, names: Iterable[str]) -> Mapping[str, ImageRef]:
        """Return what jobs on Beaker are to name: generated images are published where they are not there
        yet, and need an engine here only then. Raises what building or publishing raises."""
        report = self.publishing.provide(names)
        report.raise_failures()
        return report.images

    def identity(self, name: str) -> str:
        """The digest of a named image's declaration and locks, for the identity of shell steps."""
        from dispatch.app.contents import content_of
        from dispatch.plan import ImageInputs, image_identity, needs_below

        environment = self.environments[name]
        base = self.environments.get(getattr(environment.declaration, "base", ""))
        below = self.identity(base.name) if base is not None and needs_below(base) else None
        return image_identity(
            environment, ImageInputs(self._locks.of(environment), below, content_of(environment))
        )

    def distributions(self, name: str | None) -> frozenset[str] | None:
        """What a named image has installed by its lock, or the current environment; None if no lock tells."""
        from dispatch.app.installed import locked, packages

        return frozenset(packages()) if name is None else locked(name, self.environments, self._locks)

    @property
    def locking(self) -> Locking:
        """The locks of these images."""
        from dispatch.app.locking import Locking
        from dispatch.lock.condalock import CondaLockTool
        from dispatch.lock.piptools import PipTools
        from dispatch.lock.renewal import Tools

        environ, box = self._surroundings.environ, self._box
        conda = CondaLockTool(environ, self._surroundings.cache / "conda")
        return Locking(
            self.environments,
            lambda: Tools(box.uv(), PipTools(environ), conda, box.apt(), self._say, box.sdists()),
            self._base_facts,
            self._config,
            self._say,
        )

    def renew(self, names: Iterable[str], upgrade: Upgrade) -> list[Renewal]:
        """Resolve the named images anew and write their locks; bases first. Existing images have none."""
        renewals = list(self.locking.renew(names, upgrade))
        self._locks = CommittedLocks(self._config, self.environments)
        return renewals

    def _base_facts(self, environment: Environment) -> BaseFacts | None:
        """What is known of what an environment stands on; an engine is asked only for an existing image."""
        from dispatch.image.base import base_environment, base_facts
        from dispatch.image.builder import prober_of

        declaration = environment.declaration
        if not isinstance(declaration, (PipImage, CondaImage)):
            return None
        base = base_environment(environment, declaration.base, self.environments)
        made = isinstance(base.declaration, DockerfileImage)
        exists = made or isinstance(base.declaration, DockerImage)
        prober = prober_of(self._tools(), self._surroundings.cache) if exists else None
        if made and prober is not None:
            # What steps inside of an image come to is known when it is there.
            report = self.build(self.plan([base.name]))
            report.raise_failures()
            return prober.ground(report.references[base.name], self._say, base.name).facts
        return base_facts(base, CommittedLocks(self._config, self.environments), prober, self._say)

    def _builder(self, wish: Wish) -> Builder:
        from dispatch.image.builder import Builder, Manner

        manner = Manner(wish.workers, wish.fail_fast)
        return Builder(self._tools(), self._surroundings.cache, manner)

    def _tools(self) -> Tools:
        if self._directory is not None:
            return self._box.without_engine(self._directory, self.environments)
        return self._box.tools(self._door(), self.environments, self._importer, self._shared)

    def _importer(self) -> Importer:
        from dispatch.image.importing import Importer

        return Importer(self._beaker(), self._door())

    @property
    def _box(self) -> Toolbox:
        from dispatch.app.toolbox import Toolbox

        return Toolbox(self._surroundings, self._config)
