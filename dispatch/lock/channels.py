"""Where this machine finds conda channels: what a declaration calls them → addresses.

Owns the reading of conda's settings (``condarc`` files, ``CONDA_CHANNEL_ALIAS``) as far as they say where a
channel is, and the redaction of what is known from them alone: a lock holds what the declaration says.
Source of the names: conda's documentation, "Configuration".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from dispatch.errors import ConfigurationError

ALIAS = "https://conda.anaconda.org"
_DEFAULTS_HOST = "https://repo.anaconda.com"
_DEFAULTS = ("pkgs/main", "pkgs/r")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s`'\"<>()]+")
_FILE = re.compile(r"(?P<subdir>[a-z0-9-]{1,30})/(?P<file>[A-Za-z0-9_.+!~=-]+\.(?:conda|tar\.bz2))")


@dataclass(frozen=True)
class Place:
    """Where a package's file is: the channel as it is declared, ``linux-64``, the file's name."""

    channel: str
    subdir: str
    file: str


def condarc_files(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return conda's files of settings, in the order in which later ones win."""
    home = Path(environ.get("HOME") or "~").expanduser()
    files = [Path("/etc/conda/.condarc"), Path("/etc/conda/condarc")]
    if environ.get("CONDA_ROOT") or environ.get("MAMBA_ROOT_PREFIX"):
        files.append(Path(environ.get("CONDA_ROOT") or environ["MAMBA_ROOT_PREFIX"]) / ".condarc")
    if environ.get("XDG_CONFIG_HOME"):
        files.append(Path(environ["XDG_CONFIG_HOME"]) / "conda" / ".condarc")
    files += [home / ".config" / "conda" / ".condarc", home / ".conda" / ".condarc", home / ".condarc"]
    if environ.get("CONDA_PREFIX"):
        files.append(Path(environ["CONDA_PREFIX"]) / ".condarc")
    if environ.get("CONDARC"):
        files.append(Path(environ["CONDARC"]))
    return tuple(files)


