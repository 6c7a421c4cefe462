"""Directories for work in progress that do not outlive their maker, however it ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staging(root: Path) -> Iterator[Path]:
    """Give a new directory under ``root``, removed at the end.

    What killed processes left is removed on the way in: each directory has a lock file beside it, whose lock
    died with its maker.
    """
    root.mkdir(parents=True, exist_ok=True)
    _sweep(root)
    descriptor, name = tempfile.mkstemp(suffix=".lock", dir=root)
    lock = Path(name)
    directory = lock.with_suffix("")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        directory.mkdir(mode=0o700)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def _sweep(root: Path) -> None:
    for lock in root.glob("*.lock"):
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # its maker has just finished, or is somebody else
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
        except BlockingIOError:
            continue  # at work
        finally:
            os.close(descriptor)
