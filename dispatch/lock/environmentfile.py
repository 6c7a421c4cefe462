"""An ``environment.yml`` as values: channels, conda specifications, and its pip section.

Owns which of conda's keys mean something for an image, and which lines are for which platform (conda-lock's
selectors, ``# [linux64]``). Refuses what would be passed over in silence: unknown keys, variables, files
without channels, addresses with credentials. The pip section's lines are read by ``lock.requirements``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dispatch.errors import ConfigurationError, did_you_mean
from dispatch.lock.model import content_digest

if TYPE_CHECKING:
    from dispatch.settings.document import Document

_READ = ("channels", "dependencies")
# What conda and conda-lock know beside these, and what it is to us.
_NEEDLESS = ("name", "prefix", "platforms", "category")
_INSTEAD = {
    "variables": "write them as `env:` of the image",
    "pip-repositories": "write `--index-url` or `--extra-index-url` as a line of the pip section",
    "allow-pypi-requests": "remove it",
}
_SPEC = re.compile(
    r"(?:(?P<channel>[^\s\[\]]+)::)?(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*?)"
    r"(?P<rest>(?:[\s=<>!~\[][A-Za-z0-9\s.,*+!=<>~|()^$_\[\]'\"/:-]*)?)"
)
_CHANNEL = re.compile(r"[A-Za-z0-9_.~/:@%+-]{1,300}")
_SELECTOR = re.compile(r"\s#.*\[\s*([^\[\]]+?)\s*\][^\[\]]*$")
_SELECTED = {
    "linux-64": frozenset({"linux64", "linux", "unix"}),
    "linux-aarch64": frozenset({"aarch64", "linux", "unix"}),
    "linux-ppc64le": frozenset({"ppc64le", "linux", "unix"}),
    "osx-64": frozenset({"osx64", "osx", "unix"}),
    "osx-arm64": frozenset({"arm64", "osx", "unix"}),
}


@dataclass(frozen=True)
class PipLine:
    """A line of the pip section, and the line of the file that it stands on (0 where none is known)."""

    number: int
    text: str


@dataclass(frozen=True)
class EnvironmentFile:
    """What an ``environment.yml`` asks for on one platform, in order."""

    path: Path
    channels: tuple[str, ...]
    specs: tuple[str, ...]
    pip: tuple[PipLine, ...] = ()

    def digest(self, platform: str, virtual: Mapping[str, str]) -> str:
        """SHA-256 (hex) of all that decides which conda packages are right; pip's are not among it."""
        specs = sorted(" ".join(spec.split()) for spec in self.specs)
        return content_digest(["conda-inputs", 1, platform, dict(virtual), list(self.channels), specs])

    @property
    def names(self) -> frozenset[str]:
        """Names of the conda packages asked for directly, in lower case."""
        return frozenset(spec_name(spec) for spec in self.specs)


def spec_name(spec: str) -> str:
    """Return the package's name in a conda specification, in lower case."""
    match = _SPEC.fullmatch(spec.strip())
    assert match is not None, "specifications are read by read_environment_file"
    return match["name"].lower()


def read_environment_file(path: Path, platform: str) -> EnvironmentFile:
    """Read an ``environment.yml`` as it is meant for a platform; ConfigurationError names file and line."""
    # The one reader of YAML stands above the locks; it knows nothing of settings.
    from dispatch.settings.document import read_document

    found = read_document(path)
    _check_keys(found)
    channels = tuple(_channels(found))
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    specs: list[str] = []
    pip: list[PipLine] = []
    for index, entry in enumerate(_list(found, "dependencies")):
        keys = ("dependencies", index)
        if not _selected(found, keys, lines, platform):
            continue
        if isinstance(entry, str):
            specs.append(_spec(found, keys, entry, channels))
        elif isinstance(entry, dict) and list(entry) == ["pip"]:
            pip += _pip(found, (*keys, "pip"), lines, platform)
        else:
            raise _error(found, keys, "not a conda specification", "write `name` or `name=1.2`, or `pip:`")
    if not specs:
        raise _error(found, ("dependencies",), "it asks for no conda package", "name at least one, as python")
    _refuse_twice(found, specs)
    return EnvironmentFile(path, channels, tuple(specs), tuple(pip))


