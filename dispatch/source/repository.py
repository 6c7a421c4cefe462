"""The user's repository: found, photographed, identified and exported, but never written to.

A snapshot is made in a copy of the index, with new objects going to a store of our own. Filters are off on
the way in and out: a file under git-lfs that has not been touched since checkout is carried as its pointer,
and the snapshot says so.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dispatch.errors import SourceError
from dispatch.source import tree as trees
from dispatch.source.git import Git, GitError
from dispatch.source.store import Store, alternates

_AUTHOR = "dispatch"
_EMAIL = "dispatch@localhost"
_MESSAGE = "dispatch: snapshot of the working tree"
_OBJECT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class SourceRef:
    """An exact state of a repository's files.

    ``commit`` is HEAD, ``tree`` the files to be used. Where the working tree differs from HEAD, ``dirty`` is
    true and ``snapshot`` is a commit on top of HEAD that holds ``tree``. ``notices`` are sentences the user
    should read: what of the working tree cannot come along.
    """

    root: Path
    commit: str
    tree: str
    dirty: bool = False
    snapshot: str | None = None
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Places:
    root: Path
    index: Path
    objects: Path


@dataclass(frozen=True)
class _Stage:
    """Where a snapshot is put together: the copied index and our objects, and the filters switched off.

    The filters must be off for every command that writes the index: git reads files again then, whose times
    are too near to the index's.
    """

    env: Mapping[str, str]
    options: Mapping[str, str]


class Repository:
    """A work tree of git, with a commit checked out. Make one with :meth:`open`."""

    def __init__(self, places: _Places, git: Git, store: Store) -> None:
        self._places = places
        self._git = git
        self._store = store
        self._entries: dict[str, tuple[trees.Entry, ...]] = {}

    @property
    def root(self) -> Path:
        """The top directory of the work tree."""
        return self._places.root

    @classmethod
    def open(cls, directory: Path, git: Git, cache: Path) -> Repository:
        """Find the repository around ``directory``; snapshots and exported trees are kept under ``cache``.

        Raises SourceError where there is no work tree, no commit yet, no git, or a repository git distrusts.
        """
        try:
            output = git.user(directory, *_LOCATE, "HEAD^{tree}")
        except GitError as error:
            if error.output.count(b"\n") >= 3:
                raise SourceError(
                    f"{directory}: the repository has no commit yet", "commit once: git add -A && git commit"
                ) from error
            raise SourceError(
                f"{directory}: not in the work tree of a git repository: {_first(error.message)}",
                "steps run from a repository: git init && git add -A && git commit",
            ) from error
        root, index, objects = (directory / os.fsdecode(line) for line in output.split(b"\n")[:3])
        return cls(_Places(root, index, objects), git, Store(cache, git))

    def snapshot(self, exclude: Sequence[Path] = ()) -> SourceRef:
        """Record the exact working tree: changes, deletions, and new files that git does not ignore.

        ``exclude`` names directories (absolute, or from the root) that never enter. A tree equal to HEAD's is
        HEAD itself; the same changes on the same HEAD give the same snapshot commit.
        """
        commit, tree = self._call("rev-parse", "HEAD^{commit}", "HEAD^{tree}").decode().split()
        excluded = self._inside(exclude)
        with self._store.scratch() as scratch:
            stage = self._stage(Path(scratch), tree)
            found = self._write_tree(stage, excluded)
            entries = self._list(found, tree != found)
            if any(trees.under(entry.path, path) for path in excluded for entry in entries):
                found = self._without(stage, excluded)
                entries = self._list(found, tree != found)
        notices = self._notices(entries)
        if found == tree:
            return SourceRef(self.root, commit, tree, notices=notices)
        snapshot = self._commit(found, commit, stage.env)
        return SourceRef(self.root, commit, found, dirty=True, snapshot=snapshot, notices=notices)

    def is_pushed(self, commit: str) -> bool:
        """Say whether a branch of a remote, as it was known when git last asked there, has a commit."""
        return bool(self._call("for-each-ref", "--count=1", "--contains", commit, "refs/remotes/").strip())

    def tree_of(self, ref: SourceRef, paths: Iterable[str]) -> str:
        """Digest of the files at and below ``paths`` (from the root): modes, contents and names.

        The order of ``paths`` does not matter. SourceError names a path where the tree has nothing.
        """
        return trees.digest(trees.select(self._of(ref), paths))

    def python_digest(self, ref: SourceRef) -> str:
        """Digest of the names and contents of all ``*.py`` files."""
        return trees.digest(trees.matching(self._of(ref), lambda path: path.endswith(".py")))

    def changed_python(self, tree: str, ref: SourceRef) -> tuple[str, ...] | None:
        """Return the paths of the ``*.py`` files that are there, or are other ones, in only one of two trees.

        ``tree`` is that of an earlier snapshot; None where git does not have it any more.
        """
        if not _OBJECT.fullmatch(tree):
            return None
        try:
            entries = {*self._list(tree, ours=True)} ^ {*self._of(ref)}
        except SourceError:
            return None
        found = trees.matching(entries, lambda path: path.endswith(".py"))
        return tuple(sorted({entry.path for entry in found}))

    def export(self, ref: SourceRef) -> Path:
        """Return a directory with exactly the tree's files, made once per tree; it is not to be written to.

        Regular files have mode 644 or 755. Submodules are empty directories.
        """
        return self._store.export(ref.tree, self._places.objects)

    def _call(
        self, *arguments: str, env: Mapping[str, str] | None = None, options: Mapping[str, str] | None = None
    ) -> bytes:
        try:
            return self._git.user(self.root, *arguments, env=env, options=options)
        except GitError as error:
            raise SourceError(
                f"{self.root}: git cannot read the working tree: {error.message}",
                "mend what git names, or add it to .gitignore",
            ) from error

    def _env(self, objects: Path) -> dict[str, str]:
        return {"GIT_OBJECT_DIRECTORY": str(objects), **alternates(self._places.objects)}

    def _stage(self, scratch: Path, tree: str) -> _Stage:
        """Copy the index with its own time: git compares files' times with it to know which to read again."""
        index = scratch / "index"
        if self._places.index.is_file():
            shutil.copy2(self._places.index, index)
        else:
            self._call("read-tree", "HEAD", env={"GIT_INDEX_FILE": str(index)})
        env = {**self._env(self._store.git_dir(tree) / "objects"), "GIT_INDEX_FILE": str(index)}
        return _Stage(env, self._no_filters())

    def _inside(self, exclude: Sequence[Path]) -> list[str]:
        """The excluded directories that lie below the root, as paths from it."""
        root = self.root.resolve()
        inside = []
        for path in exclude:
            absolute = Path(self.root, path).resolve()
            if absolute == root:
                raise SourceError(
                    f"{path}: is the root of the repository and cannot be left out of it",
                    "put the workspace in a directory of its own",
                )
            if root in absolute.parents:
                inside.append(absolute.relative_to(root).as_posix())
        return inside

    def _write_tree(self, stage: _Stage, excluded: list[str]) -> str:
        """Bring the copied index up to the working tree and write its tree."""
        left_out = [f":(exclude,top,literal){path}" for path in excluded if not self._is_ignored(path)]
        self._call("add", "--all", "--", ":/", *left_out, env=stage.env, options=stage.options)
        return self._call("write-tree", env=stage.env, options=stage.options).decode().strip()

    def _is_ignored(self, path: str) -> bool:
        """Whether git leaves a directory out by itself; to name it in a pathspec is an error then."""
        try:
            self._git.user(self.root, "check-ignore", "--quiet", "--", path)
        except GitError:
            return False
        return True

    def _without(self, stage: _Stage, excluded: list[str]) -> str:
        """Drop what HEAD itself holds of excluded directories, and write the tree again."""
        paths = [f":(top,literal){path}" for path in excluded]
        words = ("rm", "-r", "-q", "-f", "--cached", "--ignore-unmatch", "--", *paths)
        self._call(*words, env=stage.env, options=stage.options)
        return self._call("write-tree", env=stage.env, options=stage.options).decode().strip()

    def _no_filters(self) -> dict[str, str]:
        """Options that turn every configured filter into none."""
        try:
            names = self._git.user(self.root, "config", "-z", "--name-only", "--get-regexp", r"^filter\.")
        except GitError:
            return {}
        drivers = {name.rpartition(".")[0] for name in os.fsdecode(names).split("\0") if name}
        settings = {}
        for driver in drivers:
            for key in ("clean", "smudge", "process"):
                settings[f"{driver}.{key}"] = ""
            settings[f"{driver}.required"] = "false"
        return settings

    def _commit(self, tree: str, parent: str, env: Mapping[str, str]) -> str:
        """Write the snapshot commit; author and date come from HEAD alone, so that it repeats."""
        head = self._call("cat-file", "commit", parent).split(b"\n\n")[0]
        (line,) = [line for line in head.split(b"\n") if line.startswith(b"committer ")]
        date = line.rsplit(b"> ", 1)[1].decode()
        people = {
            f"GIT_{who}_{fact}": value
            for who in ("AUTHOR", "COMMITTER")
            for fact, value in (("NAME", _AUTHOR), ("EMAIL", _EMAIL), ("DATE", date))
        }
        output = self._call("commit-tree", tree, "-p", parent, "-m", _MESSAGE, env={**env, **people})
        return output.decode().strip()

    def _of(self, ref: SourceRef) -> tuple[trees.Entry, ...]:
        return self._list(ref.tree, ref.dirty)

    def _list(self, tree: str, ours: bool) -> tuple[trees.Entry, ...]:
        if tree not in self._entries:
            env = self._env(self._store.git_dir(tree) / "objects") if ours else None
            listing = self._call("ls-tree", "-r", "-z", "--full-tree", tree, env=env)
            self._entries[tree] = trees.parse(listing)
        return self._entries[tree]

    def _notices(self, entries: Iterable[trees.Entry]) -> tuple[str, ...]:
        notices = []
        submodules = [entry.path for entry in entries if entry.mode == trees.SUBMODULE]
        if submodules:
            notices.append(
                f"submodules are not carried along, steps see empty directories: {', '.join(submodules)}"
            )
        attributes = self.root / ".gitattributes"
        if attributes.is_file() and "filter=lfs" in attributes.read_text("utf-8", "replace"):
            notices.append("the repository uses git-lfs: steps see its pointers, not the files behind them")
        return tuple(notices)


_LOCATE = ("rev-parse", "--show-toplevel", "--git-path", "index", "--git-path", "objects")


def _first(message: str) -> str:
    return message.partition("\n")[0].removeprefix("fatal: ")
