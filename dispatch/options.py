"""How a step is to be run, as config says it under the keys ``step_…``.

Owns those keys, their meaning and their errors. What a step computes from is the business of ``node``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, TypeVar

from dispatch.errors import ConfigurationError
from dispatch.params import DESCEND, ArgumentError, as_dependency, find_references, transform
from dispatch.resources import StepResources
from dispatch.retry import NO_RETRIES, RetryPolicy, read_retries
from dispatch.units import parse_duration

T = TypeVar("T")

KEYS = (
    "step_image",
    "step_resources",
    "step_env",
    "step_network",
    "step_secrets",
    "step_mounts",
    "step_retries",
    "step_timeout",
    "step_priority",
    "step_group",
    "step_format",
    "step_metadata",
    "step_extra_dependencies",
    "step_unique_id_override",
    "step_name",
    "cache_results",
)
_UNIQUE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,149}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_GROUP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_NETWORKS = ("bridge", "none")
_MOUNT_KEYS = ("source", "target", "read_only")
# Places of the container contract, and of the system.
_TAKEN = ("dispatch", "src", "proc", "sys", "dev")
_HIGHEST = 1000


@dataclass(frozen=True)
class SecretUse:
    """A secret that a step is given by name: as a file, and with ``env`` also as a variable of that name."""

    name: str
    env: bool = False


@dataclass(frozen=True)
class MountUse:
    """A path of the engine's host, as config spells it, shown in the step at the absolute path ``target``."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True)
class StepOptions:
    """How a step is run, apart from its arguments.

    ``image`` is a name of the catalogue or a declaration in place; None is the config's default.
    ``network`` is ``"bridge"``, ``"none"`` or None for the default. ``format`` is a registered name, a
    mapping with ``type`` and the format's own arguments, or None for the class's. ``metadata`` is the user's
    own, in JSON types. ``cache_results`` None leaves it to the class; ``unique_id`` None to the identity.
    ``timeout`` is how many seconds an attempt may run. Of ready steps those of the highest ``priority`` are
    started first; ``group`` names steps of which only so many may run at once, as the settings say.
    """

    image: str | Mapping[str, Any] | None = None
    resources: StepResources = field(default_factory=StepResources)
    env: Mapping[str, str] = field(default_factory=dict)
    network: str | None = None
    format: str | Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    cache_results: bool | None = None
    unique_id: str | None = None
    secrets: tuple[SecretUse, ...] = ()
    mounts: tuple[MountUse, ...] = ()
    retries: RetryPolicy = NO_RETRIES
    timeout: float | None = None
    priority: int = 0
    group: str | None = None


def read_options(name: str, raw: Mapping[str, Any]) -> StepOptions:
    """Return the options of the step ``name`` from its mapping. Raises ConfigurationError, naming it."""
    image = raw.get("step_image")
    if not (image is None or (isinstance(image, str) and image) or isinstance(image, Mapping)):
        raise wrong(name, "step_image", "a name or a declaration", image)
    network = raw.get("step_network")
    if network is not None and network not in _NETWORKS:
        raise wrong(name, "step_network", "'bridge' or 'none'", network)
    cache_results = raw.get("cache_results")
    if not (cache_results is None or type(cache_results) is bool):
        raise wrong(name, "cache_results", "true or false", cache_results)
    return StepOptions(
        image=image,
        resources=_resources(name, raw.get("step_resources")),
        env=_env(name, raw.get("step_env")),
        network=network,
        format=_format(name, raw.get("step_format")),
        metadata=_plain(
            name, "step_metadata", {} if raw.get("step_metadata") is None else raw["step_metadata"]
        ),
        cache_results=cache_results,
        unique_id=_unique_id(name, raw.get("step_unique_id_override")),
        secrets=_secrets(name, raw.get("step_secrets")),
        mounts=_mounts(name, raw.get("step_mounts")),
        retries=_of_step(name, read_retries, raw.get("step_retries")),
        timeout=_of_step(name, _timeout, raw.get("step_timeout")),
        priority=_priority(name, raw.get("step_priority")),
        group=_group(name, raw.get("step_group")),
    )


def _of_step(name: str, read: Callable[[Any], T], raw: Any) -> T:
    """Have an error say of which step it is."""
    try:
        return read(raw)
    except ConfigurationError as error:
        raise ConfigurationError(f"step {name!r}: {error.message}", error.remedy) from None


def _timeout(raw: Any) -> float | None:
    return None if raw is None else parse_duration(raw, "step_timeout")


def _priority(name: str, raw: Any) -> int:
    if raw is None:
        return 0
    if type(raw) is not int or abs(raw) > _HIGHEST:
        raise wrong(name, "step_priority", f"a whole number from -{_HIGHEST} to {_HIGHEST}", raw)
    return raw


def _group(name: str, raw: Any) -> str | None:
    if raw is None or (isinstance(raw, str) and _GROUP.fullmatch(raw)):
        return raw
    raise wrong(name, "step_group", "the name of a group", raw)


