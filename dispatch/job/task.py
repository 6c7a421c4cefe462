"""What a job has to do, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dispatch.job.places import CONTAINER


@dataclass(frozen=True)
class StepLabel:
    """What every job says about its step: name, unique id, registered type, and the attempt's number."""

    name: str
    unique_id: str
    type: str
    attempt: int


@dataclass(frozen=True)
class InlineTask:
    """A step that another one's process computes for itself, with its raw arguments. See PythonTask."""

    module: str
    qualname: str
    type: str
    version: str | None
    unique_id: str
    arguments: Mapping[str, Any]
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class PythonTask:
    """A step that is a class. ``arguments`` is the raw configuration with its references.

    ``inputs`` maps the names that references use to the places of results, ``inline`` those of steps that are
    computed in the same process to what these are, each after those it needs. ``paths`` are import paths
    where the job runs. ``format`` is a registered format (its name, or a mapping with its ``type``), or None
    for the step's own. ``interpreter`` is a path or name in the image; None is the first of ``python3`` and
    ``python``. ``modules`` make classes known which the arguments name.
    """

    module: str
    qualname: str
    version: str | None
    format: str | Mapping[str, Any] | None
    arguments: Mapping[str, Any]
    inputs: Mapping[str, str]
    paths: tuple[str, ...]
    interpreter: str | None = None
    inline: Mapping[str, InlineTask] = field(default_factory=dict)
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class ShellTask:
    """A step that is a command, for ``sh -c``. ``inputs`` maps names of dependencies to places."""

    command: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Setup:
    """How a job makes its environment where the image holds none of its own.

    ``venv_name`` is an environment of the image to use, or to make where it is not there; ``base`` is the
    image's own, and the only one that is written to though it is the image's. Empty: one is made from what
    the source declares, if it declares anything. ``install_cmd`` is run in place of our way to install that.
    ``python`` is the minor version (``3.11``) that a new environment is to have; empty, the image's own.
    One without a name is made at ``place``. ``source`` is the root of the source.
    """

    venv_name: str = ""
    install_cmd: str = ""
    python: str = ""
    place: str = f"{CONTAINER.scratch}/venv"
    source: str = CONTAINER.source


@dataclass(frozen=True)
class Clone:
    """A source that the job fetches itself: a commit of the repository at ``url``, which has no credentials.

    ``ref`` is the branch or tag whose history holds the commit, for hosts that give no commit by its name;
    it may be empty. ``token`` and ``ssh_key`` are names of secrets, or empty; ``user`` goes with the token,
    which is for ``site`` alone (scheme, host and port). ``dropped`` are those of the secrets that are taken
    away before the step begins. ``place`` is where the source goes, ``secrets_place`` where secrets come.
    """

    url: str
    commit: str
    ref: str = ""
    site: str = ""
    user: str = ""
    token: str = ""
    ssh_key: str = ""
    dropped: tuple[str, ...] = ()
    place: str = CONTAINER.source
    secrets_place: str = f"{CONTAINER.root}/secrets"

    @property
    def object_format(self) -> str:
        """The hash by which the repository names its objects, empty for the one that every git knows."""
        return "sha256" if len(self.commit) == 64 else ""

    @property
    def needs_ssh(self) -> str:
        """Not empty if the address is one for ssh."""
        scheme, separator, _ = self.url.partition("://")
        over_ssh = scheme == "ssh" if separator else "::" not in self.url
        return "yes" if over_ssh else ""

    @property
    def drop(self) -> str:
        """The secrets to be taken away, as words."""
        return " ".join(self.dropped)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The names of the secrets that the job has to have."""
        return tuple(name for name in (self.token, self.ssh_key) if name)

    @property
    def login(self) -> str:
        """The site with the user's name, as git asks for the password."""
        scheme, separator, place = self.site.partition("://")
        return f"{scheme}{separator}{self.user}@{place}"
