"""A project of steps, and an engine that runs them as real processes of this machine. No plan is needed."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dispatch import payload
from dispatch.engine.base import Event, JobSpec, JobState
from dispatch.engine.process import ProcessEngine, StartMethod, runner
from dispatch.job import (
    HostPlaces,
    Outcome,
    PythonTask,
    ShellTask,
    StepLabel,
    process_environment,
    read_outcome,
    write_process_job,
)

LIMIT = 60.0


@dataclass(frozen=True)
class Ended:
    """A job that came to its end."""

    event: Event
    outcome: Outcome | None
    log: str
    directory: Path

    @property
    def result(self) -> Path:
        """The result's directory."""
        return self.directory / "output" / "result"


@dataclass
class Bench:
    """A user's project below ``root``, and the engine under test. ``close`` it at the end."""

    root: Path
    runtime: payload.Runtime
    start_method: StartMethod = StartMethod.FORK
    engine: ProcessEngine = field(init=False)
    _numbers: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.project.mkdir(parents=True, exist_ok=True)
        environ = {"PATH": os.defpath, "HOME": str(self.root), "MINE": "outer"}
        self.engine = ProcessEngine(sys.executable, self.runtime.directory, environ, self.start_method)

    @property
    def project(self) -> Path:
        """The working directory of the steps, which is on their import path."""
        return self.root / "project"

    def write(self, name: str, text: str) -> None:
        """Write a file of the project."""
        (self.project / name).write_text(textwrap.dedent(text))

    def python(self, qualname: str, module: str = "steps", env: Mapping[str, str] | None = None) -> JobSpec:
        """The job of a step without arguments."""
        task = PythonTask(module, qualname, None, None, {}, {}, (str(self.project),))
        return self._job(qualname, task, env or {})

    def shell(self, command: str, workdir: str = "") -> JobSpec:
        """The job of a command."""
        return self._job("shell", ShellTask(command), {}, workdir)

    def _job(
        self, name: str, task: PythonTask | ShellTask, env: Mapping[str, str], workdir: str = ""
    ) -> JobSpec:
        number = self._numbers[name] = self._numbers.get(name, 0) + 1
        label = StepLabel(name, f"{name}-abc", name, number)
        here = self.root / "attempts" / f"{name}-abc.{number}"
        places = HostPlaces(
            runtime=str(self.runtime.directory),
            job=str(here),
            output=str(here / "output"),
            work=str(self.root / "work"),
        )
        (here / "output" / "result").mkdir(parents=True)
        files = write_process_job(here, label, task, workdir or str(self.project), places)
        shell = isinstance(task, ShellTask)
        python = runner(sys.executable, self.runtime.directory, files.document)
        return JobSpec(
            key=f"{name}-abc.{number}",
            run="run",
            step=name,
            attempt=number,
            image=None,
            command=("/bin/sh", str(files.entrypoint)) if shell else python,
            attempt_dir=here,
            working_dir="/" if shell else str(self.project),
            env=process_environment(label, {}, env, None, places),
        )

    def end(self, job: JobSpec) -> Ended:
        """Wait for a job's end. Events of others are dropped."""
        while (event := self.engine.next_event(LIMIT)) is not None:
            if (event.key, event.state) == (job.key, JobState.EXITED):
                log = (job.attempt_dir / "out.log").read_text()
                return Ended(event, read_outcome(job.attempt_dir / "output"), log, job.attempt_dir)
        raise AssertionError(f"no end of {job.key} within {LIMIT} s")

    def run(self, job: JobSpec) -> Ended:
        """Run a job to its end."""
        self.engine.submit([job])
        return self.end(job)

    def runs(self, count: int, qualname: str, **options: Any) -> list[Ended]:
        """Run a step several times, one after the other."""
        return [self.run(self.python(qualname, **options)) for _ in range(count)]

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()


def until(fact: Callable[[], bool], what: str) -> None:
    """Wait for something that has to become true."""
    given_up = time.monotonic() + LIMIT
    while not fact():
        assert time.monotonic() < given_up, what
        time.sleep(0.01)


def lives(pid: int) -> bool:
    """Whether a process runs: the dead that nobody has taken note of yet do not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in (b"Z", b"X")