@dataclass(frozen=True)
class Channels:
    """What this machine says about channels. Every address is without a slash at its end."""

    alias: str = ALIAS
    custom: Mapping[str, str] = field(default_factory=dict)
    multi: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Channels:
        """Read conda's settings as ``environ`` locates them."""
        alias = ALIAS
        custom: dict[str, str] = {}
        multi: dict[str, tuple[str, ...]] = {}
        mirrors: dict[str, tuple[str, ...]] = {}
        for path in condarc_files(environ):
            if not path.is_file():
                continue
            found = _read(path)
            alias = str(found.get("channel_alias") or alias)
            custom |= {name: str(value) for name, value in _mapping(path, found, "custom_channels").items()}
            for name, value in _mapping(path, found, "custom_multichannels").items():
                multi[name] = _strings(value)
            for name, value in _mapping(path, found, "mirrored_channels").items():
                mirrors[name] = _strings(value)
            if found.get("default_channels"):
                multi["defaults"] = _strings(found["default_channels"])
        alias = environ.get("CONDA_CHANNEL_ALIAS") or environ.get("MAMBA_CHANNEL_ALIAS") or alias
        return cls(alias.rstrip("/"), custom, multi, mirrors)

    def addresses(self, channel: str, directory: Path) -> tuple[str, ...]:
        """Return where a channel is to be had, the best place first; a path is relative to ``directory``."""
        if "://" in channel:
            return (channel.rstrip("/"),)
        if is_path(channel):
            path = (directory / Path(channel).expanduser()).resolve()
            return (path.as_uri(),)
        return tuple(address.rstrip("/") for address in self._named(channel))

    def _named(self, channel: str) -> Iterator[str]:
        if self.mirrors.get(channel):
            yield from (address for address in self.mirrors[channel] if "://" in address)
            return
        if self.multi.get(channel):
            for each in self.multi[channel]:
                yield each if "://" in each else f"{self.alias}/{each}"
            return
        head = max(
            (name for name in self.custom if channel == name or channel.startswith(f"{name}/")),
            key=len,
            default=None,
        )
        if head is not None:
            yield f"{self.custom[head].rstrip('/')}/{channel}"
        elif channel in _DEFAULTS:
            ends = (f"/{channel}", f"/{channel.rpartition('/')[2]}")
            own = [each for each in self.multi.get("defaults", ()) if each.rstrip("/").endswith(ends)]
            yield own[0] if own else f"{_DEFAULTS_HOST}/{channel}"
        else:
            yield f"{self.alias}/{channel}"

    def place(self, address: str, declared: Iterable[str], directory: Path) -> Place | None:
        """Return what a package's address means in terms of the declared channels; None for another's."""
        plain = without_credentials(address)
        names = [name for channel in declared for name in channel_names(channel)]
        starts = [(name, start) for name in names for start in self.addresses(name, directory)]
        for name, start in starts:
            rest = _below(plain, without_credentials(start))
            match = _FILE.fullmatch(unquote(rest)) if rest else None
            if match is not None:
                return Place(name, match["subdir"], match["file"])
        # The user's conda may know of places that are in none of the settings read here.
        start, _, file = plain.rpartition("/")
        start, _, subdir = start.rpartition("/")
        named = next((name for name in names if "://" not in name and start.endswith(f"/{name}")), None)
        match = _FILE.fullmatch(unquote(f"{subdir}/{file}"))
        return Place(named, match["subdir"], match["file"]) if named and match else None

    def redact(self, text: str, declared: Iterable[str], directory: Path) -> str:
        """Say a declared channel's name for its address in ``text``, and nothing for any other address."""
        places = [
            (without_credentials(place), channel)
            for channel in declared
            for name in channel_names(channel)
            for place in self.addresses(name, directory)
        ]

        def shown(match: re.Match[str]) -> str:
            try:
                plain = without_credentials(match[0])
            except ValueError:
                return "<channel>"
            found = next((each for each in places if f"{plain}/".startswith(f"{each[0]}/")), None)
            return "<channel>" if found is None else found[1] + plain[len(found[0]) :]

        text = _ADDRESS.sub(shown, text)
        known = [channel for channel in declared if "://" in channel]
        for secret in sorted(self._hosts(), key=len, reverse=True):
            if not any(secret in each for each in known):
                text = text.replace(secret, "<channel>")
        return text

    def _hosts(self) -> set[str]:
        places = [self.alias, *self.custom.values()]
        places += [each for many in (*self.multi.values(), *self.mirrors.values()) for each in many]
        public = {urlsplit(ALIAS).netloc, urlsplit(_DEFAULTS_HOST).netloc}
        hosts = {urlsplit(each).netloc.rpartition("@")[2] for each in places if "://" in each}
        return {host for host in hosts - public if len(host) >= 4}


def channel_names(channel: str) -> tuple[str, ...]:
    """Return the channels that a declared name stands for: itself, but for ``defaults``."""
    return _DEFAULTS if channel == "defaults" else (channel,)


def is_path(channel: str) -> bool:
    """Whether a declared channel is a directory of this machine."""
    return channel.startswith(("/", "./", "../", "~")) or channel in (".", "..")


def without_credentials(address: str) -> str:
    """Return an address without user, password and token (``/t/TOKEN``)."""
    parts = urlsplit(address)
    path = re.sub(r"^/t/[^/]+(?=/)", "", parts.path)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, parts.query, parts.fragment))


def _below(address: str, start: str) -> str:
    return address[len(start) + 1 :] if address.startswith(start + "/") else ""


def _read(path: Path) -> dict[str, Any]:
    # The one reader of YAML stands above the locks; it knows nothing of settings.
    from dispatch.settings.document import read_document

    content = read_document(path).content
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigurationError(
            f"{path}: not a condarc file", remedy="mend it (`conda config --show-sources`)"
        )
    return content


def _mapping(path: Path, found: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = found.get(key) or {}
    if not isinstance(value, dict):
        raise ConfigurationError(
            f"{path}: {key} is not a mapping", remedy="mend it (`conda config --describe`)"
        )
    return value


def _strings(value: object) -> tuple[str, ...]:
    return tuple(str(each) for each in (value if isinstance(value, list) else [value]))
