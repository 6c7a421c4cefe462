"""What the process was started in: environment variables, read once into one value.

The only place on the client that looks at ``os.environ``. Places follow the XDG Base Directory Specification:
a variable that is empty or holds a relative path counts as not set.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from dispatch.errors import ConfigurationError

# Values of TERM that promise no cursor to move, and of CI that mean what no value means.
_DUMB = ("", "dumb", "unknown")
_UNSET = ("", "0", "false")


@dataclass(frozen=True)
class Surroundings:
    """The environment of the process, typed.

    ``cache`` may be deleted at any time; ``state`` is where an engine that we started ourselves keeps log
    and pid; ``config`` holds the user's own settings. ``apt_mirror`` and ``registry`` are None where nothing
    is set. ``terminal`` says that a terminal, where there is one, can be drawn on and is looked at: TERM
    names one that can, and CI is not set. ``step_summary`` is the file in which GitHub Actions takes
    Markdown.
    ``environ`` is everything, for the tools we call; it may hold secrets and is never shown.
    """

    home: Path
    cache: Path
    state: Path
    config: Path
    apt_mirror: str | None = None
    registry: str | None = None
    colour: bool = True
    terminal: bool = True
    step_summary: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)


def read_environment(environ: Mapping[str, str] | None = None) -> Surroundings:
    """Read ``environ`` (by default the process's own). Raises ConfigurationError if there is no home."""
    values = dict(os.environ if environ is None else environ)
    home = _home(values)
    return Surroundings(
        home=home,
        cache=_base(values, "XDG_CACHE_HOME", home / ".cache") / "dispatch",
        state=_base(values, "XDG_STATE_HOME", home / ".local" / "state") / "dispatch" / "engine",
        config=_base(values, "XDG_CONFIG_HOME", home / ".config") / "dispatch",
        apt_mirror=values.get("DISPATCH_APT_MIRROR") or None,
        registry=values.get("DISPATCH_REGISTRY") or None,
        colour=wants_colour(values),
        terminal=values.get("TERM", "") not in _DUMB and values.get("CI", "").lower() in _UNSET,
        step_summary=_file(values, "GITHUB_STEP_SUMMARY"),
        environ=MappingProxyType(values),
    )


def wants_colour(environ: Mapping[str, str] | None = None) -> bool:
    """Tell whether colour is welcome at all: ``NO_COLOR`` (no-color.org) is not set to anything."""
    return not (os.environ if environ is None else environ).get("NO_COLOR")


def read_variables(words: Iterable[str], environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Read ``NAME=VALUE``, or ``NAME`` to take it from ``environ`` (by default the process's own).

    A value may hold further ``=``; of two values of one name the later counts. Nothing of the environment is
    taken unasked: what a configuration depends on is written down. Raises ConfigurationError.
    """
    values = os.environ if environ is None else environ
    found: dict[str, str] = {}
    for word in words:
        name, given, value = word.partition("=")
        if not name:
            raise ConfigurationError(f"variable {word!r}: has no name", "write NAME=VALUE")
        if not given and name not in values:
            fact = f"variable {name!r}: has no value, and the environment has none either"
            raise ConfigurationError(fact, f"write {name}=VALUE, or export {name}")
        found[name] = value if given else values[name]
    return found


def _file(environ: Mapping[str, str], name: str) -> Path | None:
    value = environ.get(name, "")
    return Path(value) if value.startswith("/") else None


def _base(environ: Mapping[str, str], name: str, default: Path) -> Path:
    value = environ.get(name, "")
    return Path(value) if value.startswith("/") else default


def _home(environ: Mapping[str, str]) -> Path:
    value = environ.get("HOME", "")
    if value.startswith("/"):
        return Path(value)
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        raise ConfigurationError("HOME is not set and this user has no entry in passwd", "set HOME") from None
