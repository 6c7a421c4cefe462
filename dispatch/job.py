"""A job's files: what the client writes before a container starts, and the outcome it reads afterwards.

Owns the places of the container contract, ``job.json``, ``request.json``, the entrypoint's values, the
environment of the container, and the reading of ``outcome.json``. Takes plain values; refuses to know graphs,
images and engines. What it reads was written by the step's own process, so nothing of it is taken on trust.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from dispatch.errors import ConfigurationError, StepError
from dispatch.graph import SHELL, StepNode
from dispatch.params import Reference, as_dependency
from dispatch.runtime.outcome import CONTRACT, FILE, OutcomeState

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = "DISPATCH_"
_OUTCOME_LIMIT = 4 * 1024 * 1024
_SHARED_FILE = 0o644
_SHARED_FOLDER = 0o755


@dataclass(frozen=True)
class Places:
    """Where things are inside a container. Engines that cannot mount at ``/dispatch`` name another root."""

    root: str = "/dispatch"
    source: str = "/src"

    @property
    def runtime(self) -> str:
        """The runtime, read-only."""
        return f"{self.root}/runtime"

    @property
    def job(self) -> str:
        """The job's files, read-only."""
        return f"{self.root}/job"

    @property
    def output(self) -> str:
        """The outcome, and the result below it."""
        return f"{self.root}/output"

    @property
    def result(self) -> str:
        """The result, the step's alone."""
        return f"{self.output}/result"

    @property
    def work(self) -> str:
        """The step's work directory."""
        return f"{self.root}/work"

    @property
    def scratch(self) -> str:
        """Home, temporary files and caches; thrown away with the container."""
        return f"{self.root}/scratch"

    def inputs(self, names: Iterable[str]) -> dict[str, str]:
        """Give each dependency, by name in order, the place of its result."""
        return {name: f"{self.root}/inputs/{number}" for number, name in enumerate(names)}

    def command(self) -> tuple[str, ...]:
        """The command of every container. By path through sh: the file need not be executable there."""
        return ("/bin/sh", f"{self.job}/entrypoint.sh")


CONTAINER = Places()


@dataclass(frozen=True)
class StepLabel:
    """What every job says about its step: name, unique id, registered type, and the attempt's number."""

    name: str
    unique_id: str
    type: str
    attempt: int


@dataclass(frozen=True)
class PythonTask:
    """A step that is a class. ``arguments`` is the raw configuration with its references.

    ``inputs`` maps the names that references use to places in the container. ``paths`` are import paths in
    the container. ``format`` is the name of a registered format, or None for the step's own. ``interpreter``
    is a path or name in the image; None is the first of ``python3`` and ``python``.
    """

    module: str
    qualname: str
    version: str | None
    format: str | None
    arguments: Mapping[str, Any]
    inputs: Mapping[str, str]
    paths: tuple[str, ...]
    interpreter: str | None = None


@dataclass(frozen=True)
class ShellTask:
    """A step that is a command, for ``sh -c``. ``inputs`` maps names of dependencies to places."""

    command: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class JobFiles:
    """What was written, for mounting: the directory and its files."""

    directory: Path
    entrypoint: Path
    document: Path


def write_step_job(
    directory: Path,
    label: StepLabel,
    task: PythonTask | ShellTask,
    workdir: str = CONTAINER.source,
    places: Places = CONTAINER,
) -> JobFiles:
    """Write ``entrypoint.sh`` and ``job.json`` of one attempt into ``directory``, made if it is not there.

    ``workdir`` is the working directory in the container. Raises ConfigurationError for a value that a shell
    or JSON cannot hold.
    """
    return _write(directory, _step_entrypoint(task, workdir, places), "job.json", _job(label, task, places))


def write_describe_job(
    directory: Path,
    request: Mapping[str, Any],
    interpreter: str | None = None,
    workdir: str = CONTAINER.source,
    places: Places = CONTAINER,
) -> JobFiles:
    """Write ``entrypoint.sh`` and ``request.json``; the answer will be ``<output>/answer.json``."""
    values = _python_values(interpreter, workdir, places)
    return _write(directory, _render("entrypoint/describe.sh.j2", values), "request.json", request)


