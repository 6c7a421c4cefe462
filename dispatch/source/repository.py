"""The user's repository: found, photographed, identified and exported, but never written to.

A snapshot is made in a copy of the index, with new objects going to a store of our own. Filters are off on
the way in and out: a file under git-lfs that has not been touched since checkout is carried as its pointer,
and the snapshot says so. Submodules that are checked out are photographed likewise, each by itself, and their
trees put in the place of their commits: so one tree is all there is to identify, to export and to compare.
One that is not checked out is an empty directory, as it is for the user; to refuse it would stop all whose
steps do not need it, and a step that does need it fails by the file that it misses.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dispatch.errors import SourceError
from dispatch.source import difference, lfs
from dispatch.source import tree as trees
from dispatch.source.git import Git, GitError
from dispatch.source.pushed import Login, RemoteQuestion
from dispatch.source.ref import Part, SourceRef
from dispatch.source.remotes import Remote, choose
from dispatch.source.stage import Configured, Desk, Stage
from dispatch.source.store import Store, alternates

_OBJECT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_NOT_THERE = "submodules that are not checked out are empty directories for steps"


@dataclass(frozen=True)
class _Places:
    root: Path
    index: Path
    objects: Path
    config: Path


class Repository:
    """A work tree of git, with a commit checked out. Make one with :meth:`open`."""

    def __init__(self, places: _Places, git: Git, store: Store) -> None:
        self._places = places
        self._git = git
        self._store = store
        self._desk = Desk(places.root, git)
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
        return cls(_locate(directory, git), git, Store(cache, git))

    def snapshot(self, exclude: Sequence[Path] = ()) -> SourceRef:
        """Record the exact working tree: changes, deletions, and new files that git does not ignore.

        ``exclude`` names directories (absolute, or from the root) that never enter. A tree equal to HEAD's is
        HEAD itself; the same changes on the same HEAD give the same snapshot commit.
        """
        ref = self._photograph(exclude)
        with self._store.scratch() as scratch:
            env = {**self._env(ref.tree, ref.stores), "GIT_INDEX_FILE": str(Path(scratch) / "index")}
            pointers = lfs.notices(self._desk, env, ref.tree, self._of(ref))
        return replace(ref, notices=(*ref.notices, *pointers))

    def _photograph(self, exclude: Sequence[Path]) -> SourceRef:
        commit, tree = self._desk.call("rev-parse", "HEAD^{commit}", "HEAD^{tree}").decode().split()
        excluded = self._inside(exclude)
        with self._store.scratch() as scratch:
            stage = self._stage(Path(scratch), tree)
            own = stage.write_tree(excluded)
            entries = self._list(own, self._stores())
            if any(trees.under(entry.path, path) for path in excluded for entry in entries):
                own = stage.without(excluded)
                entries = self._list(own, self._stores())
            modules = [entry.path for entry in entries if entry.mode == trees.SUBMODULE]
            parts = self._parts(modules, [self.root / path for path in exclude])
            stores = self._stores(parts)
            whole = replace(stage, env={**stage.env, **alternates(*stores)})
            found = whole.graft({part.path: part.ref.tree for part in parts}) if parts else own
            dirty = own != tree or any(part.ref.dirty for part in parts)
            snapshot = whole.commit(found, commit) if dirty else None
        notices = tuple(_not_there(modules, parts))
        return SourceRef(self.root, commit, found, dirty, snapshot, notices, own, parts, stores)

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
            entries = {*self._list(tree, ref.stores)} ^ {*self._of(ref)}
        except SourceError:
            return None
        found = trees.matching(entries, lambda path: path.endswith(".py"))
        return tuple(sorted({entry.path for entry in found}))

    def difference(self, ref: SourceRef) -> bytes:
        """How the files of a dirty state differ from the commit, as a patch of bounded length."""
        env = self._env(ref.tree, ref.stores)
        with self._store.scratch() as scratch:
            return difference.between(self._desk, env, ref, Path(scratch))

    def export(self, ref: SourceRef) -> Path:
        """Return a directory with exactly the tree's files, made once per tree; it is not to be written to.

        Regular files have mode 644 or 755. Submodules that are not checked out are empty directories.
        """
        return self._store.export(ref.tree, ref.stores)

    def remote(self, name: str | None = None) -> Remote:
        """The remote to clone from; see :func:`dispatch.source.remotes.choose`."""
        return choose(self._desk, name)

    def holder(self, remote: Remote, commit: str, login: Login | None = None) -> str:
        """Ask a remote which of its branches holds a commit; see :meth:`RemoteQuestion.holder`."""
        return RemoteQuestion(self._git, self._store, self._desk, self._places.config, remote, login).holder(
            commit
        )

    def _env(self, tree: str, stores: Sequence[Path]) -> dict[str, str]:
        objects = self._store.git_dir(tree) / "objects"
        return {"GIT_OBJECT_DIRECTORY": str(objects), **alternates(*stores)}

    def _stores(self, parts: Sequence[Part] = ()) -> tuple[Path, ...]:
        """Our own object store and those of submodules."""
        every = [self._places.objects, *(store for part in parts for store in part.ref.stores)]
        return tuple(dict.fromkeys(every))

    def _stage(self, scratch: Path, tree: str) -> Stage:
        """Copy the index with its own time: git compares files' times with it to know which to read again."""
        index = scratch / "index"
        if self._places.index.is_file():
            shutil.copy2(self._places.index, index)
        else:
            self._desk.call("read-tree", "HEAD", env={"GIT_INDEX_FILE": str(index)})
        env = {**self._env(tree, self._stores()), "GIT_INDEX_FILE": str(index)}
        configured = Configured.of(self._desk)
        return Stage(self._desk, env, configured.without_filters(), configured.sparse)

    def _parts(self, paths: Iterable[str], exclude: Sequence[Path]) -> tuple[Part, ...]:
        """Photograph the submodules that are checked out, and those within them."""
        found = []
        for path in paths:
            directory = self.root / path
            if os.path.lexists(directory / ".git"):
                module = Repository(_locate(directory, self._git), self._git, self._store)
                if module.root.resolve() != directory.resolve():
                    raise SourceError(
                        f"{directory}: is no repository of its own, though the commit says so",
                        f"check it out anew: git submodule update --init {path}",
                    )
                found.append(Part(path, module._photograph(exclude)))
        return tuple(found)

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

    def _of(self, ref: SourceRef) -> tuple[trees.Entry, ...]:
        return self._list(ref.tree, ref.stores)

    def _list(self, tree: str, stores: Sequence[Path]) -> tuple[trees.Entry, ...]:
        if tree not in self._entries:
            listing = self._desk.call("ls-tree", "-r", "-z", "--full-tree", tree, env=self._env(tree, stores))
            self._entries[tree] = trees.parse(listing)
        return self._entries[tree]


