"""Clients of Beaker that die, or stop for a while, before or after any one call; and their machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dispatch._beaker import BeakerDoor
from dispatch.workspace.host import Holder, Host


class Crash(BaseException):
    """The process is gone: nothing that it would do afterwards is done."""


class Crashing:
    """In place of what makes the door's calls: dies at the call ``at``, ``after`` it, or not at all.

    ``made`` counts the calls. Once dead, each call dies, until :meth:`revive`.
    """

    def __init__(self, door: BeakerDoor, at: int | None = None, *, after: bool = False) -> None:
        self._calls = door.account.call
        self._at = at
        self._after = after
        self.dead = False
        self.made = 0
        door.account.__dict__["call"] = self
        assert "datasets" not in door.__dict__

    def __call__(self, what: str, call: Callable[[], Any], patience: float | None = None) -> Any:
        """Make a call."""
        if self.dead:
            raise Crash(what)
        self.made += 1
        is_last = self._at is not None and self.made == self._at + 1
        if is_last and not self._after:
            self.dead = True
            raise Crash(what)
        try:
            return self._calls(what, call, patience)
        finally:
            if is_last:
                self.dead = True
                raise Crash(what)

    def __getattr__(self, name: str) -> Any:
        """Be all else that the door's calls are."""
        return getattr(self._calls, name)

    def revive(self) -> None:
        """Let the process go on: it was only slow."""
        self.dead = False
        self._at = None


class Machine:
    """A machine whose processes live until they are killed."""

    def __init__(self, name: str = "here") -> None:
        self.name = name
        self._living: set[int] = set()
        self._last = 0

    def process(self) -> Process:
        """Begin a process."""
        self._last += 1
        self._living.add(self._last)
        return Process(self, self._last)

    def kill(self, process: Process) -> None:
        """End a process."""
        self._living.discard(process.pid)

    def lives(self, pid: int) -> bool:
        """Whether a process lives."""
        return pid in self._living


class Process(Host):
    """One process, as a client's idea of where it runs."""

    def __init__(self, machine: Machine, pid: int) -> None:
        self._machine = machine
        self.pid = pid

    def me(self, run: str) -> Holder:
        """Describe it."""
        name = self._machine.name
        return Holder(name, f"{name}-m", f"{name}-b", f"{name}-n", self.pid, str(self.pid), run)

    def start_of(self, pid: int) -> str | None:
        """Return when a process of this machine began."""
        return str(pid) if self._machine.lives(pid) else None
