"""The configuration file: YAML to a :class:`~dispatch.beakerd.config.Config`.

Owns what is refused in it. Keys are the fields of ``config``; what is left out has its default. A user, a
workspace, a cluster and a budget belong to organizations that the file names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from dispatch.beakerd.config import (
    Assumptions,
    ClusterConfig,
    Config,
    Interception,
    Limits,
    NameScope,
    NodeConfig,
    UserConfig,
    WorkspaceConfig,
)
from dispatch.beakerd.sections import (
    Section,
    amount,
    choice,
    directory,
    duration,
    flag,
    full_name,
    hostname,
    many,
    name,
    pairs,
    size,
    text,
    unique,
    whole,
)
from dispatch.beakerd.store.setup import PRIORITIES
from dispatch.beakerd.yamltext import read_yaml
from dispatch.errors import ConfigurationError, did_you_mean

_LARGEST = 1 << 20
_MANY = 1 << 16
_DEFAULT = Config()


def read_config(path: Path) -> Config:
    """The configuration in a file.

    :raises ConfigurationError: for what cannot be read, is not YAML, or makes no sense
    """
    try:
        content = path.read_bytes()
        if len(content) > _LARGEST:
            raise ConfigurationError(f"{path}: is larger than {_LARGEST} bytes", "name a configuration file")
        return parse_config(content.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{path}: not UTF-8 text (byte {error.start})", "save the file as UTF-8"
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be read: {error.strerror or error}", "name a file that is there and readable"
        ) from None


def parse_config(written: str, at: str) -> Config:
    """The configuration in a text; ``at`` is what messages call it.

    :raises ConfigurationError: for what is not YAML, or makes no sense
    """
    root = Section({} if (found := read_yaml(written, at)) is None else found, at, ": ")
    config = Config(
        organizations=root.get("organizations", many(name), _DEFAULT.organizations),
        users=root.get("users", many(_user), _DEFAULT.users),
        workspaces=root.get("workspaces", many(_workspace), _DEFAULT.workspaces),
        clusters=root.get("clusters", many(_cluster), _DEFAULT.clusters),
        images=root.get("images", _images, _DEFAULT.images),
        host_paths=root.get("host_paths", many(directory), ()),
        assume=root.get("assume", _assumptions, _DEFAULT.assume),
        limits=root.get("limits", _limits, _DEFAULT.limits),
        rpc_port=root.get("rpc_port", whole(0, 65535), 0),
        rest_port=root.get("rest_port", whole(0, 65535), 0),
        control=root.get("control", flag, False),
        rest_tls=root.get("rest_tls", flag, False),
        intercept=root.get("intercept", _interception, None),
    )
    root.end()
    _check(config, at)
    return config


def _user(value: Any, at: str) -> UserConfig:
    section = Section(value, at)
    user = UserConfig(
        name=section.need("name", name),
        organizations=section.need("organizations", many(name)),
        email=section.get("email", text, ""),
        admin=section.get("admin", flag, False),
    )
    section.end()
    return user


def _workspace(value: Any, at: str) -> WorkspaceConfig:
    section = Section(value, at)
    workspace = WorkspaceConfig(
        name=section.need("name", full_name),
        budget=section.need("budget", full_name),
        description=section.get("description", text, ""),
        maximum_priority=section.get("maximum_priority", choice(tuple(PRIORITIES), "priority"), "immediate"),
    )
    section.end()
    return workspace


def _cluster(value: Any, at: str) -> ClusterConfig:
    section = Section(value, at)
    cluster = ClusterConfig(
        name=section.need("name", full_name),
        nodes=section.need("nodes", many(_node)),
        aliases=section.get("aliases", many(name), ()),
        tags=section.get("tags", many(_tag), ()),
        max_task_timeout=section.get("max_task_timeout", duration, None),
    )
    section.end()
    return cluster


def _tag(value: Any, at: str) -> str:
    """``key`` or ``key:value``; the two parts may hold what names may."""
    key, colon, rest = text(value, at).partition(":")
    return f"{name(key, at)}:{name(rest, at)}" if colon else name(key, at)


def _node(value: Any, at: str) -> NodeConfig:
    section = Section(value, at)
    node = NodeConfig(
        hostname=section.need("hostname", hostname),
        cpus=section.get("cpus", amount, None),
        memory=section.get("memory", size, None),
        gpus=section.get("gpus", whole(0, 1024), 0),
        gpu_type=section.get("gpu_type", choice(_gpu_types(), "GPU type"), None),
        cordoned=section.get("cordoned", text, None),
        slots=section.get("slots", whole(1, _MANY), None),
    )
    section.end()
    if node.gpu_type and not node.gpus:
        raise ConfigurationError(f"{at}.gpu_type: the node has no GPUs", "write `gpus:`, how many there are")
    return node


@lru_cache(maxsize=1)
def _gpu_types() -> tuple[str, ...]:
    from beaker import beaker_pb2 as pb2

    known = (each.removeprefix("GPU_TYPE_") for each in dict(pb2.GpuType.items()))
    return tuple(each for each in known if each != "UNSPECIFIED")


def _images(value: Any, at: str) -> Mapping[str, str]:
    images = {}
    for key, reference, where in pairs(value, at):
        if not text(reference, where) or any(letter.isspace() for letter in reference):
            raise ConfigurationError(
                f"{where}: {reference!r} is no reference of an image", "write one that the engine holds"
            )
        images[full_name(key, where)] = reference
    return images


def _assumptions(value: Any, at: str) -> Assumptions:
    section = Section(value, at)
    found: dict[str, Any] = {}
    for each in fields(Assumptions):
        default = getattr(_DEFAULT.assume, each.name)
        if isinstance(default, NameScope):
            words = choice(tuple(scope.value for scope in NameScope), "scope of names")
            found[each.name] = NameScope(section.get(each.name, words, default.value))
        else:
            found[each.name] = section.get(
                each.name, flag if isinstance(default, bool) else duration, default
            )
    section.end()
    return Assumptions(**found)


def _limits(value: Any, at: str) -> Limits:
    section = Section(value, at)
    found: dict[str, Any] = {}
    for each in fields(Limits):
        default = getattr(_DEFAULT.limits, each.name)
        reader = duration if isinstance(default, float) else whole(1, _MANY) if each.name == "page" else size
        found[each.name] = section.get(each.name, reader, default)
    section.end()
    return Limits(**found)


def _interception(value: Any, at: str) -> Interception:
    section = Section(value, at)
    found = Interception(host=section.need("host", hostname), mirrors=section.need("mirrors", directory))
    section.end()
    return found


def _check(config: Config, at: str) -> None:
    """Refuse what makes no sense together."""
    for key in ("organizations", "users", "workspaces", "clusters"):
        if not getattr(config, key):
            raise ConfigurationError(f"{at}: {key}: is empty", "name one at least, or leave the key out")
    unique(config.organizations, f"{at}: organizations")
    unique([user.name for user in config.users], f"{at}: users")
    unique([workspace.name for workspace in config.workspaces], f"{at}: workspaces")
    unique([node.hostname for cluster in config.clusters for node in cluster.nodes], f"{at}: hostname")
    names = [cluster.name for cluster in config.clusters]
    for cluster in config.clusters:
        owner = cluster.name.partition("/")[0]
        names += [f"{owner}/{alias}" for alias in cluster.aliases]
        if not cluster.nodes:
            raise ConfigurationError(f"{at}: cluster {cluster.name!r} has no nodes", "name one at least")
    unique(names, f"{at}: clusters and aliases")
    for user in config.users:
        for organization in user.organizations:
            _known(organization, config, f"{at}: user {user.name!r}")
    for workspace in config.workspaces:
        _known(workspace.name.partition("/")[0], config, f"{at}: workspace {workspace.name!r}")
        _known(workspace.budget.partition("/")[0], config, f"{at}: budget {workspace.budget!r}")
    for cluster in config.clusters:
        _known(cluster.name.partition("/")[0], config, f"{at}: cluster {cluster.name!r}")
    if config.rpc_port and config.rpc_port == config.rest_port:
        raise ConfigurationError(
            f"{at}: rpc_port and rest_port are the same", "give them two, or 0: any free"
        )


def _known(organization: str, config: Config, at: str) -> None:
    if organization not in config.organizations:
        near = did_you_mean(organization, list(config.organizations))
        raise ConfigurationError(
            f"{at}: there is no organization {organization!r}{near}",
            f"the organizations are: {', '.join(config.organizations)}",
        )
