"""How a workspace, an executor and a mount are written, as values.

Owns spelling only: whether a kind of workspace or executor works yet is decided by who makes one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from dispatch.errors import ConfigurationError, did_you_mean
from dispatch.settings.section import Section, one_of

if TYPE_CHECKING:
    from dispatch.settings.beaker import BeakerSetup

WORKSPACES = ("local", "memory", "beaker")
EXECUTORS = ("docker", "local", "beaker")
START_METHODS = ("fork", "spawn")
_FROM_URL = "from_url"
_GPU = re.compile(r"[A-Za-z0-9][A-Za-z0-9:./_-]{0,99}")
_MOST_GPUS = 64
# As `step_group` takes it in config, whose reader is too much to import for this.
_GROUP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_TAKEN = ("dispatch", "src", "proc", "sys", "dev")


@dataclass(frozen=True)
class WorkspaceSetting:
    """Which workspace: its type, an absolute directory for a local one, and what else its type takes.

    ``type`` is never ``from_url``: what a URL names is read here.
    """

    type: str
    dir: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The URL from which ``Workspace.from_url`` makes it."""
        from urllib.parse import quote

        if self.dir is not None:
            return f"local://{quote(bytes(self.dir))}"
        name = self.options.get("beaker_workspace") or self.options.get("name") or ""
        return f"{self.type}://{quote(name)}"


@dataclass(frozen=True)
class ExecutorSetting:
    """Which executor (None: by what the steps need), and how many steps at once (None: its own default; -1:
    no limit).

    ``start_method`` says how processes for steps of this machine begin: ``fork`` or ``spawn`` (None: the
    default). ``gpus`` are the ids of the GPUs of the engine's host that may be used (None: all there are).
    ``beaker`` is what the executor for Beaker takes; None for others, and where its type alone is said.
    """

    type: str | None = None
    parallelism: int | None = None
    start_method: str | None = None
    gpus: tuple[str, ...] | None = None
    beaker: BeakerSetup | None = None

    @property
    def options(self) -> Mapping[str, Any]:
        """What the client of Beaker is told, and the workspace there where the settings name one."""
        if self.beaker is None:
            return {}
        name = self.beaker.beaker_workspace
        return {**self.beaker.options, **({"beaker_workspace": name} if name else {})}


@dataclass(frozen=True)
class MountSetting:
    """A path of the engine's host, shown in every step at the absolute path ``target``."""

    source: Path
    target: str
    read_only: bool = True


@dataclass(frozen=True)
class Base:
    """What paths in a text are relative to: a directory, and the user's home for ``~/``."""

    directory: Path
    home: Path

    def resolve(self, text: str) -> Path:
        """Return the absolute path that ``text`` means, without ``.`` and ``..`` being followed."""
        if text == "~" or text.startswith("~/"):
            return self.home / text[2:]
        return self.directory / text


