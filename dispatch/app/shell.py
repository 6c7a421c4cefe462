"""A shell where a step would run: the same image, source, inputs, work directory, variables and limits.

Owns what a session is given, and refuses one whose inputs are not there. What it leaves as a result goes to a
scratch directory that is taken away at its end: a session commits nothing.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch.errors import ConfigurationError
from dispatch.plan import Place, PlannedStep, RunPlan, Standing
from dispatch.workspace.base import Attempt
from dispatch.workspace.host import Host

if TYPE_CHECKING:
    from dispatch._docker.terminal import Descriptors
    from dispatch.app import App
    from dispatch.app.running import Running
    from dispatch.dispatcher import JobFactory
    from dispatch.engine.base import JobSpec
    from dispatch.executor import Materials, ProcessMaterials

HUNG_UP = 128 + signal.SIGHUP
_SH = "/bin/sh"
# The better shell, where the image has it.
_BEST = (_SH, "-c", "command -v bash >/dev/null 2>&1 && exec bash; exec sh")


@dataclass(frozen=True)
class Wanted:
    """Where a session is wanted: at the step ``step`` of what was planned for ``config`` (as it was given).

    ``words`` are run instead of a shell; one word is a line for sh. ``term`` is the kind of the terminal.
    """

    config: str
    step: str
    words: Sequence[str] = ()
    term: str = ""


class Shell:
    """A session at one step, whose plan is made.

    ``secrets`` are the names of those that the step is given and the session is not: they reach a job through
    its standard input, which is the user's here.
    """

    def __init__(self, app: App, running: Running, plan: RunPlan, wanted: Wanted) -> None:
        self._app = app
        self._running = running
        self.secrets = tuple(use.name for use in plan[wanted.step].node.options.secrets)
        self._plan = _without_secrets(plan, wanted.step)
        self._wanted = wanted
        self.planned: PlannedStep = self._plan[wanted.step]

    @contextlib.contextmanager
    def prepared(self) -> Iterator[JobSpec]:
        """Make what the step would get, for as long as the context lasts; builds the image if it is missing.

        The job's command and working directory are the session's. ConfigurationError where results that it
        takes are not there.
        """
        self._refuse_missing()
        cache = self._app.surroundings.cache
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="shell-", dir=cache, ignore_cleanup_errors=True) as place:
            (Path(place) / "output").mkdir()
            yield self._job(Path(place))

    def run(self, job: JobSpec, user: Descriptors) -> int:
        """Let the user work, and return the exit code of the session's command."""
        if self.planned.place is Place.PROCESS:
            return _run_here(job, self._app.surroundings.environ)
        from dispatch._docker.terminal import HungUpError
        from dispatch.engine.session import Session, run_session, sweep

        host = Host()
        sweep(self._app.door, lambda owner: _is_alive(owner, host))
        session = Session(job, f"dispatch-shell-{secrets.token_hex(4)}", _owner(host), user)
        try:
            return run_session(self._app.door, self._running.engines.docker().capabilities(), session)
        except HungUpError:
            return HUNG_UP

    def _refuse_missing(self) -> None:
        name = self._wanted.step
        if self.planned.record is None:
            raise ConfigurationError(f"step {name!r}: {self.planned.reason}", "build its image first")
        missing = [
            each for each in self._plan.mounted(name) if self._plan[each].standing is not Standing.CACHED
        ]
        if not missing:
            return
        records = [self._plan[each].record for each in missing]
        if all(record is not None and record.cacheable for record in records):
            remedy = f"compute them: dispatch run {self._wanted.config} -s {' -s '.join(missing)}"
        else:
            remedy = "results that are not kept are there while a run lasts, and no longer"
        raise ConfigurationError(f"step {name!r}: its inputs have no results: {', '.join(missing)}", remedy)

    def _job(self, directory: Path) -> JobSpec:
        record, running = self.planned.record, self._running
        assert record is not None
        attempt = Attempt(record.unique_id, 1, directory)
        here = running.process_materials()
        if self.planned.place is Place.PROCESS:
            return self._process(attempt, here)
        assert self.planned.image is not None
        images = running.build([self.planned.image])
        return self._container(attempt, running.container_materials([self.planned], images, here))

    def _process(self, attempt: Attempt, materials: ProcessMaterials) -> JobSpec:
        from dispatch.executor import ProcessJobs

        capabilities = self._running.engines.processes(materials.runtime).capabilities()
        jobs = ProcessJobs(self._plan, materials, self._app.workspace, capabilities, "")
        job = self._prepare(jobs, attempt, materials.runtime)
        shell = self._app.surroundings.environ.get("SHELL") or _SH
        return replace(job, command=self._command((shell,)), working_dir=materials.workdir)

    def _container(self, attempt: Attempt, materials: Materials) -> JobSpec:
        from dispatch.engine.fetching import seeing
        from dispatch.executor import ContainerJobs

        capabilities = seeing(self._running.engines.docker().capabilities())
        if capabilities.obstacle:
            raise ConfigurationError(
                f"a shell needs an engine that sees this machine's files: {capabilities.obstacle}",
                "call it on the engine's own machine, or use an engine of this one",
            )
        jobs = ContainerJobs(self._plan, materials, self._app.workspace, capabilities, "")
        job = self._prepare(jobs, attempt, self._running.runtimes.own.directory)
        env = {**job.env, **({"TERM": self._wanted.term} if self._wanted.term else {})}
        return replace(job, command=self._command(_BEST), working_dir=materials.workdir, env=env)

    def _prepare(self, jobs: JobFactory, attempt: Attempt, runtime: Path) -> JobSpec:
        planned = self.planned
        assert planned.record is not None
        scheduler = self._running.engines.here(planned.place, runtime)
        assignment = scheduler.schedule(planned.record.unique_id, planned.resources)
        job = jobs.prepare(planned.record, attempt, assignment)
        for unique_id in job.brings:
            self._app.workspace.bring(unique_id)
        return job

    def _command(self, shell: tuple[str, ...]) -> tuple[str, ...]:
        words = tuple(self._wanted.words)
        if len(words) == 1:
            return (_SH, "-c", words[0])
        return words or shell


def _without_secrets(plan: RunPlan, name: str) -> RunPlan:
    step = plan[name]
    node = replace(step.node, options=replace(step.node.options, secrets=()))
    bare = replace(step, node=node)
    return replace(plan, steps=tuple(bare if each is step else each for each in plan.steps))


def _run_here(job: JobSpec, environ: Mapping[str, str]) -> int:
    """Run a command at the user's terminal, which is the command's alone meanwhile."""
    # Not SIG_IGN, which the command would inherit: Ctrl-C is for it, and we wait for its end.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        code = subprocess.run(job.command, cwd=job.working_dir, env={**environ, **job.env}).returncode
    except OSError as error:
        raise ConfigurationError(
            f"{job.command[0]}: cannot be started: {error.strerror}",
            "name a command that is there, or set SHELL",
        ) from error
    finally:
        signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code


def _owner(host: Host) -> str:
    """Tell this process from all others, before and after any restart."""
    me = host.me("")
    return f"{me.boot}/{me.namespace}/{me.pid}/{me.start}"


def _is_alive(owner: str, host: Host) -> bool:
    """Whether a process may live; of those of another boot or namespace nobody here can tell."""
    boot, namespace, pid, start = (*owner.split("/", 3), "", "", "")[:4]
    me = host.me("")
    if (boot, namespace) != (me.boot, me.namespace):
        return True
    return pid.isdigit() and host.start_of(int(pid)) == start
