"""A graph of named steps as config declares it: validated, acyclic, and still plain data.

Owns what may be written under ``steps:``, save the arguments of Python steps, which only their code can
judge. Knows no step classes and imports no user code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dispatch.errors import ConfigurationError, did_you_mean
from dispatch.params import DESCEND, ArgumentError, as_dependency, find_references, transform
from dispatch.step import SHELL, StepResources

__all__ = ["SHELL", "StepGraph", "StepNode", "StepOptions"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_TYPE = "type"
_OPTIONS = ("step_image", "step_resources", "step_env", "step_network", "step_format")
_LATER = (
    "step_secrets",
    "step_mounts",
    "step_retries",
    "step_timeout",
    "step_identity",
    "step_extra_dependencies",
)
_NETWORKS = ("bridge", "none")
_SHELL_ARGUMENTS = ("command", "inputs", "paths")


@dataclass(frozen=True)
class StepOptions:
    """How a step is run, apart from its arguments.

    ``image`` is a name of the catalogue or a declaration in place; None is the config's default.
    ``network`` is ``"bridge"``, ``"none"`` or None for the default. ``format`` is a registered name or None
    for the class's.
    """

    image: str | Mapping[str, Any] | None = None
    resources: StepResources = field(default_factory=StepResources)
    env: Mapping[str, str] = field(default_factory=dict)
    network: str | None = None
    format: str | None = None


@dataclass(frozen=True)
class StepNode:
    """A named step: its type, its arguments as config says them, and its options.

    ``dependencies`` are the names of the steps that the arguments refer to, each once, in order.
    """

    name: str
    type: str
    arguments: Mapping[str, Any]
    dependencies: tuple[str, ...] = ()
    options: StepOptions = field(default_factory=StepOptions)


class StepGraph(Mapping[str, StepNode]):
    """Steps by name, in the order of the config. Every reference leads to a step, and none in a circle."""

    def __init__(self, nodes: Iterable[StepNode]) -> None:
        """Raises ConfigurationError for a name that is there twice, a missing reference or a cycle."""
        self._nodes: dict[str, StepNode] = {}
        for node in nodes:
            if node.name in self._nodes:
                raise ConfigurationError(f"step {node.name!r}: is there twice", "rename one of them")
            self._nodes[node.name] = node
        self._check_references()
        self._order = _topological(self._nodes)
        self._dependents: dict[str, list[str]] = {name: [] for name in self._nodes}
        for node in self._nodes.values():
            for dependency in node.dependencies:
                self._dependents[dependency].append(node.name)

    @classmethod
    def from_params(cls, steps: Mapping[str, Any]) -> StepGraph:
        """Make a graph of what config says under ``steps:``. Raises ConfigurationError, naming the step."""
        if not isinstance(steps, Mapping):
            raise ConfigurationError(
                f"steps: expected a mapping of names to steps, got {type(steps).__name__}",
                "write `steps:` with one entry a step",
            )
        return cls([_node(name, raw) for name, raw in steps.items()])

    @property
    def order(self) -> tuple[str, ...]:
        """All names, dependencies before their dependents; otherwise in the order of the config."""
        return self._order

    def sub_graph(self, names: Iterable[str]) -> StepGraph:
        """Return the graph of the named steps and of all that they need.

        Raises ConfigurationError for an unknown name.
        """
        kept: set[str] = set()
        todo = list(names)
        for name in todo:
            if name not in self._nodes:
                raise ConfigurationError(
                    f"there is no step {name!r}{did_you_mean(str(name), list(self._nodes))}",
                    f"the steps are: {', '.join(self._nodes)}",
                )
        while todo:
            name = todo.pop()
            if name not in kept:
                kept.add(name)
                todo.extend(self._nodes[name].dependencies)
        return StepGraph(node for node in self._nodes.values() if node.name in kept)

    def dependents(self, name: str) -> tuple[str, ...]:
        """Return the steps that refer to ``name`` themselves, in the order of the config."""
        return tuple(self._dependents[name])

    def __getitem__(self, name: str) -> StepNode:
        return self._nodes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def __repr__(self) -> str:
        return f"StepGraph({', '.join(self._nodes)})"

    def _check_references(self) -> None:
        for node in self._nodes.values():
            for dependency in node.dependencies:
                if dependency not in self._nodes:
                    near = did_you_mean(dependency, list(self._nodes))
                    raise ConfigurationError(
                        f"step {node.name!r}: refers to {dependency!r}, which is no step{near}",
                        f"the steps are: {', '.join(self._nodes)}",
                    )


def _topological(nodes: Mapping[str, StepNode]) -> tuple[str, ...]:
    """Return an order, depth first in the order of the config. No recursion: chains may be of any length."""
    done: dict[str, None] = {}
    for root in nodes:
        path: dict[str, Iterator[str]] = {}
        current: str | None = root
        while current is not None:
            if current not in done and current not in path:
                path[current] = iter(nodes[current].dependencies)
            if not path:
                break
            last = next(reversed(path))
            current = next((name for name in path[last] if name not in done), None)
            if current is None:
                del path[last]
                done[last] = None
                current = next(reversed(path), None)
            elif current in path:
                names = list(path)
                circle = [*names[names.index(current) :], current]
                raise ConfigurationError(
                    f"steps refer to each other in a circle: {' → '.join(circle)}",
                    "remove one of these references",
                )
    return tuple(done)


def _node(name: Any, raw: Any) -> StepNode:
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
    return StepNode(name, raw[_TYPE], arguments, dependencies, _options(name, raw))


def _check_keys(name: str, raw: Mapping[Any, Any]) -> None:
    for key in raw:
        if not isinstance(key, str):
            raise ConfigurationError(f"step {name!r}: the key {key!r} is not a text", "quote it")
        if key in _LATER:
            raise ConfigurationError(f"step {name!r}: {key!r} is not supported yet", f"leave {key} out")
        if key.startswith("step_") and key not in _OPTIONS:
            raise ConfigurationError(
                f"step {name!r}: there is no key {key!r}{did_you_mean(key, list(_OPTIONS))}",
                f"keys that begin with 'step_' are: {', '.join(_OPTIONS)}",
            )
    if _TYPE not in raw:
        raise ConfigurationError(
            f"step {name!r}: has no 'type'{_near_type(raw)}", "name a registered step, or 'shell'"
        )
    if not isinstance(raw[_TYPE], str) or not raw[_TYPE]:
        raise _wrong(name, _TYPE, "a text", raw[_TYPE])
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
    format = raw.get("step_format")
    if not (format is None or (isinstance(format, str) and format)):
        raise _wrong(name, "step_format", "the name of a format", format)
    resources = _resources(name, raw.get("step_resources"))
    return StepOptions(image, resources, _env(name, raw.get("step_env")), network, format)


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
