"""Files and directories as results: what a Path names becomes part of the result, under its own name.

Owns ``data.files``, a directory with that one entry; reading gives the entry's path. What lies in one of the
step's own directories is moved; anything else is copied, sharing its blocks where the file system can.
Refused: what is neither file, directory nor link. Links inside a directory stay links; the workspace refuses
those that lead out of the result.
"""

# ruff: noqa: PTH102, PTH104, PTH112, PTH113, PTH114, PTH115, PTH118, PTH119, PTH123, PTH100, PTH208, PTH211

from __future__ import annotations

import errno
import os
import shutil
import stat

from dispatch.errors import FormatError
from dispatch.formats.base import Format
from dispatch.formats.storing import discard, ensure_free, unfit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_BLOCK = 1 << 30
_UNSUPPORTED = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF)


class FilesFormat(Format["Any"]):
    """The file or directory that a Path names."""

    NAME = "files"
    FILE = "data.files"
    TAKES = "the Path of a file or directory that exists"

    def accepts(self, value: Any) -> bool:
        """Accept a Path to a regular file or a directory."""
        from pathlib import Path

        return isinstance(value, Path) and (os.path.isfile(value) or os.path.isdir(value))

    def write(self, value: Any, directory: Any, *, own: Iterable[str] = ()) -> str:
        """Move or copy what the path names; see ``Format.write``."""
        if not self.accepts(value):
            raise unfit(self, value)
        source = os.path.realpath(value)
        if is_below(directory, source):
            raise FormatError(
                f"the result is the directory {source}, in which the result itself is to be stored",
                "return the path of a file or directory below it",
            )
        ensure_free(directory, self.FILE)
        place = os.path.join(directory, self.FILE)
        target = os.path.join(place, os.path.basename(os.path.abspath(value)))
        try:
            os.mkdir(place)
            if not (any(is_below(source, each) for each in own) and _moved(source, target)):
                _copy(source, target)
        except BaseException as error:
            discard(place)
            if isinstance(error, OSError):
                raise FormatError(f"{value}: cannot be made the result: {error}") from error
            raise
        return self.FILE

    def restore(self, path: str) -> Any:
        """Return the path of the one entry."""
        from pathlib import Path

        found = os.listdir(path)
        if len(found) != 1 or os.path.islink(os.path.join(path, found[0])):
            raise FormatError("is not one file or directory")
        return Path(path, found[0])


def is_below(path: str | os.PathLike[str], place: str | os.PathLike[str]) -> bool:
    """Whether a path, its links followed, is a directory's or inside of it."""
    inner, outer = os.path.realpath(path), os.path.realpath(place)
    return inner == outer or inner.startswith(outer.rstrip("/") + "/")


def _moved(source: str, target: str) -> bool:
    """Move what is on the same mount; say if that could be done."""
    try:
        os.rename(source, target)
    except OSError:
        return False
    return True


def _copy(source: str, target: str) -> None:
    mode = os.lstat(source).st_mode
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISDIR(mode):
        os.mkdir(target)
        for name in os.listdir(source):
            _copy(os.path.join(source, name), os.path.join(target, name))
        os.chmod(target, stat.S_IMODE(mode) | stat.S_IRWXU)  # noqa: PTH101
    elif stat.S_ISREG(mode):
        _copy_file(source, target)
        os.chmod(target, stat.S_IMODE(mode) | stat.S_IRUSR)  # noqa: PTH101
    else:
        raise FormatError(
            f"{source}: is a socket, pipe or device, and cannot be part of a result",
            "leave regular files in the directory that the step returns",
        )


def _copy_file(source: str, target: str) -> None:
    copy_range: Any = getattr(os, "copy_file_range", None)
    with open(source, "rb") as reader, open(target, "xb") as writer:
        if copy_range is not None:
            try:
                while copy_range(reader.fileno(), writer.fileno(), _BLOCK):
                    pass
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
        # What is left, be it because the file system cannot, or says it is done too early as some do.
        reader.seek(os.lseek(writer.fileno(), 0, os.SEEK_CUR))
        shutil.copyfileobj(reader, writer, 1 << 20)
