"""`dispatch run` from configuration to verdicts: source, describe, plan; then images, registration, dispatch.

Split in two, so that a dry run is the first half printed: :meth:`Running.prepare` changes nothing but caches,
:meth:`Running.execute` does what was planned.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch.app import NO_OVERLAY, App, Overlay
from dispatch.app.cloning import clone_for
from dispatch.app.describing import Describing
from dispatch.app.engines import Engines
from dispatch.app.installed import packages
from dispatch.app.placing import Placing
from dispatch.app.registering import register
from dispatch.app.runtimes import Runtimes
from dispatch.app.secrets import needed, resolve
from dispatch.app.source import SourceTree, WorkingTree
from dispatch.describe import Description, Question
from dispatch.dispatcher import Observer, StepOutcome, Verdict
from dispatch.environment import ImageRef
from dispatch.errors import ConfigurationError, SourceError
from dispatch.graph import SHELL, StepNode
from dispatch.image.plan import BuildPlan
from dispatch.info import StepInfo
from dispatch.plan import Identities, Place, RunPlan, Standing, Wanted, plan_run
from dispatch.reporting import working
from dispatch.source import Git
from dispatch.workspace.local import LocalWorkspace

if TYPE_CHECKING:
    from dispatch.app.images import Images
    from dispatch.executor import Executor
    from dispatch.job import Clone
    from dispatch.transfer import Cell

# Who asks for the secrets of a clone.
CLONES = "source: clone"


@dataclass(frozen=True)
class RunRequest:
    """What the user asked for.

    Empty ``targets`` are all steps; ``parallelism`` -1 is no limit of ours.
    """

    config: Path
    name: str | None = None
    targets: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    parallelism: int | None = None
    rerun_changed: bool = False
    overlay: Overlay = NO_OVERLAY


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
        good = (Verdict.CACHED, Verdict.COMPLETED)
        return "completed" if all(each.verdict in good for each in self.outcomes.values()) else "failed"


class Running:
    """One run. ``prepare`` first, then ``execute`` once."""

    def __init__(self, app: App, request: RunRequest) -> None:
        self._app = app
        self._request = request
        self._cache = app.surroundings.cache
        self._cached: dict[str, StepInfo] = {}
        self.engines = Engines(app, request.parallelism)

    def prepare(self, *, may_build: bool) -> RunPlan:
        """Find out what every step is and whether it has a result.

        With ``may_build`` false nothing is built for it; what only an image could tell stays unknown. Raises
        ConfigurationError for a step that can never be placed.
        """
        self._refuse_unsupported()
        self._config = self._app.config(self._request.config, self._request.overlay)
        targets = self._request.targets
        self._graph = self._config.graph.sub_graph(targets) if targets else self._config.graph
        self._names = {name: self._image_of(self._graph[name]) for name in self._graph.order}
        named = dict.fromkeys(name for name in self._names.values() if name is not None)
        if named or (self._app.settings.allow_dirty is False and self._here.snapshot is not None):
            self._check_source(inside=bool(named))
        self._build_plan = self.images.plan(named) if named else None
        descriptions = self._describe(may_build)
        identities = Identities(
            self.images.identity, self.source.tree_of, self._here.code, self.images.distributions
        )
        wanted = Wanted(targets, self._request.rerun_changed)
        plan = plan_run(self._graph, self._names, descriptions, identities, self._completed, wanted)
        placing = Placing(self._app, self.engines, self._config.directory, self.runtimes.own.directory)
        self._mounts = placing.check(plan)
        self.moves(plan)
        return plan

    def moves(self, plan: RunPlan) -> Mapping[Place, Cell]:
        """How bytes move for each place where something is to run; ConfigurationError if they cannot."""
        from dispatch.app.moving import ways

        return ways(self.engines, plan, self._app.workspace, self.runtimes.own.directory)

    def clone(self, plan: RunPlan) -> Clone | None:
        """Return what the plan's containers are to clone, having asked the remote; see :func:`clone_for`."""
        app = self._app
        return clone_for(plan, self.source, app.settings.source, app.say, self._clone_secret)

    def _clone_secret(self, name: str) -> str:
        return self._values({name: CLONES})[name]

    @cached_property
    def source(self) -> SourceTree:
        """The snapshot that containers are given. SourceError from what needs it where there is none."""
        workspace = self._app.workspace
        exclude = [workspace.dir] if isinstance(workspace, LocalWorkspace) else []
        git = Git(self._app.surroundings.environ)
        return SourceTree(self._config.directory, self._beside, exclude, git, self._cache)

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
        return WorkingTree(self._config.directory, self._beside, self.source)

    @property
    def _beside(self) -> list[Path]:
        settings = self._app.settings.path
        return [settings.parent] if settings else []

    def _refuse_unsupported(self) -> None:
        settings = self._app.settings
        if settings.executor.type not in (None, "docker", "local"):
            raise ConfigurationError(
                f"executor {settings.executor.type!r} is not supported yet",
                "use `executor: {type: docker}`, or `{type: local}`",
            )

    def _image_of(self, node: StepNode) -> str | None:
        """The name of a step's image, or None where the current environment is to run it."""
        kind, image = self._app.settings.executor.type, self._config.images[node.name]
        where = f"{self._config.path}: step {node.name!r}"
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

    def _check_source(self, inside: bool) -> None:
        """Refuse changes that may not run, and say what containers get that is not the commit."""
        app, source = self._app, self.source
        if source.ref.dirty and app.settings.allow_dirty is False:
            raise SourceError(
                f"{source.repository.root}: uncommitted changes, and the settings say `allow_dirty: false`",
                "commit them, or leave that line out to run a snapshot of the working tree",
            )
        if not inside:
            return
        if source.ref.dirty and app.settings.allow_dirty is None and not app.door.address.is_local:
            raise SourceError(
                f"{source.repository.root}: uncommitted changes, and the engine is another machine's "
                f"({app.door.address})",
                "commit them, or say `allow_dirty: true` in the settings to send a snapshot of them there",
            )
        if source.ref.dirty:
            app.say(f"uncommitted changes: running a snapshot of the working tree ({source.ref.tree[:12]})")
        for notice in source.ref.notices:
            app.say(notice)

    def _describe(self, may_build: bool) -> Mapping[str, Description]:
        asking = [self._graph[name] for name in self._graph.order if self._graph[name].type != SHELL]
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
        return planned.digest or (planned.image.id if planned.image else None)

    def _provide(self, image: str) -> tuple[ImageRef, Path]:
        reference = self._build([image])[image]
        return reference, self.runtimes.of(self._config.environments[image], reference)

    def _build(self, names: Iterable[str]) -> Mapping[str, ImageRef]:
        report = self.images.build(self.images.plan(names))
        report.raise_failures()
        return report.images

    @property
    def builds(self) -> BuildPlan | None:
        """What building the images of the plan would do; None where no step has one."""
        return self._build_plan

    def _completed(self, unique_ids: Iterable[str]) -> Mapping[str, StepInfo | None]:
        workspace = self._app.workspace
        self._cached = {found: workspace.step_info(found) for found in workspace.completed(unique_ids)}
        return self._cached

    def execute(self, plan: RunPlan, observer: Observer) -> RunSummary:
        """Build the images of what has to run, run it, and record how the run ended."""
        self._clone = self.clone(plan)
        todo = plan.standing(Standing.RUN)
        self._secrets = self._resolve_secrets(plan)
        contained = [step.image for step in todo if step.place is Place.CONTAINER and step.image is not None]
        built = self._build(dict.fromkeys(contained)) if contained else {}
        workspace = self._app.workspace
        name, plan = register(workspace, plan, self._request.name, self._facts(bool(todo)), secrets.randbelow)
        self._keep_difference(name, bool(todo))
        state = "failed"
        outcomes: dict[str, StepOutcome] = {
            step.node.name: StepOutcome(step.node.name, Verdict.CACHED, step.reason)
            for step in plan.standing(Standing.CACHED)
        }
        try:
            if plan.standing(Standing.RUN):
                executor = self._executor(plan, built, _Noting(observer, outcomes))
                outcomes.update(executor.execute(plan, name))
            summary = RunSummary(name, plan, outcomes, self._cached)
            state = summary.state
            return summary
        except KeyboardInterrupt:
            state = "cancelled"
            raise
        finally:
            ends = {
                "verdicts": {step: outcome.verdict.value for step, outcome in outcomes.items()},
                "reasons": {step: outcome.reason for step, outcome in outcomes.items() if outcome.reason},
            }
            workspace.finish_run(name, state, ends)

    def _resolve_secrets(self, plan: RunPlan) -> Mapping[str, str]:
        of_clone = self._clone.secrets if self._clone is not None else ()
        return self._values({**dict.fromkeys(of_clone, CLONES), **needed(plan)})

    def _values(self, wanted: Mapping[str, str]) -> Mapping[str, str]:
        app = self._app
        return resolve(wanted, app.settings.secrets, app.surroundings.environ, self._config.directory)

    def _executor(self, plan: RunPlan, images: Mapping[str, ImageRef], observer: Observer) -> Executor:
        from dispatch.app.materials import for_containers, for_processes

        settings = self._app.settings
        here = for_processes(self._here, settings, self.runtimes.own.directory, self._secrets)
        inside = None
        if images:
            python = {
                step.image
                for step in plan.standing(Standing.RUN)
                if step.place is Place.CONTAINER and step.node.type != SHELL
            }
            runtimes = {
                name: self.runtimes.of(self._config.environments[name], image)
                for name, image in images.items()
                if name in python
            }
            if self._clone is None:
                with working(self._app.say, "source: exporting"):
                    _ = self.source.exported
            inside = for_containers(self.source, settings, images, runtimes, here, self._mounts, self._clone)
        return self.engines.executor(plan, here, inside, observer)

    def _facts(self, runs: bool) -> Mapping[str, object]:
        """What is recorded of the run as a whole; where it came from only if something runs."""
        facts: dict[str, object] = {"config": self._request.config.name}
        if runs and None in self._names.values():
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


class _Noting:
    """Notes verdicts as they fall, so that a run which breaks off has them too; passes everything on."""

    def __init__(self, observer: Observer, outcomes: dict[str, StepOutcome]) -> None:
        self._outcomes = outcomes
        self._observer = observer
        self.starting = observer.starting
        self.running = observer.running
        self.waiting = observer.waiting
        self.retrying = observer.retrying

    def ended(self, outcome: StepOutcome) -> None:
        """See :class:`dispatch.dispatcher.Observer`."""
        self._outcomes[outcome.name] = outcome
        self._observer.ended(outcome)
