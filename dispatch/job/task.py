"""What a job has to do, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