def environment(
    label: StepLabel,
    inputs: Mapping[str, str],
    user: Mapping[str, str],
    cpu_count: float | None = None,
    places: Places = CONTAINER,
) -> dict[str, str]:
    """Return the environment variables of a step's container, sorted by name.

    ``inputs`` maps names of inputs to what ``DISPATCH_INPUT_<NAME>`` shall hold (see :func:`input_values`).
    The user's own win over our defaults. Raises ConfigurationError if the user sets a name that is ours or
    none, or if two inputs would share a variable.
    """
    found = {
        "HOME": f"{places.scratch}/home",
        "LOGNAME": "dispatch",
        "MPLCONFIGDIR": f"{places.scratch}/cache/matplotlib",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": f"{places.scratch}/tmp",
        "USER": "dispatch",
        "XDG_CACHE_HOME": f"{places.scratch}/cache",
    }
    if cpu_count is not None:
        # An engine's CPU limit is a share of time: nproc and numpy still see every core of the host.
        found["OMP_NUM_THREADS"] = str(max(1, int(cpu_count)))
    for name in user:
        _check_variable(label.name, name)
    found.update(user)
    found.update(
        {
            "DISPATCH_ATTEMPT": str(label.attempt),
            "DISPATCH_OUTPUT_DIR": places.result,
            "DISPATCH_STEP_ID": label.unique_id,
            "DISPATCH_STEP_NAME": label.name,
            "DISPATCH_WORK_DIR": places.work,
        }
    )
    found.update(_input_variables(label.name, inputs))
    return dict(sorted(found.items()))


def describe_environment(user: Mapping[str, str], places: Places = CONTAINER) -> dict[str, str]:
    """Return the environment of a container that only describes: as a step's, without a step in it."""
    found = environment(StepLabel("describe", "", "", 1), {}, user, places=places)
    return {name: value for name, value in found.items() if not name.startswith(_RESERVED)}


def input_values(node: StepNode, places: Mapping[str, str]) -> dict[str, str]:
    """Return what the variables of a step's inputs hold, by the inputs' names.

    They are the arguments of a Python step that are references, and the entries of a shell step's ``inputs``.
    A reference becomes the place of the result in the container (its key is for Python alone), any other
    entry its text as JSON would show it; a text stands as it is, and null is empty.
    """
    if node.type == SHELL:
        declared = node.arguments.get("inputs", {})
        return {name: _input_text(value, places) for name, value in declared.items()}
    references = {name: as_dependency(value) for name, value in node.arguments.items()}
    return {name: places[found.name] for name, found in references.items() if isinstance(found, Reference)}


def _input_text(value: object, places: Mapping[str, str]) -> str:
    reference = as_dependency(value)
    if isinstance(reference, Reference):
        return places[reference.name]
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


@dataclass(frozen=True)
class Outcome:
    """A job's own account of its end. Times are aware; None where the image could not tell.

    ``exit_code`` is that of the step's code or command, not of the container. ``exception`` has the texts
    ``type``, ``message`` and ``traceback``.
    """

    phase: str
    state: OutcomeState
    started: datetime | None
    ended: datetime | None
    exit_code: int | None
    exception: Mapping[str, str] | None
    interpreter: str | None


def read_outcome(output: Path) -> Outcome | None:
    """Read ``outcome.json`` of an output directory; None if the job left none.

    Raises StepError if what lies there is no outcome: a link, no plain file, too large, or not of the
    contract.
    """
    path = output / FILE
    try:
        # The step may have put anything under this name, a link out of the directory or a pipe among it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _OUTCOME_LIMIT:
            raise _unreadable(path, "it is not a file of reasonable size")
        return _outcome(json.loads(os.read(descriptor, _OUTCOME_LIMIT)))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(descriptor)


def _unreadable(path: Path, fault: object) -> StepError:
    return StepError(f"{path}: not an outcome ({fault})", remedy=f"let the step leave {FILE} alone")


