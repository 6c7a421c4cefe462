"""A configuration's place: the snapshot that runs in containers, and the working tree that runs here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from dispatch import job as jobs
from dispatch.errors import SourceError
from dispatch.source import Git, Provenance, Repository, SourceRef, provenance

ROOT = jobs.CONTAINER.source


class SourceTree:
    """The repository around ``directory``, as it is when it is first asked.

    ``beside`` are directories whose modules steps may import, ``exclude`` directories that are never part of
    the snapshot. Raises SourceError from whatever asks first.
    """

    def __init__(
        self, directory: Path, beside: Sequence[Path], exclude: Sequence[Path], git: Git, cache: Path
    ) -> None:
        self._directory = directory
        self._beside = tuple(beside)
        self._exclude = tuple(exclude)
        self._git = git
        self._cache = cache

    @cached_property
    def repository(self) -> Repository:
        """The repository."""
        return Repository.open(self._directory, self._git, self._cache)

    @cached_property
    def ref(self) -> SourceRef:
        """The exact state that runs: the commit, or a snapshot of the working tree."""
        return self.repository.snapshot(self._exclude)

    @cached_property
    def code(self) -> str:
        """The digest of all Python files."""
        return self.repository.python_digest(self.ref)

    @cached_property
    def exported(self) -> Path:
        """The tree's files on this machine, never to be written to."""
        return self.repository.export(self.ref)

    @cached_property
    def provenance(self) -> Provenance:
        """Where the commit comes from, for the record."""
        return provenance(self.repository.root, self.ref.commit)

    @property
    def workdir(self) -> str:
        """The working directory in a container: that of the configuration."""
        return self._inside(self._directory) or ROOT

    @property
    def paths(self) -> tuple[str, ...]:
        """Import paths in a container: the configuration's directory, those beside it, the root, its src/."""
        root = self.repository.root
        places = [self._directory, *self._beside, root]
        places += [root / "src"] if (root / "src").is_dir() else []
        return tuple(dict.fromkeys(found for place in places if (found := self._inside(place))))

    def tree_of(self, paths: Sequence[str]) -> str:
        """Digest of the files under paths that are relative to the configuration, as a command's are.

        ``/`` is the whole repository.
        """
        inside = self.workdir[len(ROOT) + 1 :]
        places = ["." if path == "/" else f"{inside}/{path}" if inside else path for path in paths]
        return self.repository.tree_of(self.ref, places)

    def _inside(self, path: Path) -> str | None:
        """A directory of the repository as a path in the container, None if it lies elsewhere."""
        root, resolved = self.repository.root.resolve(), path.resolve()
        if resolved != root and root not in resolved.parents:
            return None
        inside = resolved.relative_to(root).as_posix()
        return ROOT if inside == "." else f"{ROOT}/{inside}"


class WorkingTree:
    """The files around a configuration as they are, where steps run that need no image.

    ``snapshot`` is the same place as a repository. Here, unlike for containers, it is only asked what to
    record: outside of a repository nothing is recorded of the source, and steps run all the same.
    """

    def __init__(self, directory: Path, beside: Sequence[Path], snapshot: SourceTree) -> None:
        self._directory = directory
        self._beside = tuple(beside)
        self._snapshot = snapshot

    @cached_property
    def snapshot(self) -> SourceTree | None:
        """The repository's state, or None where there is no repository, or one without a commit."""
        try:
            _ = self._snapshot.ref
        except SourceError:
            return None
        return self._snapshot

    @property
    def code(self) -> str:
        """The digest of all Python files, empty outside of a repository."""
        return self.snapshot.code if self.snapshot else ""

    @property
    def workdir(self) -> str:
        """The working directory: that of the configuration."""
        return str(self._directory)

    @property
    def paths(self) -> tuple[str, ...]:
        """Import paths: the configuration's directory, those beside it, the repository's root, its src/."""
        places = [self._directory, *self._beside]
        if self.snapshot is not None:
            root = self.snapshot.repository.root
            places += [root, *([root / "src"] if (root / "src").is_dir() else [])]
        return tuple(dict.fromkeys(map(str, places)))
