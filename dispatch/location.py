"""Where bytes are, as values. Moving them is the business of ``transfer``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Union


@dataclass(frozen=True)
class HostPath:
    """A file or directory on the machine of the client."""

    path: Path


@dataclass(frozen=True)
class SharedPath:
    """A path under a declared shared drive: every node of the engine sees it under the same name."""

    path: Path


@dataclass(frozen=True)
class BeakerDataset:
    """A path inside a Beaker dataset; an empty ``subpath`` is the whole of it.

    One that is ``packed`` is an archive (tar), whose content is meant.
    """

    id: str
    subpath: str = ""
    packed: bool = False


@dataclass(frozen=True)
class Spool:
    """A directory on the client's disk that stands in for a place without files (memory)."""

    path: Path


Location = Union[HostPath, SharedPath, BeakerDataset, Spool]
