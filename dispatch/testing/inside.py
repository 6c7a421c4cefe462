"""A container's inside without a container: the places, the runtime and one step in a real process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from dispatch import payload
from dispatch.job import Outcome, Places, PythonTask, StepLabel, environment, read_outcome, write_step_job
from dispatch.runtime.outcome import OutcomeState

# A module of steps: a function, a class, and one that fails with a cause.
STEPS = """
    from dispatch import Step, step

    @step()
    def hello(name: str = "you", n: int = 1) -> dict:
        print("out")
        return {"hello": [name] * n}

    @Step.register("nested.train")
    class Train(Step):
        VERSION = "002"

        def run(self, data: dict, C: float = 1.0) -> object:
            return (self.name, self.unique_id, str(self.work_dir), data, C)

    @step()
    def fails(x: int):
        def inner():
            raise ValueError(f"x is {x}")
        try:
            inner()
        except ValueError as error:
            raise RuntimeError("no") from error
"""


@cache
def interpreters() -> dict[str, str]:
    """Find a Python of each supported minor version, this one first."""
    found = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    for minor in range(9, 14):
        homes = sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3"))
        for candidate in (shutil.which(f"python3.{minor}"), shutil.which("python3"), *map(str, homes)):
            if candidate is not None and f"3.{minor}" not in found and _is(candidate, minor):
                found[f"3.{minor}"] = candidate
    return found


def _is(candidate: str, minor: int) -> bool:
    program = f"import sys; sys.exit(sys.version_info[:2] != (3, {minor}))"
    return subprocess.run([candidate, "-c", program], capture_output=True).returncode == 0


@dataclass
class Ended:
    """A step that came to its end."""

    exit_code: int
    stdout: str
    stderr: str
    outcome: Outcome | None
    result: Path

    @property
    def state(self) -> OutcomeState:
        """The state of the outcome, which must be there."""
        assert self.outcome is not None, self.stderr
        return self.outcome.state

    @property
    def message(self) -> str:
        """What the recorded exception says."""
        assert self.outcome is not None
        assert self.outcome.exception is not None, self.outcome
        return self.outcome.exception["message"]


@dataclass
class Inside:
    """A user's repository, and the places of one container."""

    root: Path
    runtime: payload.Runtime
    python: str = sys.executable
    env: dict[str, str] = field(default_factory=dict)

    @property
    def places(self) -> Places:
        """The container's places, below the test's own directory."""
        return Places(root=str(self.root / "dispatch"), source=str(self.root / "src"))

    def write(self, name: str, text: str) -> None:
        """Write a file of the repository."""
        path = Path(self.places.source, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))

    def start(self, qualname: str, **options: Any) -> subprocess.Popen[str]:
        """Start the step ``qualname`` of the module ``steps``, as its entrypoint does."""
        here = self.places
        shutil.rmtree(here.root, ignore_errors=True)
        for directory in (here.output, here.work, here.source):
            Path(directory).mkdir(parents=True, exist_ok=True)
        label = StepLabel(name="it", unique_id="It-abc", type=options.pop("type", qualname), attempt=1)
        task = PythonTask(
            module=options.pop("module", "steps"),
            qualname=qualname,
            version=options.pop("version", None),
            format=options.pop("format", None),
            inputs=options.pop("inputs", {}),
            inline=options.pop("inline", {}),
            modules=tuple(options.pop("modules", ())),
            arguments=options,
            paths=(here.source,),
        )
        files = write_step_job(Path(here.job), label, task, here.source, here)
        return subprocess.Popen(
            [self.python, str(self.runtime.directory / "main.py"), "run", str(files.document)],
            cwd=here.source,
            env={"PATH": os.environ["PATH"], **environment(label, {}, {}, places=here), **self.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, process: subprocess.Popen[str]) -> Ended:
        """Wait for the step and collect what it left."""
        out, err = process.communicate(timeout=120)
        output = Path(self.places.output)
        return Ended(process.returncode, out, err, read_outcome(output), output / "result")

    def run(self, qualname: str, **options: Any) -> Ended:
        """Run a step to its end; ``options`` that are none are its arguments."""
        return self.end(self.start(qualname, **options))

    def describe(self, packages: list[str], steps: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Ask what steps are."""
        declared = {name: {"arguments": {}, "format": None, **step} for name, step in steps.items()}
        request = {"contract": 1, "packages": packages, "paths": [self.places.source], "steps": declared}
        asked, answered = self.root / "request.json", self.root / "answer.json"
        asked.write_text(json.dumps(request))
        subprocess.run(
            [self.python, str(self.runtime.directory / "main.py"), "describe", str(asked), str(answered)],
            cwd=self.places.source,
            env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **self.env},
            check=True,
            timeout=120,
        )
        answer: dict[str, Any] = json.loads(answered.read_text())
        return answer