def _secrets(name: str, raw: Any) -> tuple[SecretUse, ...]:
    """Read names of secrets, each plain, or as ``{name: NAME, env: true}``."""
    if not (raw is None or isinstance(raw, (list, tuple))):
        raise wrong(name, "step_secrets", "a list of names of secrets", raw)
    found: dict[str, SecretUse] = {}
    for index, item in enumerate(raw or ()):
        key = f"step_secrets[{index}]"
        entry = {"name": item} if isinstance(item, str) else item
        if not isinstance(entry, Mapping) or not set(entry) <= {"name", "env"}:
            raise wrong(name, key, "a name, or {name: NAME, env: true}", item)
        secret, env = entry.get("name"), entry.get("env", False)
        if not isinstance(secret, str) or not _VARIABLE.fullmatch(secret) or type(env) is not bool:
            raise wrong(name, key, "the name of a secret, of letters, digits and _", item)
        if secret in found:
            raise ConfigurationError(f"step {name!r}: {key}: {secret!r} is there twice", "name it once")
        found[secret] = SecretUse(secret, env)
    return tuple(found.values())


def _mounts(name: str, raw: Any) -> tuple[MountUse, ...]:
    if not (raw is None or isinstance(raw, (list, tuple))):
        raise wrong(name, "step_mounts", "a list of mounts", raw)
    found: dict[str, MountUse] = {}
    for index, item in enumerate(raw or ()):
        key = f"step_mounts[{index}]"
        if not isinstance(item, Mapping) or not set(item) <= set(_MOUNT_KEYS):
            raise wrong(name, key, "{source: …, target: …, read_only: true}", item)
        source, read_only = item.get("source"), item.get("read_only", True)
        if not isinstance(source, str) or not source or "\0" in source or type(read_only) is not bool:
            raise wrong(name, key, "{source: …, target: …, read_only: true}", item)
        target = _target(name, f"{key}.target", item.get("target"))
        if target in found:
            raise ConfigurationError(f"step {name!r}: {key}: {target} is mounted twice", "name it once")
        found[target] = MountUse(source, target, read_only)
    return tuple(found.values())


def _target(name: str, key: str, raw: Any) -> str:
    path = PurePosixPath(raw) if isinstance(raw, str) and "\0" not in raw else PurePosixPath()
    if not path.is_absolute() or ".." in path.parts or len(path.parts) < 2:
        raise wrong(name, key, "an absolute path below / without '..'", raw)
    if path.parts[1] in _TAKEN:
        raise ConfigurationError(
            f"step {name!r}: {key}: {raw!r} lies in a place that is taken", "mount it elsewhere"
        )
    return str(path)


def _format(name: str, raw: Any) -> str | dict[str, Any] | None:
    if raw is None or (isinstance(raw, str) and raw):
        return raw
    if not isinstance(raw, Mapping):
        raise wrong(name, "step_format", "the name of a format, or a mapping with its 'type'", raw)
    return _plain(name, "step_format", raw)


def _plain(name: str, key: str, raw: Any) -> dict[str, Any]:
    """Hold the value of an option to a mapping that JSON can carry and that refers to no step."""
    if not isinstance(raw, Mapping):
        raise wrong(name, key, "a mapping", raw)
    try:
        plain: dict[str, Any] = transform(dict(raw), as_json, key)
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


def read_extra(name: str, raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Read the names of further steps to wait for, each written plainly or as a reference."""
    key = "step_extra_dependencies"
    listed = raw.get(key)
    if not (listed is None or isinstance(listed, (list, tuple))):
        raise wrong(name, key, "a list of names of steps", listed)
    found = []
    for index, item in enumerate(listed or ()):
        try:
            reference = as_dependency(item, f"{key}[{index}]")
        except ArgumentError as error:
            raise ConfigurationError(f"step {name!r}: {error.argument}: {error.fact}", error.remedy) from None
        other = item if reference is None else reference.name
        if not isinstance(other, str) or (reference is not None and reference.key is not None):
            raise wrong(name, f"{key}[{index}]", "the name of a step", item)
        found.append(other)
    return tuple(dict.fromkeys(found))


def _resources(name: str, raw: Any) -> StepResources:
    if raw is None:
        return StepResources()
    if not isinstance(raw, Mapping):
        raise wrong(name, "step_resources", "a mapping", raw)
    try:
        return StepResources.from_config(raw)
    except ArgumentError as error:
        key = f"step_resources.{error.argument}"
        raise ConfigurationError(f"step {name!r}: {key}: {error.fact}", error.remedy) from None


def _env(name: str, raw: Any) -> dict[str, str]:
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise wrong(name, "step_env", "a mapping", raw)
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
            raise wrong(name, key, "a text or a number", value)
        env[variable] = str(value)
    return env


def as_json(value: Any, at: str) -> Any:
    """Hold arguments to what JSON can carry into a container. Tuples become lists, integer keys texts."""
    kind = type(value)
    if kind in (type(None), bool, int, float, str):
        return value
    if kind is tuple:
        return transform(list(value), as_json, at)
    if kind is list:
        return DESCEND
    if isinstance(value, Mapping):
        for key in value:
            if type(key) not in (str, int):
                raise ArgumentError(at, f"has the key {key!r}, a {type(key).__name__}", "quote it")
        if kind is dict and all(type(key) is str for key in value):
            return DESCEND
        return transform({str(key): item for key, item in value.items()}, as_json, at)
    remedy = (
        "quote it" if kind.__module__ == "datetime" else "use texts, numbers, booleans, lists and mappings"
    )
    raise ArgumentError(at, f"is a {kind.__name__}, which config cannot pass to a step", remedy)


def wrong(name: str, key: str, expected: str, value: Any) -> ConfigurationError:
    """The error for a value of another kind than ``key`` takes."""
    shown = f" {value!r}" if isinstance(value, (str, int, float)) and len(repr(value)) <= 40 else ""
    return ConfigurationError(
        f"step {name!r}: {key}: expected {expected}, got {type(value).__name__}{shown}", f"correct {key}"
    )
