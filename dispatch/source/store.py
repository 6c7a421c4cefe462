"""Our own git directory in the cache: objects of snapshots, and the checkouts made from them.

It exists so that the user's ``.git`` is never written to, and so that a checkout sees neither the user's
configuration nor the filters that it or the repository defines. Exported trees and objects are a cache: all
of it may be deleted while nothing runs.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dispatch.errors import SourceError
from dispatch.source.git import Git, GitError

_ATTRIBUTES = "* -filter\n"
_MISSING = re.compile(r"unable to read sha1 file|missing blob|unable to read tree|invalid object")
_CONFIG = {
    40: "[core]\n\trepositoryformatversion = 0\n\tbare = true\n",
    64: "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tobjectformat = sha256\n",
}


class Store:
    """Objects and exported trees under ``<cache>/source``."""

    def __init__(self, cache: Path, git: Git) -> None:
        self._root = cache / "source"
        self._git = git

    def git_dir(self, object_id: str) -> Path:
        """Return our git directory for the hash that ``object_id`` is written in, made where missing."""
        directory = self._root / f"{'sha256' if len(object_id) == 64 else 'sha1'}.git"
        attributes = directory / "info" / "attributes"
        if not attributes.is_file():
            (directory / "refs").mkdir(parents=True, exist_ok=True)
            (directory / "objects").mkdir(exist_ok=True)
            attributes.parent.mkdir(exist_ok=True)
            _put(directory / "config", _CONFIG[len(object_id)])
            _put(directory / "HEAD", "ref: refs/heads/none\n")
            _put(attributes, _ATTRIBUTES)
        return directory

    def new_git_dir(self, directory: Path, object_id: str, config: Path) -> Path:
        """Make an empty git directory that knows the remotes, and the access to them, of a user's one."""
        for part in ("refs", "objects"):
            (directory / part).mkdir(parents=True)
        quoted = str(config).replace("\\", "\\\\").replace('"', '\\"')
        include = f'[include]\n\tpath = "{quoted}"\n'
        # Ours last: the user's file may speak of a work tree, and of what lies beside it.
        (directory / "config").write_text(include + _CONFIG[len(object_id)], encoding="utf-8")
        _put(directory / "HEAD", "ref: refs/heads/none\n")
        return directory

    def scratch(self) -> tempfile.TemporaryDirectory[str]:
        """Return a new private directory beside the exported trees, removed when its context ends."""
        folder = self._root / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True)

    def exported(self, tree: str) -> Path:
        """Return where the tree's files are, or will be."""
        return self._root / tree

    def export(self, tree: str, objects: Sequence[Path]) -> Path:
        """Check a tree out, once; ``objects`` is where the user's repositories keep their own.

        Files are written beside and renamed into place, so a tree that can be seen is whole, and of two that
        export at once the second keeps the first's.
        """
        target = self.exported(tree)
        if target.is_dir():
            return target
        with self.scratch() as scratch:
            files = Path(scratch) / "tree"
            files.mkdir()
            files.chmod(0o755)
            env = {
                "GIT_WORK_TREE": str(files),
                "GIT_INDEX_FILE": str(Path(scratch) / "index"),
                **alternates(*objects),
            }
            git_dir = self.git_dir(tree)
            try:
                self._git.own(git_dir, "read-tree", tree, env=env)
                self._git.own(git_dir, "-C", str(files), "checkout-index", "--all", "--quiet", env=env)
            except GitError as error:
                raise SourceError(
                    f"tree {tree}: cannot be exported: {error.message}", _mend(error.message)
                ) from error
            self._move(files, target)
        return target

    def _move(self, files: Path, target: Path) -> None:
        try:
            files.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            shutil.rmtree(files, ignore_errors=True)


def alternates(*objects: Path) -> dict[str, str]:
    """The variable that lets git read objects of other stores; quoted, since a path may hold a colon."""
    quoted = (
        str(each).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        for each in dict.fromkeys(objects)
    )
    return {"GIT_ALTERNATE_OBJECT_DIRECTORIES": ":".join(f'"{each}"' for each in quoted)}


def _mend(message: str) -> str:
    """What to do where files of a commit are not there: most often they never came from the remote."""
    if _MISSING.search(message):
        return (
            "the repository does not hold all files of the commit, as a partial clone does: fetch them with "
            "`git fetch --refetch --no-filter`, or set `source: clone`"
        )
    return "check the repository with: git fsck"


def _put(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    Path(name).replace(path)
