"""The executor for Beaker as a program makes it: a graph in, results in a workspace, and how each step ended.

Owns the names and defaults of its parameters, which are the ancestor's. What they mean is the settings'.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dispatch.errors import ConfigurationError
from dispatch.executor import Executor

if TYPE_CHECKING:
    from dispatch.app.running import Running, RunSummary
    from dispatch.dispatcher import StepOutcome
    from dispatch.engine.base import Event
    from dispatch.graph import StepGraph
    from dispatch.plan import RunPlan
    from dispatch.schedule.beaker import BeakerScheduler
    from dispatch.workspace.base import Workspace

_log = logging.getLogger(__name__)
NO_LIMIT = -1


@dataclass(frozen=True)
class ExecutorOutput:
    """How the steps of a graph ended, by their names: those with a result, those that failed, all others."""

    run: str
    successful: Mapping[str, StepOutcome] = field(default_factory=dict)
    failed: Mapping[str, StepOutcome] = field(default_factory=dict)
    not_run: Mapping[str, StepOutcome] = field(default_factory=dict)


class BeakerExecutor(Executor):
    """Runs each step as an experiment of its own on Beaker.

    ``workspace`` is where results are kept, or its URL. ``clusters`` are those that may be used (none: any);
    they are ignored, as ``priority`` is, where a ``scheduler`` decides. ``include_package`` are modules that
    declare steps. ``beaker_workspace`` is where experiments are made. ``github_token`` wins over the variable
    GITHUB_TOKEN, and is used only where a private repository is to be cloned. Steps that name no image run in
    ``beaker_image`` or ``docker_image``, else in ``DEFAULT_BEAKER_IMAGE``; ``venv_name`` and ``install_cmd``
    are about the environment there. ``datasets`` and ``env_vars`` are for every job. ``parallelism`` -1 is no
    limit of ours. With ``allow_dirty`` uncommitted changes run, too. ``kwargs`` are those of
    ``Beaker.from_env``, and what the settings know beside.

    Everything else is as the settings (``dispatch.yml``) say that hold in the working directory.
    """

    def __init__(
        self,
        workspace: Workspace | str,
        clusters: Sequence[str] | None = None,
        include_package: Sequence[str] | None = None,
        beaker_workspace: str | None = None,
        github_token: str | None = None,
        beaker_image: str | None = None,
        docker_image: str | None = None,
        datasets: Sequence[Any] | None = None,
        env_vars: Sequence[Any] | None = None,
        venv_name: str | None = None,
        parallelism: int | None = NO_LIMIT,
        install_cmd: str | None = None,
        priority: Any = None,
        allow_dirty: bool = False,
        scheduler: BeakerScheduler | Mapping[str, Any] | str | None = None,
        **kwargs: Any,
    ) -> None:
        """Raises ConfigurationError for what cannot be meant; nothing is sent.

        A warning says which arguments are ignored.
        """
        from dispatch.schedule.beaker import BeakerScheduler
        from dispatch.settings.beaker import setup_of

        own = scheduler if isinstance(scheduler, BeakerScheduler) else None
        values = {
            "clusters": clusters,
            "beaker_workspace": beaker_workspace,
            "github_token": github_token,
            "beaker_image": beaker_image,
            "docker_image": docker_image,
            "datasets": datasets,
            "env_vars": env_vars,
            "venv_name": venv_name,
            "install_cmd": install_cmd,
            "priority": priority,
            "allow_dirty": allow_dirty,
            "scheduler": type(own).__name__ if own is not None else scheduler,
            **kwargs,
        }
        self._setup = setup_of(values)
        self._scheduler = own
        self._workspace = workspace
        self._packages = tuple(include_package or ())
        self._parallelism = NO_LIMIT if parallelism is None else parallelism
        self._planned: tuple[Running, RunPlan] | None = None
        self._current: Running | None = None
        for notice in self._setup.notices:
            _log.warning("%s", notice)

    def execute_step_graph(self, step_graph: StepGraph, run_name: str | None = None) -> ExecutorOutput:
        """Run a graph, whose steps that have a result are not run again, and say how each step ended.

        The files of the repository around the working directory are the steps' source. Raises DispatchError
        where the run cannot begin, or breaks off; a step that fails is no error.
        """
        running = self._running(step_graph)
        summary = self._carried_out(running, self._prepared(running), run_name)
        return _output(summary.name, summary.outcomes)

    def plan(self, step_graph: StepGraph) -> RunPlan:
        """Find out where every step of a graph stands; :meth:`execute` carries this plan out."""
        running = self._running(step_graph)
        plan = self._prepared(running)
        self._planned = running, plan
        return plan

    def execute(self, plan: RunPlan, run: str) -> Mapping[str, StepOutcome]:
        """Bring every step of a plan of :meth:`plan` to a verdict, as the run of this name."""
        if self._planned is None or self._planned[1] is not plan:
            raise ConfigurationError(
                "BeakerExecutor: carries out its own plans alone", "use execute_step_graph(graph)"
            )
        running, self._planned = self._planned[0], None
        return self._carried_out(running, plan, run).outcomes

    def cancel(self, names: Sequence[str] | None, grace: float | None) -> None:
        """See :meth:`Executor.cancel`; nothing where nothing runs."""
        if self._current is not None:
            self._current.cancel(names, grace)

    def _prepared(self, running: Running) -> RunPlan:
        try:
            return running.prepare(may_build=True)
        except BaseException:
            running.close()
            raise

    def _carried_out(self, running: Running, plan: RunPlan, run: str | None) -> RunSummary:
        self._current = running
        try:
            return running.execute(plan, _Logged(), name=run)
        finally:
            self._current = None
            running.close()

    def _running(self, graph: StepGraph) -> Running:
        from dispatch.app import App
        from dispatch.app.onbeaker.side import BeakerSide
        from dispatch.app.running import InProgram, Running, RunRequest
        from dispatch.reporting import Lines
        from dispatch.settings import ExecutorSetting, find_settings, read_environment

        here, surroundings = Path.cwd(), read_environment()
        found = find_settings(here, surroundings)
        setup = self._setup
        settings = replace(
            found,
            executor=ExecutorSetting("beaker", self._parallelism, beaker=setup),
            include_package=tuple(dict.fromkeys((*found.include_package, *self._packages))),
            shared_dirs=(*found.shared_dirs, *setup.host_paths),
        )
        app = App(settings, surroundings, self._workspace, here, Lines(_log.info))
        side = BeakerSide(app, self._parallelism, self._scheduler)
        return Running(app, RunRequest(InProgram(graph, here)), side)


class _Logged:
    """Tells the log of what happens to steps."""

    def starting(self, name: str, attempt: int) -> None:
        """See :class:`~dispatch.dispatcher.Observer`."""
        _log.info("%s: starting, attempt %d", name, attempt)

    def running(self, name: str, event: Event) -> None:
        """See :class:`~dispatch.dispatcher.Observer`."""
        _log.info("%s: running%s", name, f" on {event.node}" if event.node else "")

    def waiting(self, name: str, reason: str) -> None:
        """See :class:`~dispatch.dispatcher.Observer`."""
        _log.info("%s: waiting: %s", name, reason)

    def retrying(self, name: str, reason: str, delay: float) -> None:
        """See :class:`~dispatch.dispatcher.Observer`."""
        _log.warning("%s: %s; again in %.0f s", name, reason, delay)

    def ended(self, outcome: StepOutcome) -> None:
        """See :class:`~dispatch.dispatcher.Observer`."""
        _log.info(
            "%s: %s%s", outcome.name, outcome.verdict.value, f": {outcome.reason}" * bool(outcome.reason)
        )


def _output(run: str, outcomes: Mapping[str, StepOutcome]) -> ExecutorOutput:
    from dispatch.dispatcher import Verdict

    good = {
        name: each for name, each in outcomes.items() if each.verdict in (Verdict.CACHED, Verdict.COMPLETED)
    }
    bad = {name: each for name, each in outcomes.items() if each.verdict is Verdict.FAILED}
    rest = {name: each for name, each in outcomes.items() if name not in good and name not in bad}
    return ExecutorOutput(run, good, bad, rest)
