"""A client that goes on without its terminal: a child process in a session of its own.

Owns the pipe between the two, and when the child lets go of the terminal: once everything was planned,
refused and built, and the run can be watched. Until then the child's words are the command's, and its end is
the command's end.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from dispatch.errors import ConfigurationError, EngineError
from dispatch.settings import WorkspaceSetting


@dataclass(frozen=True)
class Child:
    """In the child: the way to tell the parent."""

    pipe: int

    def let_go(self, run: str, log: Path | None) -> None:
        """Say which run it is, and have nothing to do with the terminal from now on."""
        target = os.open(
            log if log is not None else os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666
        )
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(target, 1)
        os.dup2(target, 2)
        os.close(target)
        self.tell(run)

    def tell(self, run: str) -> None:
        """Say which run it is; the parent ends with that."""
        # A parent that was killed needs no answer.
        with contextlib.suppress(OSError):
            os.write(self.pipe, json.dumps({"run": run}).encode())
        os.close(self.pipe)


@dataclass(frozen=True)
class Parent:
    """In the parent: the child's pid, and the pipe on which it tells its run."""

    pid: int
    pipe: int

    def wait(self) -> tuple[str | None, int]:
        """Wait until the child has let go, or has ended before: return the run's name, or None and its code.

        An interrupt, or the end of the terminal, is passed on to the child, and waited for.
        """
        former = signal.signal(signal.SIGHUP, _interrupt)
        told = b""
        try:
            while True:
                try:
                    piece = os.read(self.pipe, 4096)
                except KeyboardInterrupt:
                    # Another session's: the terminal does not reach it.
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(self.pid, signal.SIGTERM)
                    continue
                if not piece:
                    break
                told += piece
        finally:
            signal.signal(signal.SIGHUP, former)
            os.close(self.pipe)
        if told:
            return str(json.loads(told)["run"]), 0
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if code < 0:
            name = signal.Signals(-code).name
            raise EngineError(f"the detached client was killed ({name})", "repeat the command")
        return None, code


def refuse_impossible(workspace: WorkspaceSetting) -> None:
    """ConfigurationError for a workspace that ends with this process."""
    if workspace.type == "memory":
        raise ConfigurationError(
            f"{workspace.url}: is gone when this command ends, so nothing can go on in it",
            "name a workspace in a directory, or run without --detach",
        )


def detach(fork: Callable[[], int] = os.fork) -> Child | Parent:
    """Split into a parent, which keeps the terminal, and a child in a session of its own.

    A fork and not a new command line: working directory, environment and all that was read of options are the
    same by nature. To be called while this process has one thread.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = fork()
    if pid:
        os.close(writing)
        return Parent(pid, reading)
    os.close(reading)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return Child(writing)


def _interrupt(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt
