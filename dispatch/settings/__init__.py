"""The user's settings: which file holds them, and what they are as a typed value.

Owns ``dispatch.yml`` and, with ``surroundings``, the environment variables. The first file found counts
alone: from the working directory upward to the repository's root, then the user's own. Outside a repository
only the working directory is looked at, so that nobody else's file is picked up on the way to ``/``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dispatch.environment import Environment
from dispatch.settings.document import read_document
from dispatch.settings.images import read_image_name
from dispatch.settings.matrix import read_images
from dispatch.settings.registry import RegistrySetting, parse_registry, read_registry
from dispatch.settings.secrets import SecretSource, read_secrets
from dispatch.settings.section import Section
from dispatch.settings.source import SourceMode, SourceSetting, read_source
from dispatch.settings.surroundings import Surroundings, read_environment, read_variables
from dispatch.settings.values import (
    Base,
    ExecutorSetting,
    MountSetting,
    WorkspaceSetting,
    parse_workspace,
    read_executor,
    read_groups,
    read_mounts,
    read_trusted,
    read_workspace,
)

__all__ = [
    "SETTINGS_FILE",
    "Base",
    "ExecutorSetting",
    "MountSetting",
    "RegistrySetting",
    "Settings",
    "SourceMode",
    "SourceSetting",
    "Surroundings",
    "WorkspaceSetting",
    "find_settings",
    "parse_registry",
    "parse_workspace",
    "read_environment",
    "read_modules",
    "read_settings",
    "read_variables",
    "repository_root",
]

SETTINGS_FILE = "dispatch.yml"
DEFAULT_WORKSPACE = "workspace"

KEYS = (
    "workspace",
    "executor",
    "include_package",
    "image",
    "images",
    "registry",
    "env",
    "mounts",
    "groups",
    "secrets",
    "shared_dirs",
    "allow_dirty",
    "source",
    "default_format",
    "trusted_workspaces",
)

# What the ancestor's settings call a thing, and what takes its place here.
_MOVED = {
    "multiprocessing_start_method": ("here it is `executor.start_method`", "executor: {start_method: spawn}"),
    "environment": ("here it is `env`", "env: {NAME: value}"),
    "log_level": ("there is none to set: all that a step prints is kept", ""),
    "file_friendly_logging": ("there is nothing to set: progress is plain lines", ""),
}

# Names under which a file does nothing here, though its owner may believe otherwise.
_LOOKALIKES = ("tango.yml", "tango.yaml", "dispatch.yaml")
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_FORMAT = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]*")


@dataclass(frozen=True)
class Settings:
    """All settings, with defaults; every path is absolute.

    ``path`` is the file they came from, None if there is none. ``allow_dirty`` None leaves it to the
    executor. ``default_format`` is a format's name, or a mapping of its ``type`` and what that takes.
    ``registry`` is where the team shares its images, and
    ``groups`` says how many steps of a group may run at once.
    ``notices`` are lines that the user should be told, once.
    """

    workspace: WorkspaceSetting
    executor: ExecutorSetting = field(default_factory=ExecutorSetting)
    include_package: tuple[str, ...] = ()
    image: str | None = None
    images: Mapping[str, Environment] = field(default_factory=dict)
    registry: RegistrySetting | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[MountSetting, ...] = ()
    groups: Mapping[str, int] = field(default_factory=dict)
    secrets: Mapping[str, SecretSource] = field(default_factory=dict)
    shared_dirs: tuple[Path, ...] = ()
    allow_dirty: bool | None = None
    source: SourceSetting = field(default_factory=SourceSetting)
    default_format: str | Mapping[str, Any] | None = None
    trusted_workspaces: tuple[WorkspaceSetting, ...] = ()
    path: Path | None = None
    notices: tuple[str, ...] = ()


def repository_root(directory: Path) -> Path | None:
    """Return the nearest directory from ``directory`` upward that contains ``.git``, or None.

    ``directory`` must be absolute. Links are not followed: the path is taken as it is written.
    """
    return next((place for place in (directory, *directory.parents) if (place / ".git").exists()), None)


def find_settings(directory: Path, surroundings: Surroundings, explicit: Path | None = None) -> Settings:
    """Return the settings that hold in ``directory`` (absolute); plain defaults where no file is found.

    ``explicit`` names the one file that counts, relative to ``directory``; none is looked for then. Raises
    ConfigurationError for a file that is found, or named, and cannot be read and understood.
    """
    if explicit is not None:
        path = directory / explicit
        beside = WorkspaceSetting("local", path.parent / DEFAULT_WORKSPACE)
        return read_settings(path, surroundings.home, beside)
    root = repository_root(directory)
    default = WorkspaceSetting("local", (root or directory) / DEFAULT_WORKSPACE)
    notices: list[str] = []
    for place in _places(directory, root):
        path = place / SETTINGS_FILE
        if path.is_file():
            beside = WorkspaceSetting("local", place / DEFAULT_WORKSPACE)
            return read_settings(path, surroundings.home, beside)
        notices += [_hint(place / name) for name in _LOOKALIKES if (place / name).is_file()]
    path = surroundings.config / SETTINGS_FILE
    if path.is_file():
        found = read_settings(path, surroundings.home, default)
        return replace(found, notices=(*notices, *found.notices))
    return Settings(workspace=default, notices=tuple(notices))


def read_settings(path: Path, home: Path, default: WorkspaceSetting) -> Settings:
    """Read one settings file (absolute path). ``default`` is the workspace where the file names none."""
    section = Section.of(read_document(path))
    _refuse_moved(section)
    section.only(KEYS)
    base = Base(path.parent, home)
    executor = read_executor(section, "executor")
    # A path of Beaker's hosts that every job sees is one that its user has declared to be shared.
    on_hosts = executor.beaker.host_paths if executor.beaker is not None else ()
    return Settings(
        workspace=read_workspace(section, "workspace", base) or default,
        executor=executor,
        include_package=read_modules(section, "include_package"),
        image=read_image_name(section, "image"),
        images=read_images(section.section("images")),
        registry=read_registry(section, "registry", base),
        env=section.variables("env"),
        mounts=read_mounts(section, "mounts", base),
        groups=read_groups(section, "groups"),
        secrets=read_secrets(section, "secrets", base),
        shared_dirs=(*(base.resolve(text) for text in section.texts("shared_dirs")), *on_hosts),
        allow_dirty=section.flag("allow_dirty"),
        source=read_source(section, "source"),
        default_format=_format(section),
        trusted_workspaces=read_trusted(section, "trusted_workspaces", base),
        path=path,
        notices=executor.beaker.notices if executor.beaker is not None else (),
    )


def _places(directory: Path, root: Path | None) -> Iterator[Path]:
    yield directory
    if root is not None and directory != root:
        for place in directory.parents:
            yield place
            if place == root:
                return


def _hint(path: Path) -> str:
    return f"{path} is not read: settings are in {SETTINGS_FILE}"


def _refuse_moved(section: Section) -> None:
    for key, (instead, example) in _MOVED.items():
        if key in section.content:
            remedy = f"write `{example}`" if example else "remove it"
            raise section.refusal(key, f"unknown key {key!r}: {instead}", remedy)


def read_modules(section: Section, key: str) -> tuple[str, ...]:
    """Read the name of a module, or a list of them; each once."""
    if isinstance(section.content.get(key), str):
        names: tuple[str, ...] = (section.text(key) or "",)
    else:
        names = section.texts(key)
    for name in names:
        if not _MODULE.fullmatch(name):
            raise section.wrong(key, "names of modules such as digits.steps", name)
    return tuple(dict.fromkeys(names))


def _format(section: Section) -> str | Mapping[str, Any] | None:
    value = section.content.get("default_format")
    if isinstance(value, dict):
        mapping = section.section("default_format")
        assert mapping is not None
        _format_name(mapping, "type")
        return value
    return None if value is None else _format_name(section, "default_format")


def _format_name(section: Section, key: str) -> str:
    name = section.text(key)
    if name is None or not _FORMAT.fullmatch(name):
        raise section.wrong(key, "the name of a format", name)
    return name
