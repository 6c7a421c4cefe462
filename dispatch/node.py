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
from dispatch.params import DESCEND, ArgumentError, as_dependency, find_references, transform
from dispatch.resources import StepResources
from dispatch.step import SHELL

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
# Shorter than what can be a unique id, since a run may have to add to it.
_UNIQUE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,149}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_TYPE = "type"
_NAME_KEY = "step_name"
_OPTIONS = (
    "step_image",
    "step_resources",
    "step_env",
    "step_network",
    "step_format",
    "step_metadata",
    "step_extra_dependencies",
    "step_unique_id_override",
    _NAME_KEY,
    "cache_results",
)
_LATER = ("step_secrets", "step_mounts", "step_retries", "step_timeout", "step_identity")
_OWN = "step_config"
_NETWORKS = ("bridge", "none")
_SHELL_ARGUMENTS = ("command", "inputs", "paths")


@dataclass(frozen=True)
class StepOptions:
    """How a step is run, apart from its arguments.

    ``image`` is a name of the catalogue or a declaration in place; None is the config's default.
    ``network`` is ``"bridge"``, ``"none"`` or None for the default. ``format`` is a registered name, a
    mapping with ``type`` and the format's own arguments, or None for the class's. ``metadata`` is the user's
    own, in JSON types. ``cache_results`` None leaves it to the class; ``unique_id`` None to the identity.
    """

    image: str | Mapping[str, Any] | None = None
    resources: StepResources = field(default_factory=StepResources)
    env: Mapping[str, str] = field(default_factory=dict)
    network: str | None = None
    format: str | Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    cache_results: bool | None = None
    unique_id: str | None = None


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
    arguments = {key: value for key, value in raw.items() if key != _TYPE and key not in _OPTIONS}
    try:
        arguments = transform(arguments, _as_json)
        references = find_references(arguments)
    except ArgumentError as error:
        raise error.of(name) from None
    if raw[_TYPE] == SHELL:
        _check_shell(name, arguments)
    dependencies = tuple(dict.fromkeys(reference.name for reference in references))
    extra = tuple(other for other in _extra(name, raw) if other not in dependencies)
    return StepNode(name, raw[_TYPE], arguments, dependencies, _options(name, raw), extra)


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
        if key.startswith("step_") and key not in _OPTIONS:
            raise ConfigurationError(
                f"step {name!r}: there is no key {key!r}{did_you_mean(key, list(_OPTIONS))}",
                f"the keys of steps are: {', '.join(_OPTIONS)}",
            )
    if _TYPE not in raw:
        raise ConfigurationError(
            f"step {name!r}: has no 'type'{_near_type(raw)}", "name a registered step, or 'shell'"
        )
    if not isinstance(raw[_TYPE], str) or not raw[_TYPE]:
        raise _wrong(name, _TYPE, "a text", raw[_TYPE])
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


def _as_json(value: Any, at: str) -> Any:
    """Hold arguments to what JSON can carry into a container. Tuples become lists, integer keys texts."""
    kind = type(value)
    if kind in (type(None), bool, int, float, str):
        return value
    if kind is tuple:
        return transform(list(value), _as_json, at)
    if kind is list:
        return DESCEND
    if isinstance(value, Mapping):
        for key in value:
            if type(key) not in (str, int):
                raise ArgumentError(at, f"has the key {key!r}, a {type(key).__name__}", "quote it")
        if kind is dict and all(type(key) is str for key in value):
            return DESCEND
        return transform({str(key): item for key, item in value.items()}, _as_json, at)
    remedy = (
        "quote it" if kind.__module__ == "datetime" else "use texts, numbers, booleans, lists and mappings"
    )
    raise ArgumentError(at, f"is a {kind.__name__}, which config cannot pass to a step", remedy)


def _options(name: str, raw: Mapping[str, Any]) -> StepOptions:
    image = raw.get("step_image")
    if not (image is None or (isinstance(image, str) and image) or isinstance(image, Mapping)):
        raise _wrong(name, "step_image", "a name or a declaration", image)
    network = raw.get("step_network")
    if network is not None and network not in _NETWORKS:
        raise _wrong(name, "step_network", "'bridge' or 'none'", network)
    cache_results = raw.get("cache_results")
    if not (cache_results is None or type(cache_results) is bool):
        raise _wrong(name, "cache_results", "true or false", cache_results)
    return StepOptions(
        image=image,
        resources=_resources(name, raw.get("step_resources")),
        env=_env(name, raw.get("step_env")),
        network=network,
        format=_format(name, raw.get("step_format")),
        metadata=_plain(name, "step_metadata", raw.get("step_metadata") or {}),
        cache_results=cache_results,
        unique_id=_unique_id(name, raw.get("step_unique_id_override")),
    )


