"""The executor for Beaker, as the settings write it.

Owns the names under ``executor: {type: beaker, …}`` and their spelling, for settings files and for programs
alike. Refuses to know Beaker: whether a cluster, an image or a token is good is asked before a run starts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dispatch.errors import ConfigurationError
from dispatch.settings.beakerdata import DataMount, EnvVar, plain, read_datasets, read_env_vars
from dispatch.settings.document import Document
from dispatch.settings.section import Section
from dispatch.units import parse_duration

# Used where the settings name neither a Beaker image nor a Docker one.
DEFAULT_BEAKER_IMAGE = "ai2/conda"
PRIORITIES = ("low", "normal", "high", "urgent", "immediate")
# What goes on to ``Beaker.from_env``.
CLIENT = (
    "user_token",
    "agent_address",
    "rpc_address",
    "default_org",
    "default_workspace",
    "default_image",
    "user_agent",
    "check_for_upgrades",
)
_OWN = (
    "type",
    "parallelism",
    "clusters",
    "beaker_workspace",
    "github_token",
    "google_token",
    "beaker_image",
    "docker_image",
    "datasets",
    "env_vars",
    "venv_name",
    "install_cmd",
    "priority",
    "allow_dirty",
    "scheduler",
    "budget",
    "preemptible",
    "min_runtime",
    "timeout",
)
KEYS = (*_OWN, *CLIENT)
# A Docker reference or a Beaker name goes to a shell, a log and a URL: no spaces, no options.
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,299}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,99})?")
_VENV = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class BeakerSetup:
    """What the executor for Beaker is told. None and empty leave a thing to its default.

    ``scheduler`` is a mapping with its ``type``. ``options`` are for ``Beaker.from_env``. ``min_runtime`` and
    ``timeout`` are seconds. ``notices`` are what the user should be told, once.
    """

    clusters: tuple[str, ...] = ()
    beaker_workspace: str | None = None
    github_token: str | None = field(default=None, repr=False)
    beaker_image: str | None = None
    docker_image: str | None = None
    datasets: tuple[DataMount, ...] = ()
    env_vars: tuple[EnvVar, ...] = ()
    venv_name: str | None = None
    install_cmd: str | None = None
    priority: str | None = None
    allow_dirty: bool | None = None
    scheduler: Mapping[str, Any] | None = None
    budget: str | None = None
    preemptible: bool | None = None
    min_runtime: float | None = None
    timeout: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    notices: tuple[str, ...] = ()

    @property
    def host_paths(self) -> tuple[Path, ...]:
        """The paths of Beaker's hosts that jobs see under their own names."""
        hosts = [each for each in self.datasets if each.source == "host_path" and not each.sub_path]
        return tuple(Path(each.name) for each in hosts if each.name == each.mount_path)


def read_setup(section: Section) -> BeakerSetup:
    """Read the mapping under ``executor:``. ConfigurationError for what cannot be meant."""
    section.only(KEYS)
    if "beaker_image" in section and "docker_image" in section:
        fact = "'beaker_image' and 'docker_image' exclude each other"
        raise section.refusal("docker_image", fact, "keep one of them")
    scheduler = _scheduler(section)
    return BeakerSetup(
        clusters=_names(section, "clusters"),
        beaker_workspace=_matching(section, "beaker_workspace", _NAME, "ORG/NAME or an id"),
        github_token=section.text("github_token"),
        beaker_image=_matching(section, "beaker_image", _IMAGE, "the name or id of an image"),
        docker_image=_matching(section, "docker_image", _IMAGE, "the name of an image"),
        datasets=read_datasets(section, "datasets"),
        env_vars=read_env_vars(section, "env_vars"),
        venv_name=_matching(section, "venv_name", _VENV, "the name of an environment"),
        install_cmd=section.text("install_cmd"),
        priority=read_priority(section, "priority"),
        allow_dirty=section.flag("allow_dirty"),
        scheduler=scheduler,
        budget=section.text("budget"),
        preemptible=section.flag("preemptible"),
        min_runtime=_duration(section, "min_runtime"),
        timeout=_duration(section, "timeout"),
        options=MappingProxyType({key: section.content[key] for key in CLIENT if key in section}),
        notices=_notices(section, given=scheduler is not None),
    )


def setup_of(values: Mapping[str, Any], name: str = "BeakerExecutor") -> BeakerSetup:
    """Read the arguments of a program's executor, in which beaker-py's own objects may stand."""
    content = {key: value for key, value in values.items() if value is not None}
    for key in ("datasets", "env_vars"):
        if isinstance(content.get(key), (list, tuple)):
            content[key] = [plain(each) for each in content[key]]
    if isinstance(content.get("clusters"), tuple):
        content["clusters"] = list(content["clusters"])
    return read_setup(Section(Document(Path(name), content, {}), (), content))


def read_priority(section: Section, key: str) -> str | None:
    """Read a priority: a word, or in a program a member of beaker-py's enumeration."""
    value = section.content.get(key)
    word = getattr(value, "name", value)
    return Section(section.document, section.keys, {key: word}).choice(key, PRIORITIES)


def _scheduler(section: Section) -> Mapping[str, Any] | None:
    """A scheduler by name, or with what it takes; what it is called is for the registry to know."""
    if "scheduler" not in section:
        return None
    if isinstance(section.content["scheduler"], str):
        return MappingProxyType({"type": section.text("scheduler")})
    mapping = section.section("scheduler")
    assert mapping is not None
    mapping.text("type")
    return MappingProxyType(dict(mapping.content))


def _notices(section: Section, *, given: bool) -> tuple[str, ...]:
    found = [
        f"{key!r} is ignored: `scheduler` says where steps run and how they queue"
        for key in ("clusters", "priority")
        if given and key in section
    ]
    if "google_token" in section:
        found.append("'google_token' is not used: no workspace here is on Google's storage")
    return tuple(section.document.say((*section.keys,), each) for each in found)


def _names(section: Section, key: str) -> tuple[str, ...]:
    value = section.content.get(key)
    names = (section.text(key) or "",) if isinstance(value, str) else section.texts(key)
    for name in names:
        if not _NAME.fullmatch(name):
            raise section.wrong(key, "names such as ORG/CLUSTER", name)
    return tuple(dict.fromkeys(names))


def _matching(section: Section, key: str, pattern: re.Pattern[str], expected: str) -> str | None:
    text = section.text(key)
    if text is not None and not pattern.fullmatch(text):
        raise section.wrong(key, expected, text)
    return text


def _duration(section: Section, key: str) -> float | None:
    value = section.content.get(key)
    if value is None:
        return None
    try:
        return parse_duration(value, key)
    except ConfigurationError as error:
        raise section.refusal(key, error.message, error.remedy) from None
