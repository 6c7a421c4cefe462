"""What the system knows of processes and pipes, and does to them, for ``zygote``. Decides nothing."""

# pathlib takes longer to import than all of the runtime.
# ruff: noqa: PTH123, PTH208

from __future__ import annotations

import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_BLOCK = 1 << 16


def prctl() -> Callable[[int, int], object]:
    """The system call. Without it, a step's stray processes, and those of a killed zygote, are not caught."""
    try:
        import ctypes

        call = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return lambda option, value: None  # noqa: ARG005
    return lambda option, value: call(option, ctypes.c_ulong(value), *[ctypes.c_ulong(0)] * 3)


def is_readable(descriptor: int) -> bool:
    """Whether reading would not wait."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def rest(pipe: int) -> bytes:
    """What a pipe holds; a process that its step left behind may still keep it open."""
    os.set_blocking(pipe, False)
    try:
        return os.read(pipe, _BLOCK)
    except BlockingIOError:
        return b""


def kill(call: Callable[[int, int], None], number: int, what: int) -> None:
    """Send a signal by ``os.kill`` or ``os.killpg``, unless there is nobody to get it."""
    try:
        call(number, what)
    except (ProcessLookupError, PermissionError):
        # It is gone, or became another user's.
        return


def has_group(number: int) -> bool:
    """Whether killed processes of a group are still among our children. Takes note of those that are dead."""
    try:
        while os.waitpid(-number, os.WNOHANG)[0] != 0:
            continue
    except ChildProcessError:
        return False
    return True


def session(pid: int) -> int:
    """The session of a process, -1 if it is gone."""
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def parent(pid: int) -> int:
    """The parent of a process, -1 if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name of the program is in brackets and may hold brackets and blanks itself.
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return -1


def children(pid: int, thorough: bool) -> list[int]:
    """The children of a process, as many kernels list them; else, if ``thorough``, all processes are read."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        if not thorough:
            return []
    found = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [each for each in found if parent(each) == pid]
