"""What goes wrong with a workspace, at will: disks that break, processes that die, clocks that are set."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from dispatch.workspace.disk import Disk
from dispatch.workspace.host import Holder, Host

HERE = Holder("here", "machine", "boot", "pid:[1]", 1, "1", "")


class Crash(Exception):
    """The process is gone: from here on nothing reaches the disk, whatever is done about this."""


class WatchedDisk(Disk):
    """A disk whose every call is told before (``after`` False) and after it changed anything.

    What ``tell`` raises, the call raises.
    """

    def __init__(self, tell: Callable[[str, tuple[object, ...], bool], None]) -> None:
        self.tell = tell

    def __getattribute__(self, name: str) -> object:
        """Wrap the public methods."""
        found = super().__getattribute__(name)
        if name.startswith("_") or not callable(found) or name == "tell":
            return found

        def change(*arguments: object, **options: object) -> object:
            self.tell(name, arguments, False)
            answer = found(*arguments, **options)
            self.tell(name, arguments, True)
            return answer

        return change


class CrashingDisk(WatchedDisk):
    """A disk that is cut off after so many halves of calls, and stays so.

    An odd number lets a call take effect, and its caller not learn of it. ``crashed`` says whether it came to
    that. May be used from several threads. Flushing is counted, and not done: no power is cut here.
    """

    def flush(self, handle: int) -> None:
        """Do nothing."""

    def __init__(self, halves: int) -> None:
        super().__init__(self._count)
        self._left = halves
        self._lock = threading.Lock()
        self.crashed = False

    def _count(self, name: str, arguments: tuple[object, ...], after: bool) -> None:  # noqa: ARG002
        with self._lock:
            if self._left == 0:
                self.crashed = True
                raise Crash
            self._left -= 1


class OldDisk(Disk):
    """A drive on which everything there is was made two hours ago."""

    def clock(self, directory: Path) -> float:
        """Be two hours ahead of the files."""
        return super().clock(directory) + 7200


class FakeHost(Host):
    """A process on a machine with the processes we say: ``alive`` maps them to when they began."""

    def __init__(self, me: Holder, alive: dict[int, str]) -> None:
        self.holder = me
        self.alive = alive

    @classmethod
    def process(cls, pid: int, *others: int) -> FakeHost:
        """The process of this number beside some others, each begun at the tick of its number."""
        alive = {number: str(number) for number in (pid, *others)}
        return cls(replace(HERE, pid=pid, start=str(pid)), alive)

    def me(self, run: str) -> Holder:
        """Be the given process."""
        return replace(self.holder, run=run)

    def start_of(self, pid: int) -> str | None:
        """Look the process up."""
        return self.alive.get(pid)


class FakeClock:
    """A monotonic clock that is moved by hand."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.time


def tree(directory: Path) -> dict[str, str]:
    """Everything below a directory: its kind, and what it holds or leads to."""
    found = {}
    for path in sorted(directory.rglob("*")):
        if path.is_symlink():
            text = f"link {path.readlink()}"
        else:
            text = "directory" if path.is_dir() else f"file {path.read_bytes()!r}"
        found[str(path.relative_to(directory))] = text
    return found


class Turns:
    """Lets one of several threads go on at a time, from one call of :meth:`step` to its next, by chance."""

    def __init__(self, players: int, chance: random.Random) -> None:
        self._chance = chance
        self._changed = threading.Condition()
        self._left = players
        self._waiting: set[int] = set()
        self._turn: int | None = None

    def step(self, player: int) -> None:
        """Wait for the player's turn."""
        with self._changed:
            self._waiting.add(player)
            self._deal()
            self._changed.wait_for(lambda: self._turn == player)
            self._turn = None
            self._waiting.discard(player)

    def leave(self, player: int) -> None:  # noqa: ARG002
        """Play no more."""
        with self._changed:
            self._left -= 1
            self._deal()

    def _deal(self) -> None:
        # Only when all wait: so the order depends on chance alone, and not on the machine.
        if self._turn is None and self._waiting and len(self._waiting) == self._left:
            self._turn = self._chance.choice(sorted(self._waiting))
            self._changed.notify_all()


class Child:
    """A real process that does one thing, in a session of its own, and is gone after ``deadline`` seconds."""

    def __init__(self, main: Callable[[], object], deadline: int = 60) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            self._be(main, deadline)

    def _be(self, main: Callable[[], object], deadline: int) -> None:
        code = 1
        try:
            os.setsid()
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(deadline)
            main()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def send(self, number: int) -> None:
        """Send it a signal; one that has ended is sent none."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait for its end and return its exit code, or the number of the signal that ended it, negative."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def wait_until_stopped(self) -> bool:
        """Wait until it is stopped, and say so; False if it has ended instead."""
        return os.WIFSTOPPED(os.waitpid(self.pid, os.WUNTRACED)[1])
