"""Setting an engine up where none answers, and ending the one that we started.

Owns the record of our own dockerd in a state directory (``engine.json``: pid, start time, boot) and its log.
Changes nothing about an engine that answers, and ends none that it did not start.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dispatch._docker.address import VARIABLE
from dispatch._docker.client import Door
from dispatch._docker.machine import Machine
from dispatch._docker.socket import EngineAbsentError
from dispatch.errors import EngineError

PACKAGE = "docker.io"
FAMILIES = ("debian", "ubuntu")
RECORD_NAME = "engine.json"
LOG_NAME = "dockerd.log"
START_LIMIT = 60.0
STOP_LIMIT = 60.0
LOOK_EVERY = 0.1
LOCK_NAME = "engine.lock"
INIT_SCRIPT = "/etc/init.d/docker"
_LOG_LINES = 5

# Where dockerd and the containerd below it note their pids, and what these processes are called.
PID_FILES = {
    Path("/var/run/docker.pid"): "dockerd",
    Path("/var/run/docker/containerd/containerd.pid"): "containerd",
}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Record:
    """The dockerd that we started."""

    pid: int
    start_time: str
    boot: str
    address: str


class EngineSetup:
    """Uses, starts and stops the engine at one address; its record and log are in ``state``.

    ``options`` are further options for dockerd, for engines that live beside another one.
    """

    def __init__(
        self,
        door: Door,
        state: Path,
        machine: Machine,
        say: Say,
        options: Sequence[str] = (),
        pid_files: Mapping[Path, str] = PID_FILES,
    ) -> None:
        self._door = door
        self._address = door.address
        self._state = state
        self._machine = machine
        self._say = say
        self._options = tuple(options)
        self._pid_files = dict(pid_files)

    def ensure(self) -> str:
        """Make an engine answer, and say in one sentence which one it is.

        :raises EngineError: when it may not be used, or none can be set up here, with what is missing
        """
        try:
            return self._answering()
        except EngineAbsentError as error:
            self._refuse_foreign_address(error)
            dockerd = self._machine.find("dockerd")
            self._refuse_elsewhere(error, dockerd)
        with self._alone():
            # Another process may have set it up while we waited for our turn.
            with contextlib.suppress(EngineAbsentError):
                return self._answering()
            if dockerd is None:
                dockerd = self._install()
            if self._machine.runs_systemd() and not self._options:
                return self._start_service()
            return self._start(dockerd)

    def stop(self) -> str:
        """End the dockerd that ``ensure`` started, with its containers; say in one sentence what was done.

        :raises EngineError: when it does not end
        """
        record = self._read()
        if record is None or not self._lives(record):
            self._forget()
            return "no engine of ours runs; others are left alone"
        if not self._machine.terminate(record.pid, record.start_time, STOP_LIMIT):
            raise EngineError(
                f"Docker Engine: dockerd (process {record.pid}) has not ended after {STOP_LIMIT:g} s",
                f"look into {self._state / LOG_NAME}",
            )
        self._forget()
        return f"the engine at {record.address} (process {record.pid}) has ended"

    def _answering(self) -> str:
        server = self._door.ping().server or "Docker Engine"
        record = self._read()
        whose = " (started by us)" if record is not None and self._lives(record) else ""
        return f"using the engine at {self._address}{whose}: {server}"

    def _refuse_foreign_address(self, absent: EngineError) -> None:
        """Leave alone an address that the user chose, for an engine whose options we cannot know.

        Two dockerds with default options share data and bridge, and the second takes them from the first.
        """
        if self._address.chosen and not self._options:
            raise EngineError(
                f"{absent.message}, which {VARIABLE} names",
                f"start that engine, or unset {VARIABLE} and run this again to set one up",
            )

    def _refuse_elsewhere(self, absent: EngineError, dockerd: str | None) -> None:
        """One message where we can neither install nor start: what is missing, and what to do."""
        release = self._machine.release()
        family = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
        missing = []
        if not self._machine.is_root():
            missing.append("only root can start one")
        if dockerd is None and not family.intersection(FAMILIES):
            name = release.get("PRETTY_NAME", "this system")
            missing.append(
                f"dockerd is not installed, and it can be installed by us on Debian and Ubuntu, not on {name}"
            )
        if missing:
            raise EngineError(
                f"{absent.message}; {' and '.join(missing)}",
                f"install Docker Engine and start it, or name an engine in {VARIABLE}, "
                "or run this again as root on Debian or Ubuntu",
            )

    def _install(self) -> str:
        """Install dockerd from the distribution and return its path."""
        self._say(f"installing {PACKAGE} from the distribution")
        install = ["apt-get", "install", "--yes", "--quiet", PACKAGE]
        code, tail = self._machine.run(install)
        if code != 0:
            # Mostly because the lists of packages are missing or old.
            self._machine.run(["apt-get", "update", "--quiet"])
            code, tail = self._machine.run(install)
        if code != 0:
            raise EngineError(f"Docker Engine: {PACKAGE} cannot be installed: {tail}", "install it by hand")
        dockerd = self._machine.find("dockerd")
        if dockerd is None:
            raise EngineError(
                f"Docker Engine: the package {PACKAGE} brought no dockerd", "install it by hand"
            )
        if not self._machine.runs_systemd() and self._machine.find(INIT_SCRIPT) is not None:
            # The package may have started an engine of its own, which `stop` would not know.
            self._machine.run([INIT_SCRIPT, "stop"])
        return dockerd

    def _start_service(self) -> str:
        self._say("starting the system's docker service (`systemctl stop docker` ends it)")
        code, tail = self._machine.run(["systemctl", "start", "docker"])
        if code != 0:
            raise EngineError(f"Docker Engine: systemd cannot start it: {tail}", "see `journalctl -u docker`")
        return self._await(None)

    def _start(self, dockerd: str) -> str:
        self._clear_pid_files()
        log = self._state / LOG_NAME
        self._say(f"starting {dockerd}, its log is {log}")
        # dockerd's pid file stays at its default place: it keeps a second one off the same data.
        command = [dockerd, "--host", self._address.url, *self._options]
        pid = self._machine.spawn(command, log)
        start_time = self._machine.start_time(pid)
        if start_time is not None:
            self._write(Record(pid, start_time, self._machine.boot(), str(self._address)))
        return self._await(pid)

    def _clear_pid_files(self) -> None:
        """Remove pid files that an engine left when it was killed.

        A new one takes any process that has the number since, or a zombie, for a living engine: dockerd
        refuses to start then, and it would even end what it takes for its containerd.
        """
        for path, program in self._pid_files.items():
            with contextlib.suppress(OSError, ValueError):
                if self._machine.program(int(path.read_text(encoding="ascii"))) != program:
                    path.unlink()

    def _await(self, pid: int | None) -> str:
        deadline = self._machine.monotonic() + START_LIMIT
        while True:
            # It listens before it answers: after a crash it first ends the containers that outlived it.
            with contextlib.suppress(EngineError):
                return self._answering()
            died = pid is not None and self._machine.start_time(pid) is None
            if died or self._machine.monotonic() >= deadline:
                fact = "dockerd ended at once" if died else f"it does not answer after {START_LIMIT:g} s"
                raise EngineError(
                    f"Docker Engine: {fact}{self._last_words()}", f"look into {self._state / LOG_NAME}"
                )
            self._machine.sleep(LOOK_EVERY)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes with the same state directory out."""
        self._state.mkdir(parents=True, exist_ok=True)
        with (self._state / LOCK_NAME).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self._state / LOG_NAME).read_text(errors="replace").strip().splitlines()
            return "".join(f"\n  {line}" for line in lines[-_LOG_LINES:])
        return ""

    def _lives(self, record: Record) -> bool:
        same_boot = record.boot == self._machine.boot()
        return same_boot and self._machine.start_time(record.pid) == record.start_time

    def _read(self) -> Record | None:
        try:
            return Record(**json.loads((self._state / RECORD_NAME).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _write(self, record: Record) -> None:
        partial = self._state / f"{RECORD_NAME}.part"
        partial.write_text(json.dumps(asdict(record)), encoding="utf-8")
        partial.replace(self._state / RECORD_NAME)

    def _forget(self) -> None:
        (self._state / RECORD_NAME).unlink(missing_ok=True)
