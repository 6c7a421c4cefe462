"""`dispatch run` from configuration to verdicts: source, describe, plan; then images, registration, dispatch.

Split in two, so that a dry run is the first half printed: :meth:`Running.prepare` changes nothing but caches,
:meth:`Running.execute` does what was planned.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch import assets
from dispatch.app import NO_OVERLAY, App, Overlay
from dispatch.app.adhoc import AdHoc, config_of, given_steps
from dispatch.app.describing import Describing
from dispatch.app.driving import Begun, carry_out, state_of
from dispatch.app.engines import Engines
from dispatch.app.placing import Placing
from dispatch.app.registering import Seat, held, register
from dispatch.app.runtimes import Runtimes
from dispatch.app.secrets import needed, resolve
from dispatch.app.sides import Side, side_of
from dispatch.app.source import SourceTree, WorkingTree
from dispatch.config import of_graph
from dispatch.describe import Description, Question
from dispatch.dispatcher import Observer, StepOutcome
from dispatch.environment import ImageRef
from dispatch.errors import SourceError
from dispatch.graph import SHELL, StepGraph
from dispatch.image.plan import BuildPlan, Pinned
from dispatch.info import StepInfo
from dispatch.plan import Given, Identities, Place, PlannedStep, RunPlan, Standing, Wanted, plan_run
from dispatch.reporting import working
from dispatch.source import Git
from dispatch.workspace.local import LocalWorkspace

if TYPE_CHECKING:
    from dispatch.app.images import Images
    from dispatch.config import Config
    from dispatch.engine.base import Mount
    from dispatch.executor import Executor, Materials, ProcessMaterials
    from dispatch.job import Clone
    from dispatch.transfer import Cell

# Who asks for the secrets of a clone.
CLONES = "source: clone"


@dataclass(frozen=True)
class InProgram:
    """A graph that a program made, whose steps' source is the repository around ``directory`` (absolute)."""

    graph: StepGraph
    directory: Path


@dataclass(frozen=True)
class RunRequest:
    """What the user asked for.

    ``config`` is a file, one command, or a program's graph. Empty ``targets`` are all steps; with ``again``
    they are run although they have results. ``parallelism`` -1 is no limit of ours.
    """

    config: Path | AdHoc | InProgram
    name: str | None = None
    targets: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    parallelism: int | None = None
    rerun_changed: bool = False
    overlay: Overlay = NO_OVERLAY
    again: bool = False


@dataclass(frozen=True)
class RunSummary:
    """How a run ended. ``cached`` is what was known of the steps that had a result, by unique id."""

    name: str
    plan: RunPlan
    outcomes: Mapping[str, StepOutcome]
    cached: Mapping[str, StepInfo] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """``completed`` if every step has its result, else ``failed``."""
        return state_of(self.outcomes.values())