def _format(name: str, raw: Any) -> str | dict[str, Any] | None:
    if raw is None or (isinstance(raw, str) and raw):
        return raw
    if not isinstance(raw, Mapping):
        raise _wrong(name, "step_format", "the name of a format, or a mapping with its 'type'", raw)
    return _plain(name, "step_format", raw)


def _plain(name: str, key: str, raw: Any) -> dict[str, Any]:
    """Hold the value of an option to a mapping that JSON can carry and that refers to no step."""
    if not isinstance(raw, Mapping):
        raise _wrong(name, key, "a mapping", raw)
    try:
        plain: dict[str, Any] = transform(dict(raw), _as_json, key)
        refers = bool(find_references(plain))
    except ArgumentError as error:
        raise ConfigurationError(f"step {name!r}: {error.argument}: {error.fact}", error.remedy) from None
    if refers:
        raise ConfigurationError(
            f"step {name!r}: {key}: refers to a step", "only arguments can refer to the results of steps"
        )
    return plain


def _unique_id(name: str, raw: Any) -> str | None:
    if raw is None or (isinstance(raw, str) and _UNIQUE_ID.fullmatch(raw)):
        return raw
    raise ConfigurationError(
        f"step {name!r}: step_unique_id_override: {raw!r} cannot be a unique id",
        "use at most 150 letters, digits and _ . -, and begin with a letter, digit or underscore",
    )


def _extra(name: str, raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Read the names of further steps to wait for, each written plainly or as a reference."""
    key = "step_extra_dependencies"
    listed = raw.get(key)
    if not (listed is None or isinstance(listed, (list, tuple))):
        raise _wrong(name, key, "a list of names of steps", listed)
    found = []
    for index, item in enumerate(listed or ()):
        try:
            reference = as_dependency(item, f"{key}[{index}]")
        except ArgumentError as error:
            raise ConfigurationError(f"step {name!r}: {error.argument}: {error.fact}", error.remedy) from None
        other = item if reference is None else reference.name
        if not isinstance(other, str) or (reference is not None and reference.key is not None):
            raise _wrong(name, f"{key}[{index}]", "the name of a step", item)
        found.append(other)
    return tuple(dict.fromkeys(found))


def _resources(name: str, raw: Any) -> StepResources:
    if raw is None:
        return StepResources()
    if not isinstance(raw, Mapping):
        raise _wrong(name, "step_resources", "a mapping", raw)
    try:
        return StepResources.from_config(raw)
    except ArgumentError as error:
        key = f"step_resources.{error.argument}"
        raise ConfigurationError(f"step {name!r}: {key}: {error.fact}", error.remedy) from None


def _env(name: str, raw: Any) -> dict[str, str]:
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise _wrong(name, "step_env", "a mapping", raw)
    env = {}
    for variable, value in raw.items():
        key = f"step_env.{variable}"
        if not isinstance(variable, str) or not _VARIABLE.fullmatch(variable):
            raise ConfigurationError(
                f"step {name!r}: {key}: {variable!r} cannot be the name of an environment variable",
                "use letters, digits and underscores",
            )
        if variable.upper().startswith("DISPATCH_"):
            raise ConfigurationError(
                f"step {name!r}: {key}: the name is reserved", "use a name without DISPATCH_"
            )
        # A boolean could be meant as 1, true or True: only its author knows.
        if type(value) not in (str, int, float) or "\0" in str(value):
            raise _wrong(name, key, "a text or a number", value)
        env[variable] = str(value)
    return env


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


def _wrong(name: str, key: str, expected: str, value: Any) -> ConfigurationError:
    shown = f" {value!r}" if isinstance(value, (str, int, float)) and len(repr(value)) <= 40 else ""
    return ConfigurationError(
        f"step {name!r}: {key}: expected {expected}, got {type(value).__name__}{shown}", f"correct {key}"
    )
