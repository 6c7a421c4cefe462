"""The few primitives through which a workspace changes its files: each change is one of these calls.

Reading goes straight to the file system. Whoever wants to see what a crash between two changes leaves behind
passes another object with these methods.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS)


class Disk:
    """Changes on a POSIX file system. Methods raise OSError as the system does."""

    def make_dir(self, path: Path) -> None:
        """Make a directory and its parents; one that exists is left as it is."""
        path.mkdir(parents=True, exist_ok=True)

    def make_new_dir(self, path: Path) -> None:
        """Make a directory in an existing one; FileExistsError if there is anything of that name."""
        path.mkdir()

    def create(self, path: Path, data: bytes) -> None:
        """Make a file with these bytes, or raise FileExistsError: nobody ever sees it in part.

        A hard link is what is both exclusive and whole at once; where the drive has none, the file is opened
        exclusively and then written, and a reader may for a moment find it empty.
        """
        temporary = self._beside(path)
        self._fill(temporary, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            # A drive over the network may have done it, lost the answer, and been asked again.
            if temporary.stat().st_nlink != 2:
                raise
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._fill(path, data)
        finally:
            temporary.unlink()

    def write(self, path: Path, data: bytes, durable: bool = False) -> None:
        """Replace a file's content atomically; ``durable`` brings the bytes to the disk first."""
        temporary = self._beside(path)
        self._fill(temporary, data, durable)
        temporary.replace(path)

    def new_link(self, path: Path, target: str) -> None:
        """Make a symbolic link; FileExistsError if there is anything of that name."""
        path.symlink_to(target)

    def link(self, path: Path, target: str) -> None:
        """Make ``path`` a symbolic link to ``target``, replacing another link atomically."""
        temporary = self._beside(path)
        temporary.symlink_to(target)
        try:
            temporary.replace(path)
        except OSError:
            temporary.unlink()
            raise

    def rename(self, source: Path, target: Path) -> None:
        """Rename; a directory replaces nothing but an empty one, else OSError (ENOTEMPTY or EEXIST)."""
        source.rename(target)

    def touch(self, path: Path) -> None:
        """Set a file's time to now, by the clock of the drive."""
        os.utime(path)

    def sync(self, path: Path) -> None:
        """Bring a file's bytes, or a directory's entries, to the disk."""
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def remove(self, path: Path) -> None:
        """Remove a file, a link or a whole directory; what is not there is fine."""
        if path.is_dir() and not path.is_symlink():
            import shutil

            shutil.rmtree(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def _beside(self, path: Path) -> Path:
        return path.parent / f".{path.name[:100]}.{os.urandom(6).hex()}"

    def _fill(self, path: Path, data: bytes, durable: bool = False) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(handle, view) :]
            if durable:
                os.fsync(handle)
        finally:
            os.close(handle)
