"""`dispatch run` from configuration to verdicts: source, describe, plan; then images, registration, dispatch.

Split in two, so that a dry run is the first half printed: :meth:`Running.prepare` changes nothing but caches,
:meth:`Running.execute` does what was planned.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch.app import App
from dispatch.app.oracle import Ground, InterpreterOracle
from dispatch.app.runtimes import Runtimes
from dispatch.app.source import SourceTree
from dispatch.describe import CodeBase, Describer, Description, Question
from dispatch.dispatcher import Observer, StepOutcome, Verdict
from dispatch.environment import ImageRef
from dispatch.errors import ConfigurationError, SourceError, UnrecoverableResourceAssignmentError
from dispatch.graph import SHELL
from dispatch.image.plan import BuildPlan
from dispatch.info import StepInfo
from dispatch.plan import Identities, RunPlan, Standing, plan_run
from dispatch.source import Git
from dispatch.workspace.local import LocalWorkspace

if TYPE_CHECKING:
    from dispatch.engine.docker import DockerEngine
    from dispatch.executor import DockerExecutor, Materials
    from dispatch.schedule import LocalScheduler

# The engine and the executor are imported where a step is really run: they take longer than a run with
# everything cached.
DEFAULT_PARALLELISM = 2


@dataclass(frozen=True)
class RunRequest:
    """What the user asked for. Empty ``targets`` are all steps; ``parallelism`` -1 is no limit of ours."""

    config: Path
    name: str | None = None
    targets: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    parallelism: int | None = None


@dataclass(frozen=True)
class RunSummary:
    """How a run ended."""

    name: str
    plan: RunPlan
    outcomes: Mapping[str, StepOutcome]

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
        self._engine: DockerEngine | None = None

    def prepare(self, *, may_build: bool) -> RunPlan:
        """Find out what every step is and whether it has a result.

        With ``may_build`` false nothing is built for it; what only an image could tell stays unknown. Raises
        ConfigurationError for a step that the engine's machine can never hold.
        """
        self._refuse_unsupported()
        self._config = self._app.config(self._request.config)
        targets = self._request.targets
        self._graph = self._config.graph.sub_graph(targets) if targets else self._config.graph
        self._names = {step: self._config.images[step] for step in self._graph.order}
        self._source = self._snapshot()
        self._images = self._app.images(self._config)
        self._build_plan = self._images.plan(dict.fromkeys(self._names.values()))
        self._runtimes = Runtimes(self._cache, lambda: self._app.door)
        descriptions = self._describe(may_build)
        identities = Identities(self._images.identity, self._source.tree_of, self._source.code)
        plan = plan_run(
            self._graph, self._names, descriptions, identities, self._completed, targets or self._graph.order
        )
        self._refuse_impossible(plan)
        return plan

    def _refuse_unsupported(self) -> None:
        kind = self._app.settings.executor.type
        if kind not in (None, "docker"):
            raise ConfigurationError(
                f"executor {kind!r} is not supported yet", "use `executor: {type: docker}`"
            )
        if self._app.settings.source.value == "clone":
            raise ConfigurationError("`source: clone` is not supported yet", "use `source: export`")
        if self._app.settings.mounts:
            raise ConfigurationError("`mounts:` is not supported yet", "remove it from the settings")

    def _refuse_impossible(self, plan: RunPlan) -> None:
        todo = plan.standing(Standing.RUN)
        if not todo:
            return
        scheduler = self._scheduler()
        for step in todo:
            try:
                scheduler.refuse_impossible(step.resources)
            except UnrecoverableResourceAssignmentError as error:
                raise ConfigurationError(f"step {step.node.name!r}: {error.message}", error.remedy) from error

    def _snapshot(self) -> SourceTree:
        app = self._app
        workspace = app.workspace
        assert isinstance(workspace, LocalWorkspace)
        beside = [app.settings.path.parent] if app.settings.path else []
        git = Git(app.surroundings.environ)
        source = SourceTree(self._config.directory, beside, [workspace.dir], git, self._cache)
        if source.ref.dirty and app.settings.allow_dirty is False:
            raise SourceError(
                f"{source.repository.root}: uncommitted changes, and the settings say `allow_dirty: false`",
                "commit them, or leave that line out to run a snapshot of the working tree",
            )
        if source.ref.dirty:
            app.say(f"uncommitted changes: running a snapshot of the working tree ({source.ref.tree[:12]})")
        for notice in source.ref.notices:
            app.say(notice)
        return source

    def _describe(self, may_build: bool) -> Mapping[str, Description]:
        questions = [
            Question(self._graph[name], self._names[name], _image_digest(self._build_plan, self._names[name]))
            for name in self._graph.order
            if self._graph[name].type != SHELL
        ]
        packages = tuple(dict.fromkeys((*self._app.settings.include_package, *self._request.packages)))
        code = CodeBase(packages, self._source.paths, self._source.code, self._runtimes.own.digest)
        oracle = InterpreterOracle(self._ground, self._provide, self._docker, self._app.say)
        return Describer(self._cache / "describe", code, oracle).describe(questions, may_build=may_build)

    def _ground(self) -> Ground:
        return Ground(
            runtime=self._runtimes.own.directory,
            source=self._source.exported,
            workdir=self._source.workdir,
            scratch=self._cache / "scratch",
            environ=self._app.surroundings.environ,
        )

    def _docker(self) -> DockerEngine:
        if self._engine is None:
            from dispatch.engine.docker import DockerEngine

            self._engine = DockerEngine(self._app.door, uid=os.getuid(), gid=os.getgid())
        return self._engine

    def _scheduler(self) -> LocalScheduler:
        from dispatch.schedule import LocalScheduler

        limit = self._request.parallelism or self._app.settings.executor.parallelism or DEFAULT_PARALLELISM
        return LocalScheduler(self._docker().capabilities(), sys.maxsize if limit == -1 else limit)

    def _provide(self, image: str) -> tuple[ImageRef, Path]:
        reference = self._build([image])[image]
        return reference, self._runtimes.of(self._config.environments[image], reference)

    def _build(self, names: Iterable[str]) -> Mapping[str, ImageRef]:
        report = self._images.build(self._images.plan(names))
        report.raise_failures()
        return report.images

    def _completed(self, unique_ids: Iterable[str]) -> Mapping[str, StepInfo | None]:
        workspace = self._app.workspace
        return {found: workspace.step_info(found) for found in workspace.completed(unique_ids)}

    def execute(self, plan: RunPlan, observer: Observer) -> RunSummary:
        """Build the images of what has to run, run it, and record how the run ended."""
        todo = plan.standing(Standing.RUN)
        built = self._build(dict.fromkeys(step.image for step in todo)) if todo else {}
        name = self._register(plan)
        state = "failed"
        outcomes: dict[str, StepOutcome] = {
            step.node.name: StepOutcome(step.node.name, Verdict.CACHED, step.reason)
            for step in plan.standing(Standing.CACHED)
        }
        try:
            if todo:
                outcomes.update(self._executor(built, _Noting(observer, outcomes)).execute(plan, name))
            summary = RunSummary(name, plan, outcomes)
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
            self._app.workspace.finish_run(name, state, ends)

    def _register(self, plan: RunPlan) -> str:
        records = {step.node.name: step.record for step in plan.steps if step.record is not None}
        targets = [records[name] for name in plan.targets]
        ref = self._source.ref
        facts: dict[str, object] = {
            "steps": list(records),
            "config": self._request.config.name,
            "commit": ref.commit,
            "tree": ref.tree,
            "dirty": ref.dirty,
        }
        if plan.standing(Standing.RUN):
            facts["source"] = self._source.provenance.to_json()
        workspace, name = self._app.workspace, self._request.name
        try:
            return workspace.register_run(targets, name, jobs=records.values(), facts=facts).name
        except ValueError as error:
            wanted = {each.name: each.unique_id for each in targets}
            if name is not None and self._is_unfinished(name, wanted):
                return name
            raise ConfigurationError(str(error), "choose another name, or leave it out") from error

    def _is_unfinished(self, name: str, targets: Mapping[str, str]) -> bool:
        """Whether a run is one to go on with: of the same targets, and without all its results."""
        try:
            run = self._app.workspace.run_record(name)
        except KeyError:
            return False
        return run.state != "completed" and dict(run.targets) == targets

    def _executor(self, images: Mapping[str, ImageRef], observer: Observer) -> DockerExecutor:
        from dispatch.executor import DockerExecutor

        return DockerExecutor(
            engine=self._docker(),
            scheduler=self._scheduler(),
            workspace=self._app.workspace,
            materials=self._materials(images),
            observer=observer,
            clock=time.monotonic,
        )

    def _materials(self, images: Mapping[str, ImageRef]) -> Materials:
        from dispatch.executor import Materials

        python = {self._names[name] for name in self._graph.order if self._graph[name].type != SHELL}
        environments = self._config.environments
        return Materials(
            images=images,
            runtimes={
                name: self._runtimes.of(environments[name], image)
                for name, image in images.items()
                if name in python
            },
            source=self._source.exported,
            workdir=self._source.workdir,
            paths=self._source.paths,
            env=self._app.settings.env,
            commit=self._source.ref.commit,
            tree=self._source.ref.tree,
            code=self._source.code,
            default_format=self._app.settings.default_format,
        )

    def close(self) -> None:
        """Stop our threads; nothing of the engine's is touched."""
        if self._engine is not None:
            self._engine.close()


class _Noting:
    """Notes verdicts as they fall, so that a run which breaks off has them too; passes everything on."""

    def __init__(self, observer: Observer, outcomes: dict[str, StepOutcome]) -> None:
        self._outcomes = outcomes
        self._observer = observer
        self.starting = observer.starting
        self.waiting = observer.waiting

    def ended(self, outcome: StepOutcome) -> None:
        """See :class:`dispatch.dispatcher.Observer`."""
        self._outcomes[outcome.name] = outcome
        self._observer.ended(outcome)


def _image_digest(plan: BuildPlan, name: str) -> str | None:
    image = plan.of(name)
    return image.digest or (image.image.id if image.image else None)
