"""Who we are among all processes of all machines, and whether another one still lives here."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Holder:
    """A process, so that it can be told from every other one, before and after any restart.

    ``machine`` is the machine's id, ``boot`` the id of its current boot, ``namespace`` its process
    namespace; they are empty where the system has no such thing. ``start`` is when the process began, in the
    kernel's own ticks. ``run`` is the run it works for.
    """

    host: str
    machine: str
    boot: str
    namespace: str
    pid: int
    start: str
    run: str

    def to_json(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Holder:
        """Read :meth:`to_json`'s dict; KeyError, TypeError or ValueError where it is none."""
        words = {name: str(data[name]) for name in ("host", "machine", "boot", "namespace", "start", "run")}
        return cls(pid=int(data["pid"]), **words)

    def __str__(self) -> str:
        run = f" (run {self.run!r})" if self.run else ""
        return f"process {self.pid} on {self.host}{run}"


class Host:
    """This machine and this process, asked of Linux's ``/proc``."""

    _known: Holder | None = None

    def me(self, run: str) -> Holder:
        """Describe the calling process, at work for a run. The system is asked once a process."""
        pid = os.getpid()
        known = self._known
        if known is None or known.pid != pid:
            known = self._known = Holder(
                host=os.uname().nodename,
                machine=_first_line("/etc/machine-id"),
                boot=_first_line("/proc/sys/kernel/random/boot_id"),
                namespace=_link("/proc/self/ns/pid"),
                pid=pid,
                start=self.start_of(pid) or "",
                run="",
            )
        return replace(known, run=run)

    def start_of(self, pid: int) -> str | None:
        """Return when a living process of this machine began, or None where there is none."""
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
                # The name of the program is in brackets and may hold brackets and blanks itself.
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            return None
        return None if fields[0] in (b"Z", b"X") else fields[19].decode("ascii")


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:  # noqa: PTH123
            return file.readline().strip()
    except (OSError, ValueError):
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115
    except OSError:
        return ""
