"""The machine on which an engine is set up: programs, processes and packages, as a port.

Owns the looking into ``/proc`` and the running of commands. Refuses to decide what is installed or started.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

_SBIN = ("/usr/sbin", "/sbin", "/usr/local/sbin")
_PASSED_ON = (
    *("HOME", "LANG", "LC_ALL", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
)


class Machine(Protocol):
    """What setting up an engine needs of the machine."""

    def is_root(self) -> bool:
        """Whether we may install packages and start a daemon."""

    def release(self) -> Mapping[str, str]:
        """The fields of os-release(5); empty where there is none."""

    def find(self, program: str) -> str | None:
        """The path of a program, system administration directories included."""

    def runs_systemd(self) -> bool:
        """Whether systemd is the init of this machine."""

    def run(self, command: Sequence[str]) -> tuple[int, str]:
        """Run a command without questions asked; return its exit code and the end of what it printed."""

    def spawn(self, command: Sequence[str], log: Path) -> int:
        """Start a command in a session of its own, its output appended to ``log``; return its pid."""

    def start_time(self, pid: int) -> str | None:
        """When a living process began, as a text that no other process with this pid has had since boot."""

    def program(self, pid: int) -> str:
        """The name of a living process's program; empty for one that is gone or a zombie."""

    def boot(self) -> str:
        """The id of the machine's current boot."""

    def terminate(self, pid: int, start_time: str, limit: float) -> bool:
        """Send SIGTERM to that very process and wait; return whether it is gone within ``limit`` seconds."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class LinuxMachine:
    """The machine we are on. Commands see of ``environ`` what names programs, proxies, certificates."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        kept = {name: value for name, value in environ.items() if name.upper() in _PASSED_ON}
        path = os.pathsep.join((environ.get("PATH", os.defpath), *_SBIN))
        self._environ = {**kept, "PATH": path, "DEBIAN_FRONTEND": "noninteractive"}

    def is_root(self) -> bool:
        """See :class:`Machine`."""
        return os.geteuid() == 0

    def release(self) -> Mapping[str, str]:
        """See :class:`Machine`."""
        try:
            lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
        except OSError:
            return {}
        pairs = (line.split("=", 1) for line in lines if "=" in line)
        return {name: value.strip("\"'") for name, value in pairs}

    def find(self, program: str) -> str | None:
        """See :class:`Machine`."""
        return shutil.which(program, path=self._environ["PATH"])

    def runs_systemd(self) -> bool:
        """See :class:`Machine`; sd_booted(3) asks the same."""
        return Path("/run/systemd/system").is_dir()

    def run(self, command: Sequence[str]) -> tuple[int, str]:
        """See :class:`Machine`."""
        try:
            done = subprocess.run(
                command,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
            )
        except OSError as error:
            return 127, f"{command[0]}: {error.strerror}"
        lines = done.stdout.strip().splitlines()
        return done.returncode, "; ".join(line.strip() for line in lines[-3:])

    def spawn(self, command: Sequence[str], log: Path) -> int:
        """See :class:`Machine`."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
            )
        # It is meant to outlive us: without this the interpreter warns of a child that is not waited for.
        process.returncode = 0
        return process.pid

    def start_time(self, pid: int) -> str | None:
        """See :class:`Machine`; field 22 of proc_pid_stat(5), in clock ticks since boot."""
        try:
            # The program's name is in brackets and may hold blanks and brackets itself.
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return None
        return None if fields[0] in (b"Z", b"X") else fields[19].decode("ascii")

    def program(self, pid: int) -> str:
        """See :class:`Machine`."""
        if self.start_time(pid) is None:
            return ""
        try:
            return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    def boot(self) -> str:
        """See :class:`Machine`."""
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except OSError:
            return ""

    def terminate(self, pid: int, start_time: str, limit: float) -> bool:
        """See :class:`Machine`. A pidfd stands for one process, so a recycled pid cannot be hit."""
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            if self.start_time(pid) != start_time:
                return True
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            return bool(select.select([handle], [], [], limit)[0])
        finally:
            os.close(handle)

    def monotonic(self) -> float:
        """See :class:`Machine`."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """See :class:`Machine`."""
        time.sleep(seconds)
