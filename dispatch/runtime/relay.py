"""A step with secrets, for ``zygote``: their files in memory, and its log, from which they are taken.

Owns a private directory that is there as long as the step, and the pipe between what the step prints and its
log. Refuses to choose the directory's place: the client says it, and takes it away where nobody else can.
"""

# pathlib takes longer to import than all of the runtime.
# ruff: noqa: PTH102, PTH118

from __future__ import annotations

import os

from dispatch.runtime.mask import Masker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BLOCK = 1 << 16
# Blocks that a pipe can hold, whatever its size was set to.
_MOST = 16


class Relay:
    """Made before the step's process; ``target`` becomes its standard output and error.

    ``secrets`` has ``place`` and ``values`` by name. OSError where they cannot be stored.
    """

    def __init__(self, secrets: dict[str, Any], log: int) -> None:
        self._place: str = secrets["place"]
        self._names: list[str] = []
        os.mkdir(self._place, 0o700)
        self._masker = Masker(secrets["values"].values())
        try:
            for name, value in secrets["values"].items():
                self._store(name, value.encode("utf-8", "surrogateescape"))
        except OSError:
            self._remove()
            raise
        self._log = os.dup(log)
        self.source, self.target = os.pipe()
        os.set_blocking(self.source, False)
        self.watched = False

    def release(self) -> None:
        """Close the target, in the process that has it no longer for its own or has made it so."""
        if self.target >= 0:
            os.close(self.target)
            self.target = -1

    def forsake(self) -> None:
        """Close, in a step's process, what is not the step's."""
        for descriptor in (self.source, self._log):
            os.close(descriptor)

    def pump(self) -> bool:
        """Pass on what has been printed; False where nothing more can come."""
        try:
            block = os.read(self.source, _BLOCK)
        except BlockingIOError:
            return True
        self._write(self._masker.feed(block))
        return bool(block)

    def finish(self) -> None:
        """Pass on what the step left in the pipe, and remove its secrets.

        What it started and left behind may still print: that has no place in the log, and is not waited for.
        """
        for _ in range(_MOST):
            try:
                block = os.read(self.source, _BLOCK)
            except BlockingIOError:
                break
            if not block:
                break
            self._write(self._masker.feed(block))
        self._write(self._masker.end())
        self.release()
        self.forsake()
        self._remove()

    def _store(self, name: str, value: bytes) -> None:
        self._names.append(name)
        file = os.open(os.path.join(self._place, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            while value:
                value = value[os.write(file, value) :]
        finally:
            os.close(file)

    def _write(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._log, data) :]
        except OSError:
            # A full disk costs the log, as where the step writes it itself; the step goes on.
            return

    def _remove(self) -> None:
        from shutil import rmtree

        rmtree(self._place, ignore_errors=True)
