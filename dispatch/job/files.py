"""``job.json``, ``request.json`` and the entrypoint: what a job is given to read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dispatch.errors import ConfigurationError
from dispatch.job.places import CONTAINER, HostPlaces, Layout
from dispatch.job.task import Clone, InlineTask, PythonTask, Setup, ShellTask, StepLabel
from dispatch.runtime.outcome import CONTRACT

_SHARED_FILE = 0o644
_SHARED_FOLDER = 0o755


@dataclass(frozen=True)
class JobFiles:
    """What was written: the directory and its files. For a Python step of this machine, no entrypoint is."""

    directory: Path
    entrypoint: Path
    document: Path


@dataclass(frozen=True)
class Before:
    """What an entrypoint does before the step.

    ``secrets`` is the directory into which it stores what comes in on its standard input (see
    ``engine.delivery``), empty where nothing does. With ``clone`` it fetches the source, with ``setup`` it
    makes the environment. Where the engine captures the output the job ``packs`` a result that would not
    come through as files: see ``runtime.packing``.
    """

    secrets: str = ""
    clone: Clone | None = None
    setup: Setup | None = None
    packs: bool = False


NOTHING = Before()


def write_step_job(
    directory: Path,
    label: StepLabel,
    task: PythonTask | ShellTask,
    workdir: str = CONTAINER.source,
    places: Layout = CONTAINER,
    before: Before = NOTHING,
) -> JobFiles:
    """Write ``entrypoint.sh`` and ``job.json`` of one attempt into ``directory``, made if it is not there.

    ``workdir`` is the working directory in the container. Raises ConfigurationError for a value that a shell
    or JSON cannot hold.
    """
    script = _step_entrypoint(task, workdir, places, before)
    document = _job(label, task, places) | ({"packs": True} if before.packs else {})
    return _write(directory, script, "job.json", document)


def write_process_job(
    directory: Path, label: StepLabel, task: PythonTask | ShellTask, workdir: str, places: HostPlaces
) -> JobFiles:
    """Write the files of a job for this machine into ``directory``, which is there.

    A Python step gets no entrypoint, for it needs no shell.
    """
    if isinstance(task, ShellTask):
        return write_step_job(directory, label, task, workdir, places)
    # Nobody but the caller reads it, so there are no rights to be set.
    text = _text("job.json", _job(label, task, places))
    files = JobFiles(directory, directory / "entrypoint.sh", directory / "job.json")
    files.document.write_text(text, encoding="utf-8")
    return files


def write_describe_job(
    directory: Path,
    request: Mapping[str, Any],
    interpreter: str | None = None,
    workdir: str = CONTAINER.source,
    places: Layout = CONTAINER,
) -> JobFiles:
    """Write ``entrypoint.sh`` and ``request.json``; the answer will be ``<output>/answer.json``."""
    values = _python_values(interpreter, workdir, places)
    return _write(directory, _render("entrypoint/describe.sh.j2", values), "request.json", request)


def _job(label: StepLabel, task: PythonTask | ShellTask, places: Layout) -> dict[str, Any]:
    step: dict[str, Any] = {"name": label.name, "id": label.unique_id, "type": label.type}
    paths: list[str] = []
    inline: dict[str, Any] = {}
    if isinstance(task, PythonTask):
        step.update(module=task.module, qualname=task.qualname, version=task.version, format=task.format)
        step.update(_modules(task))
        paths = list(task.paths)
        inline = {name: _inline(each) for name, each in task.inline.items()}
    return {
        "contract": CONTRACT,
        "step": step,
        "arguments": dict(task.arguments),
        "inputs": dict(task.inputs),
        "inline": inline,
        "paths": paths,
        "output": places.output,
        "work": places.work,
        "attempt": label.attempt,
    }


def _inline(task: InlineTask) -> dict[str, Any]:
    return {
        "module": task.module,
        "qualname": task.qualname,
        "type": task.type,
        "version": task.version,
        "format": None,
        "id": task.unique_id,
        "arguments": dict(task.arguments),
        **_modules(task),
    }


def _modules(task: PythonTask | InlineTask) -> dict[str, Any]:
    """Most arguments name no classes of other modules."""
    return {"modules": list(task.modules)} if task.modules else {}


def _step_entrypoint(task: PythonTask | ShellTask, workdir: str, places: Layout, before: Before) -> str:
    if isinstance(task, PythonTask):
        values = {**_python_values(task.interpreter, workdir, places), **vars(before)}
        return _render("entrypoint/python.sh.j2", values)
    values = {
        "workdir": workdir,
        "output": places.output,
        "activates": _activates(places),
        "command": task.command,
        **vars(before),
    }
    return _render("entrypoint/shell.sh.j2", values)


def _python_values(interpreter: str | None, workdir: str, places: Layout) -> dict[str, object]:
    return {
        "workdir": workdir,
        "output": places.output,
        "activates": _activates(places),
        "interpreter": interpreter or "",
        "runtime": places.runtime,
        "job": places.job,
        **vars(NOTHING),
    }


def _activates(places: Layout) -> bool:
    """Tell whether conda packages of the job's image may set variables; on this machine the user's have."""
    return not isinstance(places, HostPlaces)


def _render(template: str, values: Mapping[str, object]) -> str:
    # Here and not above: a run in which all is cached writes no job, and jinja2 takes as long as the rest of
    # it.
    from dispatch.render import render

    return render(template, values)


def _text(name: str, document: Mapping[str, Any]) -> str:
    try:
        return json.dumps(document, indent=1, sort_keys=True) + "\n"
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{name}: {error}", remedy="use plain YAML values as arguments") from error


def _write(directory: Path, entrypoint: str, name: str, document: Mapping[str, Any]) -> JobFiles:
    text = _text(name, document)
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(_SHARED_FOLDER)
    files = JobFiles(directory, directory / "entrypoint.sh", directory / name)
    for path, content in ((files.entrypoint, entrypoint), (files.document, text)):
        path.write_text(content, encoding="utf-8")
        path.chmod(_SHARED_FILE)
    return files
