"""Files under git-lfs: which of them a snapshot holds as pointers only.

A pointer stands in the commit, the file behind it on a server of its own. Filters never run here, so what git
has as a pointer, a step sees as a pointer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from dispatch.source.stage import Desk
from dispatch.source.tree import Entry

_MARK = "filter=lfs"
_POINTER = "^version https://git-lfs.github.com/spec/v"
_UNDER_LFS = ":(attr:filter=lfs)"


def notices(desk: Desk, env: Mapping[str, str], tree: str, entries: Iterable[Entry]) -> list[str]:
    """Say, in one sentence, how many files of a tree are pointers. ``env`` names an index to be made."""
    if not any(_mentioned(desk, entry.path) for entry in entries if _name(entry) == ".gitattributes"):
        return []
    desk.call("read-tree", tree, env=env)
    found = desk.asks("grep", "--cached", "-l", "-z", "-I", "-e", _POINTER, "--", _UNDER_LFS, env=env)
    paths = [os.fsdecode(path) for path in found.split(b"\0") if path]
    if not paths:
        return []
    count = "1 pointer" if len(paths) == 1 else f"{len(paths)} pointers"
    more = ", …" if len(paths) > 1 else ""
    fact = f"git-lfs: steps see {count}, not the files behind ({paths[0]}{more})"
    return [f"{fact}; mount the files, or set `source: clone` and have git-lfs in the image"]


def _name(entry: Entry) -> str:
    return entry.path.rpartition("/")[2]


def _mentioned(desk: Desk, path: str) -> bool:
    try:
        return _MARK in (desk.root / path).read_text("utf-8", "replace")
    except OSError:
        return False
