"""Where a snapshot is put together: a copy of the user's index, new objects in our store, and no filters.

Owns every command that writes an index or an object. Refuses to write into the user's repository.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dispatch.errors import SourceError
from dispatch.source.git import Git, GitError

_AUTHOR = "dispatch"
_EMAIL = "dispatch@localhost"
_MESSAGE = "dispatch: snapshot of the working tree"
_SPARSE = "core.sparsecheckout"


@dataclass(frozen=True)
class Desk:
    """A repository's root, and git called there; what fails is an error that names the root."""

    root: Path
    git: Git

    def call(
        self, *arguments: str, env: Mapping[str, str] | None = None, options: Mapping[str, str] | None = None
    ) -> bytes:
        """Run a command under the user's configuration."""
        try:
            return self.git.user(self.root, *arguments, env=env, options=options)
        except GitError as error:
            raise SourceError(
                f"{self.root}: git cannot read the working tree: {error.message}",
                "mend what git names, or add it to .gitignore",
            ) from error

    def asks(self, *arguments: str, env: Mapping[str, str] | None = None) -> bytes:
        """Run a command that answers nothing by failing."""
        try:
            return self.git.user(self.root, *arguments, env=env)
        except GitError:
            return b""


@dataclass(frozen=True)
class Stage:
    """One snapshot in the making.

    The filters must be off for every command that writes the index: git reads files again then, whose times
    are too near to the index's.
    """

    desk: Desk
    env: Mapping[str, str]
    options: Mapping[str, str]
    sparse: bool = False

    def write_tree(self, excluded: Sequence[str]) -> str:
        """Bring the copied index up to the working tree and write its tree."""
        left_out = [f":(exclude,top,literal){path}" for path in excluded if not self._is_left_out(path)]
        # Files that lie outside of what is to be checked out, and are there all the same.
        outside = ("--sparse",) if self.sparse else ()
        self._call("add", "--all", *outside, "--", ":/", *left_out)
        return self._tree()

    def without(self, excluded: Sequence[str]) -> str:
        """Drop what HEAD itself holds of excluded directories, and write the tree again."""
        paths = [f":(top,literal){path}" for path in excluded]
        self._call("rm", "-r", "-q", "-f", "--cached", "--ignore-unmatch", "--", *paths)
        return self._tree()

    def graft(self, trees: Mapping[str, str]) -> str:
        """Put a tree in the place of each submodule, by path, and write the tree again."""
        self._call("update-index", "--force-remove", "--", *trees)
        for path, tree in trees.items():
            self._call("read-tree", f"--prefix={path}/", tree)
        return self._tree()

    def commit(self, tree: str, parent: str) -> str:
        """Write the snapshot commit; author and date come from HEAD alone, so that it repeats."""
        head = self.desk.call("cat-file", "commit", parent).split(b"\n\n")[0]
        (line,) = [line for line in head.split(b"\n") if line.startswith(b"committer ")]
        date = line.rsplit(b"> ", 1)[1].decode()
        people = {
            f"GIT_{who}_{fact}": value
            for who in ("AUTHOR", "COMMITTER")
            for fact, value in (("NAME", _AUTHOR), ("EMAIL", _EMAIL), ("DATE", date))
        }
        env = {**self.env, **people}
        return self.desk.call("commit-tree", tree, "-p", parent, "-m", _MESSAGE, env=env).decode().strip()

    def _call(self, *arguments: str) -> bytes:
        return self.desk.call(*arguments, env=self.env, options=self.options)

    def _tree(self) -> str:
        return self._call("write-tree").decode().strip()

    def _is_left_out(self, path: str) -> bool:
        """Whether git leaves a directory out by itself; to name it in a pathspec is an error then."""
        try:
            self.desk.git.user(self.desk.root, "check-ignore", "--quiet", "--", path)
        except GitError as error:
            return "is in submodule" in error.message
        return True


@dataclass(frozen=True)
class Configured:
    """What of a user's configuration matters here: the filters, and whether a part only is checked out."""

    filters: frozenset[str]
    sparse: bool

    @classmethod
    def of(cls, desk: Desk) -> Configured:
        """Ask git."""
        names = desk.asks("config", "-z", "--name-only", "--get-regexp", rf"^(filter\.|{_SPARSE}$)")
        found = {name for name in os.fsdecode(names).split("\0") if name}
        drivers = frozenset(name.rpartition(".")[0] for name in found - {_SPARSE})
        return cls(drivers, sparse=_SPARSE in found)

    def without_filters(self) -> dict[str, str]:
        """Options that turn every configured filter into none."""
        settings = {}
        for driver in self.filters:
            for key in ("clean", "smudge", "process"):
                settings[f"{driver}.{key}"] = ""
            settings[f"{driver}.required"] = "false"
        return settings
