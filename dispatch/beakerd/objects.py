"""The files of datasets on the disk: real trees, since jobs have them mounted as they are.

Owns what a path may be, and how a file comes to stand at one: it is written elsewhere on the same file system
and renamed, so that nothing half is ever seen. No path leaves its tree, whatever is in the tree: every folder
on the way is opened by its own descriptor, and links are not followed.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from dispatch.beakerd.problems import Kind, Problem, invalid

NAME_BYTES = 255
PATH_BYTES = 2048
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def checked(path: str) -> str:
    """Return a path inside a dataset as it is.

    :raises Problem: INVALID, where it is none: absolute, with empty parts, ``.`` or ``..``, too long, no text
    """
    shown = ascii(path if len(path) <= 200 else path[:200] + "…")
    if not path:
        raise invalid("the path of a file is empty")
    if path.startswith("/"):
        raise invalid(f"path {shown}: is absolute")
    try:
        encoded = path.encode()
    except UnicodeEncodeError as error:
        raise invalid(f"path {shown}: is not UTF-8") from error
    if b"\0" in encoded:
        raise invalid(f"path {shown}: has a zero byte")
    parts = encoded.split(b"/")
    if any(part in (b"", b".", b"..") for part in parts):
        raise invalid(f"path {shown}: has an empty part, `.` or `..`")
    if len(encoded) > PATH_BYTES or any(len(part) > NAME_BYTES for part in parts):
        raise invalid(f"path {shown}: is too long (a name {NAME_BYTES} bytes, all {PATH_BYTES})")
    return path


def no_room(error: OSError) -> Problem | None:
    """What is said where the disk is full; None for any other error."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Problem(Kind.TROUBLE, "the server's disk is full: nothing of this was kept")
    return None


class Tree:
    """The files of one dataset. Paths were :func:`checked`."""

    def __init__(self, root: Path):
        self._root = root

    def open(self, path: str) -> BinaryIO:
        """Open a file to read.

        :raises FileNotFoundError: when there is no such regular file
        """
        folder, name = self._folder(path, make=False)
        try:
            descriptor = os.open(
                name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder
            )
        except OSError as error:
            raise FileNotFoundError(path) from error
        finally:
            os.close(folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileNotFoundError(path)
        return os.fdopen(descriptor, "rb", buffering=0)

    def remove(self, path: str) -> None:
        """Remove a file, and the folders that it leaves empty."""
        with suppress(FileNotFoundError):
            folder, name = self._folder(path, make=False)
            try:
                os.unlink(name, dir_fd=folder)
            finally:
                os.close(folder)
        parts = path.split("/")[:-1]
        with suppress(OSError):
            while parts:
                self._root.joinpath(*parts).rmdir()
                parts.pop()

    def move_in(self, staged: Path, path: str) -> None:
        """Rename a file to its path in the tree, in place of a file that is there.

        :raises Problem: INVALID, where a file is in the way of a folder, or a folder in that of the file
        """
        folder, name = self._folder(path, make=True)
        try:
            try:
                os.rename(staged, name, dst_dir_fd=folder)
            except IsADirectoryError:
                # What is left of files that were there; a folder that holds something stays.
                os.rmdir(name, dir_fd=folder)
                os.rename(staged, name, dst_dir_fd=folder)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR):
                raise invalid(f"path {path!a}: a folder of this name is there") from error
            raise
        finally:
            os.close(folder)

    def move_out(self, path: str, staged: Path) -> None:
        """Take back :meth:`move_in`."""
        folder, name = self._folder(path, make=False)
        try:
            os.rename(name, staged, src_dir_fd=folder)
        finally:
            os.close(folder)

    def link(self, path: str, to: Path) -> bool:
        """Give a file a second name elsewhere; False where there is no such file."""
        try:
            folder, name = self._folder(path, make=False)
        except FileNotFoundError:
            return False
        try:
            os.link(name, to, src_dir_fd=folder, follow_symlinks=False)
        except (FileNotFoundError, PermissionError):
            # PermissionError: a folder is there, which has no second name; renaming says so.
            return False
        finally:
            os.close(folder)
        return True

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Every file with its path; what is no folder counts as a file."""
        yield from _below(self._root, "")

    def _folder(self, path: str, make: bool) -> tuple[int, str]:
        """Open the folder of a path, and return its descriptor with the last name."""
        *folders, name = path.split("/")
        if make and not self._root.exists():
            # For whatever user a job has; the directory of the state is closed to others.
            self._root.mkdir(parents=True, exist_ok=True)
            for place in (self._root.parent, self._root):
                place.chmod(0o755)
        folder = os.open(self._root, _FOLDER)
        for part in folders:
            try:
                below = _step(folder, part, make)
            except OSError as error:
                if make and error.errno in (errno.ENOTDIR, errno.ELOOP):
                    raise invalid(f"path {path!a}: {part!a} is a file there") from error
                if error.errno in (errno.ENOTDIR, errno.ELOOP):
                    raise FileNotFoundError(path) from error
                raise
            finally:
                os.close(folder)
            folder = below
        return folder, name


def _step(folder: int, part: str, make: bool) -> int:
    if make:
        try:
            os.mkdir(part, 0o755, dir_fd=folder)
            os.chmod(part, 0o755, dir_fd=folder)
        except FileExistsError:
            pass
    return os.open(part, _FOLDER, dir_fd=folder)


def _below(folder: Path, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _below(Path(entry.path), f"{prefix}{entry.name}/")
        else:
            with suppress(FileNotFoundError):
                yield f"{prefix}{entry.name}", entry.stat(follow_symlinks=False)


class Placing:
    """A context in which one file is put into a tree; whatever raises in it takes that back.

    It stands around the transaction that records the file, so that a commit which fails leaves the tree as
    it was: what was replaced has a second name (``spare``) until then.
    """

    def __init__(self, tree: Tree, spare: Path):
        self._tree = tree
        self._spare = spare
        self._placed: tuple[Path, str] | None = None

    def __enter__(self) -> Placing:
        return self

    def place(self, staged: Path, path: str) -> None:
        """Put the staged file at the path; once."""
        self._tree.link(path, self._spare)
        self._tree.move_in(staged, path)
        self._placed = (staged, path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._placed is not None:
            staged, path = self._placed
            self._tree.move_out(path, staged)
            if self._spare.exists():
                self._tree.move_in(self._spare, path)
            else:
                self._tree.remove(path)
        self._spare.unlink(missing_ok=True)


def discard_tree(tree: Path, aside: Path) -> None:
    """Remove a directory: at once from its place, then what is in it."""
    with suppress(FileNotFoundError):
        tree.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