def parse_workspace(text: str, base: Base) -> WorkspaceSetting:
    """Read a workspace's URL (``local:///data/ws``, ``memory://``, ``beaker://ai2/name``) or plain path."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        return WorkspaceSetting("local", base.resolve(text))
    from urllib.parse import unquote

    if scheme not in WORKSPACES:
        near = did_you_mean(scheme, list(WORKSPACES))
        raise ConfigurationError(f"workspace {text!r}: unknown {scheme!r}{near}", one_of(WORKSPACES))
    if scheme == "memory":
        return WorkspaceSetting("memory", None, MappingProxyType({"name": unquote(rest)} if rest else {}))
    if not rest:
        raise ConfigurationError(f"workspace {text!r}: nothing after '://'", "name a directory or workspace")
    if scheme == "local":
        return WorkspaceSetting("local", base.resolve(unquote(rest)))
    return WorkspaceSetting("beaker", None, MappingProxyType({"beaker_workspace": unquote(rest)}))


def read_workspace(section: Section, key: str, base: Base) -> WorkspaceSetting | None:
    """Read a workspace given as a text or as ``{type: local, dir: …}``."""
    value = section.content.get(key)
    if value is None:
        return None
    if isinstance(value, str):
        text = section.text(key)
        assert text is not None
        try:
            return parse_workspace(text, base)
        except ConfigurationError as error:
            raise section.refusal(key, error.message, error.remedy) from None
    if not isinstance(value, dict):
        raise section.wrong(key, "a path, a URL or {type: local, dir: …}", value)
    mapping = section.section(key)
    assert mapping is not None
    kinds = (*WORKSPACES, _FROM_URL)
    kind = mapping.choice("type", kinds)
    if kind is None:
        raise mapping.refusal(None, f"{key}: says no type", one_of(kinds))
    return _workspace(mapping, key, kind, base)


def _workspace(mapping: Section, key: str, kind: str, base: Base) -> WorkspaceSetting:
    if kind == "local":
        mapping.only(("type", "dir"))
        directory = mapping.text("dir")
        if directory is None:
            raise mapping.refusal(None, f"{key}: a local workspace needs `dir:`", "name its directory")
        return WorkspaceSetting(kind, base.resolve(directory))
    if kind == _FROM_URL:
        mapping.only(("type", "url"))
        found = read_workspace(mapping, "url", base)
        if found is None:
            raise mapping.refusal(None, f"{key}: from_url needs `url:`", "name it, such as local:///data/ws")
        return found
    if kind == "memory":
        mapping.only(("type",))
        return WorkspaceSetting(kind)
    return _on_beaker(mapping, key)


def _on_beaker(mapping: Section, key: str) -> WorkspaceSetting:
    """Read ``{type: beaker, beaker_workspace: ORG/NAME}``; its later days called it `workspace`."""
    from dispatch.settings.beaker import CLIENT

    names = ("beaker_workspace", "workspace")
    mapping.only(("type", *names, *CLIENT))
    given = [name for name in names if name in mapping]
    if len(given) != 1:
        fact = f"{key}: {'names its workspace twice' if given else 'does not say which'}"
        raise mapping.refusal(None, fact, "write `beaker_workspace: ORG/NAME`")
    options = {"beaker_workspace": mapping.text(given[0])} | _rest(mapping, "type", *names)
    return WorkspaceSetting("beaker", None, MappingProxyType(options))


def read_executor(section: Section, key: str) -> ExecutorSetting:
    """Read an executor given as ``{type: docker, parallelism: 4}`` or as the bare type."""
    if isinstance(section.content.get(key), str):
        return ExecutorSetting(section.choice(key, EXECUTORS))
    mapping = section.section(key)
    if mapping is None:
        return ExecutorSetting()
    kind = mapping.choice("type", EXECUTORS)
    for taken in ("workspace", "include_package"):
        if taken in mapping:
            fact = f"{key}: {taken!r} does not belong here"
            raise mapping.refusal(taken, fact, f"write `{taken}:` at the top of the file")
    beaker = None
    if kind == "beaker":
        from dispatch.settings.beaker import read_setup

        beaker = read_setup(mapping)
    else:
        only_here = () if kind == "docker" else ("start_method",)
        mapping.only(("type", "parallelism", "gpus", *only_here))
    parallelism = mapping.integer("parallelism")
    if parallelism is not None and parallelism < 1 and parallelism != -1:
        raise mapping.wrong("parallelism", "a number from 1, or -1 for no limit", parallelism)
    start_method = mapping.choice("start_method", START_METHODS)
    return ExecutorSetting(kind, parallelism, start_method, _gpus(mapping, "gpus"), beaker)


def _gpus(mapping: Section, key: str) -> tuple[str, ...] | None:
    """Read how many GPUs there are, counted from 0, or a list of their ids."""
    value = mapping.content.get(key)
    if value is None:
        return None
    if type(value) is int and 0 <= value <= _MOST_GPUS:
        return tuple(str(index) for index in range(value))
    ids = [str(each) for each in value if type(each) in (int, str)] if isinstance(value, list) else []
    if not isinstance(value, list) or len(ids) < len(value) or not all(map(_GPU.fullmatch, ids)):
        raise mapping.wrong(key, "how many GPUs there are, or a list of their ids", value)
    if len(set(ids)) < len(ids):
        raise mapping.refusal(key, f"{key}: an id is there twice", "name each GPU once")
    return tuple(ids)


def read_groups(section: Section, key: str) -> Mapping[str, int]:
    """Read how many steps of each group may run at once: names to numbers from 1."""
    groups = section.section(key)
    found: dict[str, int] = {}
    for name in groups or ():
        assert groups is not None
        if not _GROUP.fullmatch(name):
            fact = f"{name!r} is no name of a group"
            raise groups.refusal(name, fact, "use at most 100 letters, digits and _ . -")
        limit = groups.integer(name)
        if limit is None or limit < 1:
            raise groups.wrong(name, "a number from 1", limit)
        found[name] = limit
    return MappingProxyType(found)


def read_mounts(section: Section, key: str, base: Base) -> tuple[MountSetting, ...]:
    """Read a list of ``{source: …, target: …, read_only: true}``."""
    found: dict[str, MountSetting] = {}
    for mapping in section.sections(key):
        mount = _mount(mapping, base)
        if mount.target in found:
            fact = f"target: {mount.target!r} is mounted twice"
            raise mapping.refusal("target", fact, "name it once")
        found[mount.target] = mount
    return tuple(found.values())


def _mount(mapping: Section, base: Base) -> MountSetting:
    mapping.only(("source", "target", "read_only"))
    source, target, read_only = mapping.text("source"), mapping.text("target"), mapping.flag("read_only")
    if source is None or target is None:
        raise mapping.refusal(None, "a mount needs `source:` and `target:`")
    path = PurePosixPath(target)
    if not path.is_absolute() or ".." in path.parts or len(path.parts) < 2:
        raise mapping.wrong("target", "an absolute path below / without '..'", target)
    if path.parts[1] in _TAKEN:
        fact = f"target: {target!r} lies in a place that is taken"
        raise mapping.refusal("target", fact, "mount it elsewhere")
    return MountSetting(base.resolve(source), str(path), True if read_only is None else read_only)


def read_trusted(section: Section, key: str, base: Base) -> tuple[WorkspaceSetting, ...]:
    """Read a list of workspaces whose pickles may be loaded whoever wrote them."""
    trusted = []
    for index, text in enumerate(section.texts(key)):
        try:
            trusted.append(parse_workspace(text, base))
        except ConfigurationError as error:
            fact = f"{key}, entry {index + 1}: {error.message}"
            raise section.refusal(key, fact, error.remedy) from None
    return tuple(trusted)


def _rest(mapping: Section, *read: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.content.items() if key not in read}
