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
        try:
            self._fill(temporary, data)
            os.link(temporary, path)
        except FileExistsError:
            # A drive over the network may have done it, lost the answer, and been asked again.
            if temporary.stat().st_nlink != 2:
                raise
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            try:
                self._fill(path, data)
            except FileExistsError:
                raise
            except OSError:
                self._drop(path)
                raise
        finally:
            self._drop(temporary)

    def write(self, path: Path, data: bytes, durable: bool = False) -> None:
        """Replace a file's content atomically; ``durable`` brings the bytes to the disk first."""
        temporary = self._beside(path)
        try:
            self._fill(temporary, data, durable)
            temporary.replace(path)
        except OSError:
            self._drop(temporary)
            raise

    def append(self, path: Path, data: bytes) -> None:
        """Add bytes to the end of a file, which is made where it is missing, in one write; nothing is synced.

        Closed each time, for only then does a drive over the network let others see it.
        """
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            written = os.write(handle, data)
        finally:
            os.close(handle)
        if written != len(data):
            raise OSError(errno.ENOSPC, "written in part only", os.fspath(path))

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
            self._drop(temporary)
            raise

    def rename(self, source: Path, target: Path) -> None:
        """Rename; a directory replaces nothing but an empty one, else OSError (ENOTEMPTY or EEXIST)."""
        source.rename(target)

    def rename_dir(self, source: Path, target: Path) -> None:
        """Rename like :meth:`rename`, but NotADirectoryError where the source is anything but a directory."""
        # The system itself checks this, in the same moment, for the sake of the slash.
        os.rename(f"{source}/", target)  # noqa: PTH104

    def touch(self, path: Path) -> None:
        """Set a file's time to now, by the clock of the drive."""
        os.utime(path)

    def sync(self, path: Path) -> None:
        """Bring a file's bytes, or a directory's entries, to the disk."""
        handle = os.open(path, os.O_RDONLY)
        try:
            self.flush(handle)
        finally:
            os.close(handle)

    def flush(self, handle: int) -> None:
        """Bring what was written to an open file, or the entries of an open directory, to the disk."""
        os.fsync(handle)

    def clock(self, directory: Path) -> float:
        """Return what time it is by the clock that stamps the files of a directory, in seconds of the epoch.

        A drive over the network has a clock of its own.
        """
        probe = self._beside(directory / "clock")
        self._fill(probe, b"")
        try:
            return probe.stat().st_ctime
        finally:
            probe.unlink()

    def remove(self, path: Path) -> None:
        """Remove a file, a link or a whole directory; what is not there is fine."""
        if path.is_dir() and not path.is_symlink():
            import shutil

            shutil.rmtree(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def _drop(self, temporary: Path) -> None:
        """Remove a temporary file if there is one; the error that led here is the one to be told."""
        with contextlib.suppress(OSError):
            temporary.unlink()

    def _beside(self, path: Path) -> Path:
        return path.parent / f".{path.name[:100]}.{os.urandom(6).hex()}"

    def _fill(self, path: Path, data: bytes, durable: bool = False) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(handle, view) :]
            if durable:
                self.flush(handle)
        finally:
            os.close(handle)