def _outcome(document: dict[str, Any]) -> Outcome:
    if document["contract"] != CONTRACT:
        raise ValueError(f"contract {document['contract']!r}")
    exit_code, exception = document["exit_code"], document["exception"]
    if not (exit_code is None or type(exit_code) is int):
        raise ValueError("exit_code is not a number")
    if exception is not None:
        exception = {key: str(exception[key]) for key in ("type", "message", "traceback")}
    version = document["interpreter"]
    return Outcome(
        phase=str(document["phase"]),
        state=OutcomeState(document["state"]),
        started=_moment(document["started"]),
        ended=_moment(document["ended"]),
        exit_code=exit_code,
        exception=exception,
        interpreter=None if version is None else str(version),
    )


def _moment(text: str | None) -> datetime | None:
    """Read ISO 8601 in UTC as we write it; Python 3.10 does not read the ``Z`` itself."""
    if text is None:
        return None
    return datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=timezone.utc)


def _job(label: StepLabel, task: PythonTask | ShellTask, places: Places) -> dict[str, Any]:
    step: dict[str, Any] = {"name": label.name, "id": label.unique_id, "type": label.type}
    if isinstance(task, PythonTask):
        step.update(module=task.module, qualname=task.qualname, version=task.version, format=task.format)
    return {
        "contract": CONTRACT,
        "step": step,
        "arguments": dict(task.arguments),
        "inputs": dict(task.inputs),
        "paths": list(task.paths) if isinstance(task, PythonTask) else [],
        "output": places.output,
        "work": places.work,
        "attempt": label.attempt,
    }


def _step_entrypoint(task: PythonTask | ShellTask, workdir: str, places: Places) -> str:
    if isinstance(task, PythonTask):
        return _render("entrypoint/python.sh.j2", _python_values(task.interpreter, workdir, places))
    values = {"workdir": workdir, "output": places.output, "command": task.command}
    return _render("entrypoint/shell.sh.j2", values)


def _python_values(interpreter: str | None, workdir: str, places: Places) -> dict[str, object]:
    return {
        "workdir": workdir,
        "output": places.output,
        "interpreter": interpreter or "",
        "runtime": places.runtime,
        "job": places.job,
    }


def _render(template: str, values: Mapping[str, object]) -> str:
    # Here and not above: a run in which all is cached writes no job, and jinja2 takes as long as the rest of
    # it.
    from dispatch.render import render

    return render(template, values)


def _write(directory: Path, entrypoint: str, name: str, document: Mapping[str, Any]) -> JobFiles:
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(_SHARED_FOLDER)
    try:
        text = json.dumps(document, indent=1, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{name}: {error}", remedy="use plain YAML values as arguments") from error
    files = JobFiles(directory, directory / "entrypoint.sh", directory / name)
    for path, content in ((files.entrypoint, entrypoint), (files.document, text + "\n")):
        path.write_text(content, encoding="utf-8")
        path.chmod(_SHARED_FILE)
    return files


def _check_variable(step: str, name: str) -> None:
    if name.upper().startswith(_RESERVED):
        raise ConfigurationError(
            f"step {step!r}: environment variable {name!r} is reserved", remedy="use a name without DISPATCH_"
        )
    if not _VARIABLE.fullmatch(name):
        raise ConfigurationError(
            f"step {step!r}: {name!r} is no name of an environment variable",
            remedy="use letters, digits and underscores, and no digit first",
        )


def _input_variables(step: str, inputs: Mapping[str, str]) -> dict[str, str]:
    owners: dict[str, str] = {}
    found: dict[str, str] = {}
    for name, value in inputs.items():
        variable = f"{_RESERVED}INPUT_{re.sub('[^A-Za-z0-9]', '_', name).upper()}"
        if variable in owners:
            raise ConfigurationError(
                f"step {step!r}: inputs {owners[variable]!r} and {name!r} are both {variable}",
                remedy="rename one of them",
            )
        owners[variable] = name
        found[variable] = value
    return found