def has_pip_section(path: Path) -> bool:
    """Whether an ``environment.yml`` asks for pip packages on any platform."""
    from dispatch.settings.document import read_document

    found = read_document(path)
    _check_keys(found)
    entries = _list(found, "dependencies")
    return any(isinstance(entry, dict) and entry.get("pip") for entry in entries)


def _check_keys(found: Document) -> None:
    if not isinstance(found.content, dict):
        raise _error(found, (), "not an environment file", "give it `channels:` and `dependencies:`")
    for key in found.content:
        if key in _INSTEAD:
            raise _error(found, (key,), f"`{key}` means nothing for an image", _INSTEAD[key])
        if key not in _READ and key not in _NEEDLESS:
            near = did_you_mean(key, [*_READ, *_NEEDLESS])
            raise _error(found, (key,), f"unknown key {key!r}{near}", "known: name, channels, dependencies")


def _list(found: Document, key: str) -> list[object]:
    value = found.content.get(key)
    if not isinstance(value, list):
        fact = f"`{key}` is not a list" if key in found.content else f"it has no `{key}:`"
        raise _error(found, (key,), fact, f"write `{key}:` as a list")
    return value


def _channels(found: Document) -> Iterator[str]:
    remedy = "name them, such as `channels: [conda-forge]`: what a machine has by default is in no lock"
    if "channels" not in found.content:
        raise _error(found, (), "it names no channels", remedy)
    entries = _list(found, "channels")
    for index, entry in enumerate(entries):
        keys = ("channels", index)
        if not isinstance(entry, str) or not _CHANNEL.fullmatch(entry):
            raise _error(found, keys, f"not a channel: {entry!r}", "write its name, address or path")
        _refuse_secrets(found, keys, entry)
        if entry != "nodefaults":
            yield entry.rstrip("/")
    if all(entry == "nodefaults" for entry in entries):
        raise _error(found, ("channels",), "it names no channels", remedy)


def _refuse_secrets(found: Document, keys: tuple[str | int, ...], address: str) -> None:
    parts = urlsplit(address)
    if "@" in parts.netloc or re.search(r"(^|/)t/[^/]+/", parts.path):
        raise _error(
            found,
            keys,
            "a channel's address carries credentials",
            "give them by condarc, netrc or a keyring, not in this file",
        )


def _selected(found: Document, keys: tuple[str | int, ...], lines: list[str], platform: str) -> bool:
    """Whether a line's selector, if it has one, names the platform."""
    position = found.positions.get(keys)
    match = _SELECTOR.search(lines[position[0] - 1]) if position else None
    return match is None or match[1] in _SELECTED.get(platform, frozenset())


def _spec(found: Document, keys: tuple[str | int, ...], text: str, channels: tuple[str, ...]) -> str:
    match = _SPEC.fullmatch(text.strip())
    if match is None:
        remedy = "write `name`, `name=1.2`, `name>=1.2,<2` or `channel::name`"
        raise _error(found, keys, f"not a conda specification: {text!r}", remedy)
    channel = match["channel"]
    if channel and channel not in channels and channel not in {each.rpartition("/")[2] for each in channels}:
        fact = f"{match['name']} is to come from {channel}, which is not among the channels"
        raise _error(found, keys, fact, f"name it under `channels:`: {', '.join(channels)}")
    return text.strip()


def _refuse_twice(found: Document, specs: list[str]) -> None:
    """Refuse what conda-lock would take the last of."""
    seen: set[str] = set()
    for name in map(spec_name, specs):
        if name in seen:
            remedy = f"write one specification, such as `{name} >=1,<2`"
            raise _error(found, ("dependencies",), f"{name} is asked for twice", remedy)
        seen.add(name)


def _pip(found: Document, keys: tuple[str | int, ...], lines: list[str], platform: str) -> Iterator[PipLine]:
    content = found.content["dependencies"][keys[1]]["pip"]
    if content is None:
        return
    if not isinstance(content, list):
        raise _error(found, keys, "`pip` is not a list", "write one requirement a line")
    for index, entry in enumerate(content):
        if not isinstance(entry, str) or "\n" in entry.strip():
            raise _error(found, (*keys, index), f"not a requirement: {entry!r}", "write one in a line")
        if _selected(found, (*keys, index), lines, platform):
            position = found.positions.get((*keys, index))
            yield PipLine(position[0] if position else 0, entry.strip())


def _error(found: Document, keys: tuple[str | int, ...], fact: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(found.say(keys, fact), remedy=remedy)
