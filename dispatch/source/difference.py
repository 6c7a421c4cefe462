"""How a dirty state differs from its commit, for people who read a run's record: a patch of bounded length.

Untracked files are in it, whole; binary files, and those too large to be read, are named. A patch that is
complete can be applied; one that was cut says so, and lists what it leaves out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from dispatch.source.ref import SourceRef
from dispatch.source.stage import Desk

LIMIT = 1024 * 1024
_LISTED = 1000
# Larger files are binary to git then, so that neither they nor their lines are read.
_OPTIONS = {"core.bigFileThreshold": str(LIMIT)}
_PLAIN = ("-r", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--full-index")


def between(desk: Desk, env: Mapping[str, str], ref: SourceRef, scratch: Path) -> bytes:
    """Return the patch from the commit to the state; empty where they are the same."""
    whole = b""
    stats = []
    for number, (prefix, part) in enumerate(_states(ref)):
        trees = (f"{part.commit}^{{tree}}", part.own)
        marks = (f"--src-prefix=a/{prefix}", f"--dst-prefix=b/{prefix}")
        file = scratch / f"{number}.diff"
        # Through a file: there is no telling how long it is, and memory is not for it.
        desk.call("diff-tree", "-p", *_PLAIN, *marks, f"--output={file}", *trees, env=env, options=_OPTIONS)
        with file.open("rb") as patch:
            whole += patch.read(LIMIT + 1)
        whole = whole[: LIMIT + 1]
        stats.append((prefix, trees))
    if len(whole) <= LIMIT:
        return whole
    kept = whole[: whole.rfind(b"\n", 0, LIMIT) + 1]
    note = f"\n# The rest is left out: it is longer than {LIMIT} bytes. All files that differ:\n".encode()
    return kept + note + b"".join(_listing(desk, env, prefix, trees) for prefix, trees in stats)


def _listing(desk: Desk, env: Mapping[str, str], prefix: str, trees: tuple[str, str]) -> bytes:
    words = ("--stat=160,120", f"--stat-count={_LISTED}", *_PLAIN)
    title = f"# in {prefix.rstrip('/')}:\n".encode() if prefix else b""
    return title + desk.call("diff-tree", *words, *trees, env=env, options=_OPTIONS)


def _states(ref: SourceRef, prefix: str = "") -> Iterator[tuple[str, SourceRef]]:
    """The repository, then its submodules, each with the path that leads there."""
    yield prefix, ref
    for part in ref.parts:
        yield from _states(part.ref, f"{prefix}{part.path}/")
