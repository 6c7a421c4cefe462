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

from dispatch import job as jobs
from dispatch.app import App
from dispatch.app.oracle import Ground, InterpreterOracle
from dispatch.app.runtimes import Runtimes
from dispatch.describe import CodeBase, Describer, Description, Question
from dispatch.dispatcher import Observer, StepOutcome, Verdict
from dispatch.environment import ImageRef
from dispatch.errors import ConfigurationError
from dispatch.graph import SHELL, StepGraph
from dispatch.image.plan import BuildPlan
from dispatch.info import StepInfo
from dispatch.plan import Identities, RunPlan, Standing, plan_run
from dispatch.source import Git, Repository, SourceRef, provenance
from dispatch.workspace.local import LocalWorkspace

if TYPE_CHECKING:
    from dispatch.engine.docker import DockerEngine
    from dispatch.executor import DockerExecutor, Materials

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

        With ``may_build`` false nothing is built for it; what only an image could tell stays unknown.
        """
        app = self._app
        self._refuse_unsupported()
        self._config = app.config(self._request.config)
        self._graph = self._chosen(self._config.graph)
        self._names = {step: self._config.images[step] for step in self._graph.order}
        self._repository = Repository.open(self._config.directory, Git(app.surroundings.environ), self._cache)
        self._source = self._snapshot()
        self._images = app.images(self._config)
        self._build_plan = self._images.plan(dict.fromkeys(self._names.values()))
        self._runtimes = Runtimes(self._cache, lambda: app.door)
        self._code = self._repository.python_digest(self._source)
        descriptions = self._describe(may_build)
        identities = Identities(self._images.identity, self._tree_of)
        return plan_run(
            self._graph,
            self._names,
            descriptions,
            identities,
            self._completed,
            self._request.targets or self._graph.order,
        )

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

    def _chosen(self, graph: StepGraph) -> StepGraph:
        return graph.sub_graph(self._request.targets) if self._request.targets else graph

    def _snapshot(self) -> SourceRef:
        workspace = self._app.workspace
        assert isinstance(workspace, LocalWorkspace)
        source = self._repository.snapshot([workspace.dir])
        if source.dirty:
            self._app.say(f"uncommitted changes: running a snapshot of the working tree ({source.tree[:12]})")
        for notice in source.notices:
            self._app.say(notice)
        return source

    def _inside(self, path: Path) -> str | None:
        """A directory of the repository as a path in the container, None if it lies elsewhere."""
        root = self._repository.root.resolve()
        resolved = path.resolve()
        if resolved != root and root not in resolved.parents:
            return None
        inside = resolved.relative_to(root).as_posix()
        return jobs.CONTAINER.source if inside == "." else f"{jobs.CONTAINER.source}/{inside}"

    @property
    def _workdir(self) -> str:
        return self._inside(self._config.directory) or jobs.CONTAINER.source

    def _paths(self) -> tuple[str, ...]:
        """Import paths in the container: beside configuration and settings, the root, its src/."""
        settings = self._app.settings.path
        places = [self._config.directory, settings.parent if settings else None, self._repository.root]
        source_layout = self._repository.root / "src"
        places.append(source_layout if source_layout.is_dir() else None)
        return tuple(dict.fromkeys(found for place in places if place and (found := self._inside(place))))

    def _tree_of(self, paths: tuple[str, ...]) -> str:
        """Paths of a shell step are relative to the configuration, as its working directory is."""
        inside = self._workdir[len(jobs.CONTAINER.source) + 1 :]
        return self._repository.tree_of(
            self._source, [f"{inside}/{path}" if inside else path for path in paths]
        )

    def _describe(self, may_build: bool) -> Mapping[str, Description]:
        questions = [
            Question(self._graph[name], self._names[name], _image_digest(self._build_plan, self._names[name]))
            for name in self._graph.order
            if self._graph[name].type != SHELL
        ]
        packages = tuple(dict.fromkeys((*self._app.settings.include_package, *self._request.packages)))
        code = CodeBase(packages, self._paths(), self._code, self._runtimes.own.digest)
        oracle = InterpreterOracle(self._ground, self._provide, self._docker, self._app.say)
        return Describer(self._cache / "describe", code, oracle).describe(questions, may_build=may_build)

    def _ground(self) -> Ground:
        return Ground(
            runtime=self._runtimes.own.directory,
            source=self._repository.export(self._source),
            workdir=self._workdir,
            scratch=self._cache / "scratch",
            environ=self._app.surroundings.environ,
        )

    def _docker(self) -> DockerEngine:
        if self._engine is None:
            from dispatch.engine.docker import DockerEngine

            self._engine = DockerEngine(self._app.door, uid=os.getuid(), gid=os.getgid())
        return self._engine

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
        if todo:
            self._docker().capabilities()
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
            verdicts = {step: outcome.verdict.value for step, outcome in outcomes.items()}
            self._app.workspace.finish_run(name, state, {"verdicts": verdicts})

    def _register(self, plan: RunPlan) -> str:
        records = {step.node.name: step.record for step in plan.steps if step.record is not None}
        targets = [records[name] for name in plan.targets]
        facts: dict[str, object] = {
            "steps": list(records),
            "config": str(self._request.config.name),
            "commit": self._source.commit,
            "tree": self._source.tree,
            "dirty": self._source.dirty,
        }
        if plan.standing(Standing.RUN):
            facts["source"] = provenance(self._repository.root, self._source.commit).to_json()
        workspace, name = self._app.workspace, self._request.name
        try:
            return workspace.register_run(targets, name, jobs=records.values(), facts=facts).name
        except ValueError as error:
            if name is not None and self._is_unfinished(
                name, {each.name: each.unique_id for each in targets}
            ):
                return name
            raise ConfigurationError(str(error), "choose another name, or leave it out") from error

    def _is_unfinished(self, name: str, targets: Mapping[str, str]) -> bool:
        """Whether a run is one to go on with: of the same targets, and without all its results."""
        workspace = self._app.workspace
        try:
            run = workspace.run_record(name)
        except KeyError:
            return False
        return run.state != "completed" and dict(run.targets) == targets

    def _executor(self, images: Mapping[str, ImageRef], observer: Observer) -> DockerExecutor:
        from dispatch.executor import DockerExecutor
        from dispatch.schedule import LocalScheduler

        engine = self._docker()
        limit = self._request.parallelism or self._app.settings.executor.parallelism or DEFAULT_PARALLELISM
        return DockerExecutor(
            engine=engine,
            scheduler=LocalScheduler(engine.capabilities(), sys.maxsize if limit == -1 else limit),
            workspace=self._app.workspace,
            materials=self._materials(images),
            observer=observer,
            clock=time.monotonic,
        )

    def _materials(self, images: Mapping[str, ImageRef]) -> Materials:
        from dispatch.executor import Materials

        python = {self._names[name] for name in self._graph.order if self._graph[name].type != SHELL}
        return Materials(
            images=images,
            runtimes={
                name: self._runtimes.of(self._config.environments[name], image)
                for name, image in images.items()
                if name in python
            },
            source=self._repository.export(self._source),
            workdir=self._workdir,
            paths=self._paths(),
            env=self._app.settings.env,
            commit=self._source.commit,
            tree=self._source.tree,
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