_LOCATE = (
    "rev-parse",
    "--show-toplevel",
    "--git-path",
    "index",
    "--git-path",
    "objects",
    "--git-path",
    "config",
)


def _locate(directory: Path, git: Git) -> _Places:
    try:
        output = git.user(directory, *_LOCATE, "HEAD^{tree}")
    except GitError as error:
        if error.output.count(b"\n") >= 4:
            raise SourceError(
                f"{directory}: the repository has no commit yet", "commit once: git add -A && git commit"
            ) from error
        raise SourceError(
            f"{directory}: not in the work tree of a git repository: {_first(error.message)}",
            "steps run from a repository: git init && git add -A && git commit",
        ) from error
    return _Places(*(directory / os.fsdecode(line) for line in output.split(b"\n")[:4]))


def _not_there(modules: Sequence[str], parts: Sequence[Part]) -> list[str]:
    """Say which submodules are not checked out; each part says that of its own."""
    carried = {part.path for part in parts}
    missing = [path for path in modules if path not in carried]
    notices = [f"in {part.path}: {notice}" for part in parts for notice in part.ref.notices]
    if missing:
        names = ", ".join(missing)
        return [f"{_NOT_THERE}: {names} (git submodule update --init)", *notices]
    return notices


def _first(message: str) -> str:
    return message.partition("\n")[0].removeprefix("fatal: ")
