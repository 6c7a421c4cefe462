"""What all jobs of a run share, as the composition root found it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dispatch.engine.base import Mount
from dispatch.environment import ImageRef
from dispatch.job import Clone, Setup
from dispatch.location import BeakerDataset


@dataclass(frozen=True)
class Common:
    """What jobs are given, and what is recorded of them, wherever they run.

    ``workdir`` is the working directory where the job runs and ``paths`` the import paths there; ``env`` is
    what the settings add to every step's environment. ``commit``, ``tree`` and ``code`` (the digest of all
    ``*.py``) are recorded, as are ``platform`` and ``environment`` (see ``info.AttemptFacts``).
    ``default_format`` is for steps that leave the format open. ``secrets`` are the values of all that the
    run's jobs need. With ``clone`` each job fetches its source itself.
    """

    workdir: str
    paths: tuple[str, ...]
    env: Mapping[str, str]
    commit: str
    tree: str
    code: str = ""
    default_format: str | Mapping[str, Any] | None = None
    platform: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    clone: Clone | None = None


@dataclass(frozen=True, kw_only=True)
class ProcessMaterials(Common):
    """For processes of this machine: the interpreter, and the runtime directory that it loads.

    ``paths`` are directories of the user's own working tree.
    """

    python: str
    runtime: Path


@dataclass(frozen=True, kw_only=True)
class BeakerMaterials(Common):
    """For containers on Beaker.

    ``images`` maps names of environments to what Beaker runs: an image of its own, or a Docker reference,
    which need not have a digest. ``setups`` maps to how an image that is not one of ours makes its
    environment, None for one that holds it. ``source`` is the exported tree as an archive in a dataset, or
    None where each job clones it, as ``clone`` says. ``boot`` is the dataset with the script that begins and
    the runtime. ``mounts`` are, by step, those that the user asks for. ``time_limit`` (seconds) is for steps
    that say none. ``processes`` is for those steps of the plan that run on this machine.
    """

    images: Mapping[str, ImageRef]
    setups: Mapping[str, Setup | None]
    source: BeakerDataset | None
    boot: BeakerDataset
    mounts: Mapping[str, tuple[Mount, ...]] = field(default_factory=dict)
    time_limit: float | None = None
    processes: ProcessMaterials | None = None


@dataclass(frozen=True, kw_only=True)
class Materials(Common):
    """For containers.

    ``images`` maps names of environments to what the engine has of them; ``runtimes`` likewise to the runtime
    directory to mount; ``source`` is the exported tree, or None where each job clones it, as ``clone`` says.
    ``mounts`` are, by step, those that the user asks for beside ours. ``processes`` is for those steps of the
    plan that run on this machine without a container, None where there are none.
    """

    images: Mapping[str, ImageRef]
    runtimes: Mapping[str, Path]
    source: Path | None
    processes: ProcessMaterials | None = None
    mounts: Mapping[str, tuple[Mount, ...]] = field(default_factory=dict)