class Running:
    """One run. ``prepare`` first, then ``execute`` once."""

    def __init__(self, app: App, request: RunRequest, side: Side | None = None) -> None:
        self._app = app
        self._request = request
        self._cache = app.surroundings.cache
        self._cached: dict[str, StepInfo] = {}
        self._secrets: Mapping[str, str] = {}
        self._clone: Clone | None = None
        self._side = side or side_of(app, request.parallelism)
        self._runner: Executor | None = None

    @property
    def app(self) -> App:
        """Whose run it is."""
        return self._app

    @property
    def engines(self) -> Engines:
        """The engines of the run."""
        return self._side.engines

    def prepare(self, *, may_build: bool) -> RunPlan:
        """Find out what every step is and whether it has a result.

        With ``may_build`` false nothing is built for it; what only an image could tell stays unknown. Raises
        ConfigurationError for a step that can never be placed.
        """
        self._since = datetime.now(timezone.utc)
        self._side.check()
        self._load()
        targets = self._request.targets
        self._graph = self._config.graph.sub_graph(targets) if targets else self._config.graph
        self._names = {
            name: self._given[name].image
            if name in self._given
            else self._side.image_of(self._config, self._graph[name])
            for name in self._graph.order
        }
        own = {name: image for name, image in self._names.items() if name not in self._given}
        named = dict.fromkeys(image for image in own.values() if image is not None)
        if named or (self._app.settings.allow_dirty is False and self._here.snapshot is not None):
            self._check_source(inside=bool(named))
        self._build_plan = self._side.builds(self.images, named) if named else None
        descriptions = self._describe(may_build)
        identities = Identities(
            self.images.identity,
            self.source.tree_of,
            self._here.code,
            self.images.distributions,
            self._given,
        )
        self._known = (descriptions, identities, self._wanted(targets))
        plan = self._plan()
        placing = Placing(self._app, self.engines, self._config.directory, self.runtimes.own.directory)
        self._mounts = placing.check(plan)
        self.moves(plan)
        return plan

    def _plan(self) -> RunPlan:
        """Say where each step stands now; what it is does not change."""
        descriptions, identities, wanted = self._known
        return plan_run(self._graph, self._names, descriptions, identities, self._completed, wanted)

    def moves(self, plan: RunPlan) -> Mapping[Place, Cell]:
        """How bytes move for each place where something is to run; ConfigurationError if they cannot."""
        from dispatch.app.moving import ways

        return ways(self.engines, plan, self._app.workspace, self.runtimes.own.directory)

    def clone(self, plan: RunPlan) -> Clone | None:
        """Return what the plan's containers are to clone, having asked the remote; see :func:`clone_for`."""
        return self._side.clone(plan, self.source, self._clone_secret)

    def _clone_secret(self, name: str) -> str:
        return self._values({name: CLONES})[name]

    @cached_property
    def source(self) -> SourceTree:
        """The snapshot that containers are given. SourceError from what needs it where there is none."""
        workspace = self._app.workspace
        exclude = [workspace.dir] if isinstance(workspace, LocalWorkspace) else []
        git = Git(self._app.surroundings.environ)
        return SourceTree(self._directory, self._beside, exclude, git, self._cache)

    @cached_property
    def images(self) -> Images:
        """The images of the configuration."""
        return self._app.images(self._config)

    @cached_property
    def runtimes(self) -> Runtimes:
        """The runtimes that steps are given."""
        return Runtimes(self._cache, lambda: self._app.door)

    @cached_property
    def _here(self) -> WorkingTree:
        return WorkingTree(self._directory, self._beside, self.source)

    @property
    def _beside(self) -> list[Path]:
        settings = self._app.settings.path
        return [settings.parent] if settings else []

    @cached_property
    def _directory(self) -> Path:
        """Where the configuration lies: the working directory of its steps."""
        asked = self._request.config
        return asked.absolute().parent if isinstance(asked, Path) else asked.directory

    def _load(self) -> None:
        """Read the configuration, and find the results of earlier runs that a command asks for."""
        asked, app = self._request.config, self._app
        self._given: Mapping[str, Given] = {}
        if isinstance(asked, AdHoc):
            given = given_steps(asked, app.workspace)
            self._given = given.steps
            tracked = self._here.snapshot is not None
            self._config = config_of(asked, given, app.settings, tracked=tracked, say=app.say)
        elif isinstance(asked, InProgram):
            self._config = of_graph(asked.graph, asked.directory, app.settings, assets.images())
        else:
            self._config = app.config(asked, self._request.overlay)
        self._config = self._side.complete(self._config)

    def _wanted(self, targets: tuple[str, ...]) -> Wanted:
        asked = self._request.config
        if isinstance(asked, AdHoc):
            return Wanted((asked.step,), again=asked.again)
        return Wanted(targets, self._request.rerun_changed, self._request.again)

    def _check_source(self, inside: bool) -> None:
        """Refuse changes that may not run, and say what containers get that is not the commit."""
        app, source = self._app, self.source
        self._side.refuse_dirty(source, inside=inside)
        if not inside:
            return
        if source.ref.dirty:
            app.say(f"uncommitted changes: running a snapshot of the working tree ({source.ref.tree[:12]})")
        for notice in source.ref.notices:
            app.say(notice)

    def _describe(self, may_build: bool) -> Mapping[str, Description]:
        asking = [
            node
            for name in self._graph.order
            if (node := self._graph[name]).type != SHELL and name not in self._given
        ]
        inside = [(node, image) for node in asking if (image := self._names[node.name]) is not None]
        here = [node for node in asking if self._names[node.name] is None]
        named = (
            *self._app.settings.include_package,
            *self._config.include_package,
            *self._request.packages,
        )
        packages = tuple(dict.fromkeys(named))
        describing = Describing(
            self._cache,
            packages,
            self._app.surroundings.environ,
            self.runtimes,
            self._provide,
            self.engines.docker,
            self._app.say,
        )
        found: dict[str, Description] = {}
        if inside:
            questions = [Question(node, image, self._digest(image)) for node, image in inside]
            found.update(describing.of_images(questions, self.source, may_build=may_build))
        if here:
            found.update(describing.of_here([Question(node, None, None) for node in here], self._here))
        return found

    def _digest(self, image: str) -> str | None:
        assert self._build_plan is not None
        planned = self._build_plan.of(image)
        named = planned.source.id.id if isinstance(planned.source, Pinned) else None
        return planned.digest or (planned.image.id if planned.image else named)

    def _provide(self, image: str) -> tuple[ImageRef, Path]:
        reference = self.build([image])[image]
        return reference, self.runtimes.of(self._config.environments[image], reference)

    def build(self, names: Iterable[str]) -> Mapping[str, ImageRef]:
        """Build those of the named images that are missing, and return what the engine has of all."""
        report = self.images.build(self.images.plan(names))
        report.raise_failures()
        return report.images

    @property
    def builds(self) -> BuildPlan | None:
        """What building the images of the plan would do; None where no step has one."""
        return self._build_plan

    def _completed(self, unique_ids: Iterable[str]) -> Mapping[str, StepInfo | None]:
        workspace = self._app.workspace
        self._cached = workspace.results_of(unique_ids)
        return self._cached

    @property
    def config(self) -> Config:
        """The configuration, once it was read."""
        return self._config

    @property
    def cloned(self) -> Clone | None:
        """What jobs clone, once it was decided; None for an export."""
        return self._clone

    @property
    def mounts(self) -> Mapping[str, tuple[Mount, ...]]:
        """What is mounted into each step because the user asks for it, once the plan was made."""
        return self._mounts

    def execute(
        self, plan: RunPlan, observer: Observer, begun: Begun = lambda _: None, name: str | None = None
    ) -> RunSummary:
        """Build the images of what has to run, run it, and record how the run ended.

        Where another client drives the run of this name, that is followed to its end, and taken over if its
        client dies. ``begun`` is called with the run's name once others can watch it; ``name`` wins over the
        request's. KeyboardInterrupt where
        the run was cancelled.
        """
        workspace, say, name = self._app.workspace, self._app.say, name or self._request.name
        while True:
            seat = held(workspace, plan, name)
            if seat is None:
                built = self._built(plan)
                facts = self._facts(bool(plan.standing(Standing.RUN)))
                seat = register(workspace, plan, name, facts, secrets.randbelow, self._since)
            if seat.driver is not None:
                break
            from dispatch.app.following import follow_run

            begun(seat.name)
            followed = follow_run(workspace, seat, observer, say)
            if followed is not None:
                return RunSummary(seat.name, followed.plan, followed.outcomes, self._cached)
            # Its client is gone: what it had done by then is planned anew, and the rest is ours.
            name, plan = seat.name, self._plan()
        if seat.resumed:
            say(f"going on with run {seat.name}")
        own = seat.plan

        def start(run: str) -> None:
            self._keep_difference(run, bool(own.standing(Standing.RUN)))
            begun(run)

        outcomes = carry_out(seat, lambda each: self._executor(seat, built, each), observer, start, say)
        return RunSummary(seat.name, own, outcomes, self._cached)

    def _built(self, plan: RunPlan) -> Mapping[str, ImageRef]:
        """Build the images of what has to run in containers."""
        self._clone = self.clone(plan)
        todo = plan.standing(Standing.RUN)
        self._secrets = self._resolve_secrets(plan)
        contained = [step.image for step in todo if step.place is Place.CONTAINER and step.image is not None]
        return self._side.provide(self.images, dict.fromkeys(contained)) if contained else {}

    def _resolve_secrets(self, plan: RunPlan) -> Mapping[str, str]:
        of_clone = self._clone.secrets if self._clone is not None else ()
        return self._values({**dict.fromkeys(of_clone, CLONES), **needed(plan)})

    def _values(self, wanted: Mapping[str, str]) -> Mapping[str, str]:
        app, held = self._app, self._side.secrets()
        asked = {name: who for name, who in wanted.items() if name not in held}
        found = resolve(asked, app.settings.secrets, app.surroundings.environ, self._config.directory)
        return {**found, **{name: held[name] for name in wanted if name in held}}

    def _executor(self, seat: Seat, images: Mapping[str, ImageRef], observer: Observer) -> Executor:
        plan = seat.plan
        here = self.process_materials()
        inside = self._side.materials(self, plan.standing(Standing.RUN), images, here) if images else None
        self._runner = self.engines.executor(plan, here, inside, observer, seat.name)
        return self._runner

    def cancel(self, names: Sequence[str] | None, grace: float | None) -> None:
        """Stop these steps, or without names the run, once it is carried out; from any thread."""
        if self._runner is not None:
            self._runner.cancel(names, grace)

    def process_materials(self) -> ProcessMaterials:
        """What processes of this machine share."""
        from dispatch.app.materials import for_processes

        return for_processes(self._here, self._app.settings, self.runtimes.own.directory, self._secrets)

    def container_materials(
        self, steps: Iterable[PlannedStep], images: Mapping[str, ImageRef], here: ProcessMaterials
    ) -> Materials:
        """What the containers of ``steps`` share, whose images were built."""
        from dispatch.app.materials import Inside, for_containers

        python = {step.image for step in steps if step.place is Place.CONTAINER and step.node.type != SHELL}
        runtimes = {
            name: self.runtimes.of(self._config.environments[name], image)
            for name, image in images.items()
            if name in python
        }
        settings, clone = self._app.settings, self._clone
        if clone is None:
            with working(self._app.say, "source: exporting"):
                _ = self.source.exported
        inside = Inside(images, runtimes, self._mounts, clone)
        return for_containers(self.source, settings, inside, here)

    def _facts(self, runs: bool) -> Mapping[str, object]:
        """What is recorded of the run as a whole; where it came from only if something runs."""
        asked = self._request.config
        facts: dict[str, object] = {}
        if isinstance(asked, AdHoc):
            facts["command"] = asked.command
        elif isinstance(asked, Path):
            facts["config"] = asked.name
        if runs and None in self._names.values():
            from dispatch.app.installed import packages

            facts["packages"] = packages()
        snapshot = self._here.snapshot
        if snapshot is not None:
            ref = snapshot.ref
            facts.update(commit=ref.commit, tree=ref.tree, dirty=ref.dirty)
            if runs:
                facts["source"] = snapshot.provenance.to_json()
        return facts

    def _keep_difference(self, run: str, runs: bool) -> None:
        """Keep how what runs differs from the commit, so that the run can be understood without the tree."""
        snapshot = self._here.snapshot if runs else None
        if snapshot is not None and snapshot.ref.dirty:
            try:
                text = snapshot.repository.difference(snapshot.ref)
            except SourceError as error:
                # A record: a clone that does not hold the commit's own files runs all the same.
                text = f"# cannot be told: {error.message}\n".encode()
            self._app.workspace.keep_difference(run, snapshot.ref.tree, text)

    def close(self) -> None:
        """Stop our threads; nothing of the engine's is touched."""
        self.engines.close()
