"""A named step as config declares it: validated, and still plain data.

Owns what may be written of one step under ``steps:``, save the arguments of Python steps, which only their
code can judge. Knows no step classes and imports no user code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dispatch.errors import ConfigurationError, did_you_mean
from dispatch.options import KEYS as OPTION_KEYS
from dispatch.options import StepOptions, as_json, read_extra, read_options, wrong
from dispatch.params import ArgumentError, as_dependency, find_references, transform
from dispatch.step import SHELL

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")

_TYPE = "type"
_NAME_KEY = "step_name"
_LATER = ("step_identity",)
_OWN = "step_config"
_SHELL_ARGUMENTS = ("command", "inputs", "paths")


@dataclass(frozen=True)
class StepNode:
    """A named step: its type, its arguments as config says them, and its options.

    ``dependencies`` are the names of the steps that the arguments refer to, each once, in order; ``extra``
    are those of further steps that have to be there first, which do not enter the identity.
    """

    name: str
    type: str
    arguments: Mapping[str, Any]
    dependencies: tuple[str, ...] = ()
    options: StepOptions = field(default_factory=StepOptions)
    extra: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """All steps that have to be there first: ``dependencies``, then ``extra``."""
        return (*self.dependencies, *self.extra)


def read_node(name: Any, raw: Any) -> StepNode:
    """Return the step that config declares as ``name``. Raises ConfigurationError, naming it."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"step {name!r}: this cannot be a step's name",
            "use at most 100 letters, digits and _ . -, and begin with a letter, digit or underscore",
        )
    if not isinstance(raw, Mapping):
        raise ConfigurationError(
            f"step {name!r}: expected a mapping, got {type(raw).__name__}", "write its type and arguments"
        )
    _check_keys(name, raw)
    arguments = {key: value for key, value in raw.items() if key != _TYPE and key not in OPTION_KEYS}
    try:
        arguments = transform(arguments, as_json)
        references = find_references(arguments)
    except ArgumentError as error:
        raise error.of(name) from None
    if raw[_TYPE] == SHELL:
        _check_shell(name, arguments)
    dependencies = tuple(dict.fromkeys(reference.name for reference in references))
    extra = tuple(other for other in read_extra(name, raw) if other not in dependencies)
    return StepNode(name, raw[_TYPE], arguments, dependencies, read_options(name, raw), extra)


def _check_keys(name: str, raw: Mapping[Any, Any]) -> None:
    for key in raw:
        if not isinstance(key, str):
            raise ConfigurationError(f"step {name!r}: the key {key!r} is not a text", "quote it")
        if key in _LATER:
            raise ConfigurationError(f"step {name!r}: {key!r} is not supported yet", f"leave {key} out")
        if key == _OWN:
            raise ConfigurationError(
                f"step {name!r}: {key!r} cannot be given: it is this very mapping",
                "leave it out; what is to be kept with the step's record goes under step_metadata",
            )
        if key.startswith("step_") and key not in OPTION_KEYS:
            raise ConfigurationError(
                f"step {name!r}: there is no key {key!r}{did_you_mean(key, list(OPTION_KEYS))}",
                f"the keys of steps are: {', '.join(OPTION_KEYS)}",
            )
    if _TYPE not in raw:
        raise ConfigurationError(
            f"step {name!r}: has no 'type'{_near_type(raw)}", "name a registered step, or 'shell'"
        )
    if not isinstance(raw[_TYPE], str) or not raw[_TYPE]:
        raise wrong(name, _TYPE, "a text", raw[_TYPE])
    if raw.get(_NAME_KEY) not in (None, name):
        raise ConfigurationError(
            f"step {name!r}: {_NAME_KEY} is {raw[_NAME_KEY]!r}, but under `steps:` it is {name!r}",
            f"leave {_NAME_KEY} out",
        )
    if raw[_TYPE] == "ref":
        raise ConfigurationError(
            f"step {name!r}: is a reference",
            "refer to another step inside an argument, not instead of a step",
        )


def _near_type(raw: Mapping[str, Any]) -> str:
    """Name the key that was probably meant to be ``type``."""
    for key in raw:
        if did_you_mean(key, [_TYPE]):
            return f", but {key!r}: did you mean 'type'?"
    return ""


def _check_shell(name: str, arguments: Mapping[str, Any]) -> None:
    for key in arguments:
        if key not in _SHELL_ARGUMENTS:
            raise ArgumentError(
                key,
                f"a shell step does not take it{did_you_mean(key, list(_SHELL_ARGUMENTS))}",
                f"it takes: {', '.join(_SHELL_ARGUMENTS)}",
                name,
            )
    command = arguments.get("command")
    if not isinstance(command, str) or not command.strip():
        raise ArgumentError(
            "command", "is missing" if command is None else "is not a text", "write a command", name
        )
    inputs = arguments.get("inputs", {})
    if not isinstance(inputs, dict):
        raise ArgumentError(
            "inputs", f"expected a mapping, got {type(inputs).__name__}", "write {NAME: {ref: STEP}}", name
        )
    for key, value in inputs.items():
        _check_input(name, key, value)
    paths = arguments.get("paths", [])
    if not isinstance(paths, list) or not all(isinstance(path, str) and _is_inside(path) for path in paths):
        raise ArgumentError(
            "paths", "expected a list of paths inside the repository", "write them relative to its root", name
        )


def _check_input(name: str, key: str, value: Any) -> None:
    """An input is the whole result of a step, shown as a directory, or a value shown as text."""
    place = f"inputs.{key}"
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", key):
        raise ArgumentError(
            place, "its name cannot become that of a variable", "use letters, digits and _ . -", name
        )
    references = find_references(value)
    if references == [] and isinstance(value, (list, dict)):
        raise ArgumentError(place, "expected a reference or a single value", "write {ref: STEP}", name)
    if references and references[0].key is not None:
        raise ArgumentError(
            place, "a command is given a whole result, not an item of it", "leave 'key' out", name
        )
    if references and as_dependency(value) is None:
        raise ArgumentError(place, "expected one reference", "give each reference a name of its own", name)


def _is_inside(path: str) -> bool:
    parts = path.split("/")
    return (
        bool(path)
        and "\0" not in path
        and not path.startswith("/")
        and ".." not in parts
        and "\n" not in path
    )
