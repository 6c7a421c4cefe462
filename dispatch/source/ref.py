"""An exact state of a repository's files, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SourceRef:
    """An exact state of a repository's files.

    ``commit`` is HEAD, ``tree`` the files to be used: those of submodules that are checked out are in it, in
    the place of their commits. Where the working tree differs from HEAD, ``dirty`` is true and ``snapshot``
    is a commit on top of HEAD that holds ``tree``. ``notices`` are sentences the user should read: what of
    the working tree cannot come along.

    ``own`` is the tree before submodules were put into it, ``parts`` are those submodules, and ``stores`` the
    user's object stores that all of it needs.
    """

    root: Path
    commit: str
    tree: str
    dirty: bool = False
    snapshot: str | None = None
    notices: tuple[str, ...] = ()
    own: str = ""
    parts: tuple[Part, ...] = ()
    stores: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Part:
    """A submodule that is checked out: its path from the root of what holds it, and its own state."""

    path: str
    ref: SourceRef
