"""A Docker Engine of a test's own, beside the user's: to be stopped, killed and started at will.

Owns the dockerd process and everything of it, below one directory. Needs root and an installed dockerd.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from dispatch._docker import Address, Door
from dispatch._docker.daemon import EngineSetup
from dispatch._docker.machine import LinuxMachine
from dispatch.testing.processes import lives, until

_LIMIT = 60.0


class ApartMachine(LinuxMachine):
    """This machine, with every spawned process in a network namespace of its own.

    A dockerd that shares the namespace with another takes that one's bridge away when it starts.
    """

    def spawn(self, command: Sequence[str], log: Path) -> int:
        """Start a program."""
        return super().spawn(["unshare", "--net", *command], log)


class OwnEngine:
    """An engine below ``directory``, with further options for its dockerd."""

    def __init__(self, directory: Path, *options: str) -> None:
        self._directory = directory
        self.address = f"unix://{directory}/d.sock"
        self.door = Door(Address(self.address, chosen=True))
        words = ["--data-root", str(directory / "data"), "--exec-root", str(directory / "run")]
        words += ["--pidfile", str(directory / "d.pid"), "--bridge", "none"]
        words += ["--iptables=false", "--ip6tables=false", *options]
        machine = ApartMachine(os.environ)
        self.setup = EngineSetup(self.door, directory / "state", machine, lambda _: None, words, pid_files={})

    def start(self) -> None:
        """Start it, or see that it runs."""
        self.setup.ensure()

    def stop(self) -> None:
        """Have it end as a system that goes down does."""
        self.setup.stop()

    def kill(self) -> None:
        """End its dockerd at once, and leave the rest to itself, as a crash does."""
        pid = int((self._directory / "d.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        until(lambda: not lives(pid), "the killed dockerd ends")
        (self._directory / "d.pid").unlink(missing_ok=True)

    def close(self) -> None:
        """End all containers, and the engine."""
        with contextlib.suppress(Exception):
            for row in self.door.containers.labelled("dispatch.run"):
                self.door.containers.remove(row.name)
        self.stop()
        self.door.close()
        self._unmount()

    def _unmount(self) -> None:
        """Take away what a killed engine left mounted, so that the directory can be removed."""
        mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for place in reversed(mounted):
            if place.startswith(f"{self._directory}/"):
                subprocess.run(["umount", "--lazy", place], check=False, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def own_engine(directory: Path, *options: str) -> Iterator[OwnEngine]:
    """An engine that runs until the context ends."""
    directory.mkdir(parents=True, exist_ok=True)
    engine = OwnEngine(directory, *options)
    engine.start()
    try:
        yield engine
    finally:
        until_answers(engine)
        engine.close()


def until_answers(engine: OwnEngine) -> None:
    """See that the engine runs, whatever was done to it."""
    given_up = time.monotonic() + _LIMIT
    while True:
        try:
            engine.start()
            return
        except Exception:
            if time.monotonic() > given_up:
                raise
            time.sleep(0.2)
