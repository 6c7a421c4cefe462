"""The environment variables of a job."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from dispatch.errors import ConfigurationError
from dispatch.graph import SHELL, StepNode
from dispatch.job.places import CONTAINER, HostPlaces, Layout, Places
from dispatch.job.task import StepLabel
from dispatch.params import Reference, as_dependency

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = "DISPATCH_"
SECRETS_DIR = "DISPATCH_SECRETS_DIR"


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
    return _with_step(found, label, inputs, user, cpu_count, places)


def process_environment(
    label: StepLabel,
    inputs: Mapping[str, str],
    user: Mapping[str, str],
    cpu_count: float | None,
    places: HostPlaces,
) -> dict[str, str]:
    """Return what a step's process is given on top of the user's own environment, as :func:`environment`.

    Home, temporary files and caches stay the user's: a step is to find what it finds when it is run by hand,
    and sockets below a workspace's long paths could not be opened.
    """
    return _with_step({"PYTHONUNBUFFERED": "1"}, label, inputs, user, cpu_count, places)


def secrets_variable(place: str) -> dict[str, str]:
    """Return the variable that says where a job's secrets are; none for an empty ``place``."""
    return {SECRETS_DIR: place} if place else {}


def describe_environment(user: Mapping[str, str], places: Places = CONTAINER) -> dict[str, str]:
    """Return the environment of a container that only describes: as a step's, without a step in it."""
    found = environment(StepLabel("describe", "", "", 1), {}, user, places=places)
    return {name: value for name, value in found.items() if not name.startswith(_RESERVED)}


def input_values(node: StepNode, places: Mapping[str, str]) -> dict[str, str]:
    """Return what the variables of a step's inputs hold, by the inputs' names.

    They are the arguments of a Python step that are references, and the entries of a shell step's ``inputs``.
    A reference becomes the place of the result (its key is for Python alone), any other entry its text as
    JSON would show it; a text stands as it is, and null is empty. What is computed in the same process has no
    place, and so no variable.
    """
    if node.type == SHELL:
        declared = node.arguments.get("inputs", {})
        return {name: _input_text(value, places) for name, value in declared.items()}
    references = {name: as_dependency(value) for name, value in node.arguments.items()}
    return {
        name: places[found.name]
        for name, found in references.items()
        if isinstance(found, Reference) and found.name in places
    }


def _input_text(value: object, places: Mapping[str, str]) -> str:
    reference = as_dependency(value)
    if isinstance(reference, Reference):
        return places[reference.name]
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _with_step(
    found: dict[str, str],
    label: StepLabel,
    inputs: Mapping[str, str],
    user: Mapping[str, str],
    cpu_count: float | None,
    places: Layout,
) -> dict[str, str]:
    """Add to defaults what the user set, and to that what is the step's."""
    if cpu_count is not None:
        # A limit of CPUs is a share of time: nproc and numpy still see every core of the host.
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
