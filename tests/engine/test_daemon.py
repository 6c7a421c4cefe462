"""Setting an engine up, and ending it again; restarts, on a second engine of the tests' own."""

from __future__ import annotations

import os
import socketserver
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from dispatch._docker import Address, Door
from dispatch._docker.daemon import LOG_NAME, RECORD_NAME, EngineSetup
from dispatch._docker.machine import LinuxMachine
from dispatch.engine.base import JobSpec, Network
from dispatch.engine.docker import DockerEngine
from dispatch.environment import LocalId
from dispatch.errors import EngineError
from dispatch.testing.busybox import REFERENCE, busybox_archive
from dispatch.testing.contracts_engine import end_of, greeting, running
from dispatch.testing.dockerd import own_engine

DEBIAN = {"ID": "debian", "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)"}
MINT = {"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}
FEDORA = {"ID": "fedora", "PRETTY_NAME": "Fedora Linux 41"}
DOCKERD = "/usr/sbin/dockerd"
INIT_SCRIPT = "/etc/init.d/docker"


class _Reply(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        self.wfile.write(
            b"HTTP/1.0 200 OK\r\nServer: Docker/1\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\nOK"
        )


class FakeMachine:
    """A machine on which installing makes dockerd appear, and starting makes the socket answer."""

    def __init__(
        self,
        socket: Path,
        *,
        root: bool = True,
        release: Mapping[str, str] = DEBIAN,
        programs: Sequence[str] = (),
        systemd: bool = False,
    ) -> None:
        self._socket = socket
        self._root = root
        self._release = release
        self._systemd = systemd
        self.programs = set(programs)
        self.commands: list[str] = []
        self.stale_lists = False
        self.archive = True
        self.crashes = False
        self.processes: dict[int, str] = {}
        self.boot_id = "boot-1"
        self._server: socketserver.ThreadingUnixStreamServer | None = None
        self._now = 0.0

    def is_root(self) -> bool:
        return self._root

    def release(self) -> Mapping[str, str]:
        return self._release

    def find(self, program: str) -> str | None:
        return next((path for path in self.programs if program in (path, Path(path).name)), None)

    def runs_systemd(self) -> bool:
        return self._systemd

    def run(self, command: Sequence[str]) -> tuple[int, str]:
        self.commands.append(" ".join(command))
        if command[:2] == ["apt-get", "update"]:
            self.stale_lists = False
        elif command[0] == "apt-get":
            if self.stale_lists or not self.archive:
                return 100, "E: Unable to locate package docker.io"
            self.programs.update((DOCKERD, INIT_SCRIPT))
        elif command[0] == "systemctl":
            self.answer()
        return 0, ""

    def spawn(self, command: Sequence[str], log: Path) -> int:
        self.commands.append(" ".join(command))
        if self.crashes:
            log.write_text("failed to start daemon: no cgroups\n")
            return 99
        self.processes[77] = "1000"
        self.answer()
        return 77

    def start_time(self, pid: int) -> str | None:
        return self.processes.get(pid)

    def program(self, pid: int) -> str:
        return "dockerd" if pid in self.processes else ""

    def boot(self) -> str:
        return self.boot_id

    def terminate(self, pid: int, start_time: str, limit: float) -> bool:
        assert self.processes.pop(pid) == start_time and limit > 0
        self.close()
        return True

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds

    def answer(self) -> None:
        """Let an engine answer on the socket."""
        self._server = socketserver.ThreadingUnixStreamServer(str(self._socket), _Reply)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Let the engine end."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._socket.unlink()
            self._server = None


class Scene:
    """A setup with its machine, in a directory of the test's own."""

    def __init__(self, directory: Path, machine: FakeMachine, socket: Path, chosen: bool = False) -> None:
        self.state = directory / "state"
        self.machine = machine
        self.said: list[str] = []
        door = Door(Address(f"unix://{socket}", chosen))
        self.pid_file = directory / "docker.pid"
        pid_files = {self.pid_file: "dockerd"}
        self.setup = EngineSetup(door, self.state, machine, self.said.append, pid_files=pid_files)


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    """Where the fake engine listens."""
    return tmp_path / "e.sock"


def _scene(tmp_path: Path, socket: Path, **facts: object) -> Scene:
    return Scene(tmp_path, FakeMachine(socket, **facts), socket)  # type: ignore[arg-type]


def test_an_engine_that_answers_is_used(tmp_path: Path, socket_path: Path) -> None:
    """Where an engine answers nothing is run, written or asked for, root or not."""
    scene = _scene(tmp_path, socket_path, root=False, release=FEDORA)
    scene.machine.answer()
    assert scene.setup.ensure() == f"using the engine at unix://{socket_path}: Docker/1"
    assert (scene.machine.commands, scene.state.exists()) == ([], False)
    scene.machine.close()


@pytest.mark.parametrize(("content", "kept"), [("4242", False), ("77", True), ("rubbish", True)])
def test_pid_file_of_a_killed_engine_is_cleared(
    tmp_path: Path, socket_path: Path, content: str, kept: bool
) -> None:
    """What names no living dockerd would stop a new one from starting; a living one's file is left alone."""
    scene = _scene(tmp_path, socket_path)
    scene.machine.processes[77] = "1"
    scene.pid_file.write_text(content)
    scene.setup.ensure()
    assert scene.pid_file.exists() is kept
    scene.machine.close()


def test_program_of_a_process() -> None:
    """A living process has its program's name, one that has ended none, even before it is waited for."""
    machine = LinuxMachine(os.environ)
    process = subprocess.Popen(["sleep", "60"])
    while machine.program(process.pid) != "sleep":
        assert process.poll() is None
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert machine.program(process.pid) == ""
    process.wait()
    assert machine.program(process.pid) == ""


@pytest.mark.parametrize("release", [DEBIAN, MINT])
def test_install_and_start(tmp_path: Path, socket_path: Path, release: Mapping[str, str]) -> None:
    """On the Debian family as root the distribution's package is installed, and its dockerd started by us."""
    scene = _scene(tmp_path, socket_path, release=release)
    assert "started by us" in scene.setup.ensure()
    assert scene.machine.commands == [
        "apt-get install --yes --quiet docker.io",
        f"{INIT_SCRIPT} stop",
        f"{DOCKERD} --host unix://{socket_path}",
    ]
    assert (scene.state / RECORD_NAME).exists()
    assert len(scene.said) == 2
    scene.machine.close()


def test_stale_package_lists(tmp_path: Path, socket_path: Path) -> None:
    """Lists of packages are renewed only when the installation fails without that."""
    scene = _scene(tmp_path, socket_path)
    scene.machine.stale_lists = True
    scene.setup.ensure()
    assert scene.machine.commands[:3] == [
        "apt-get install --yes --quiet docker.io",
        "apt-get update --quiet",
        "apt-get install --yes --quiet docker.io",
    ]
    scene.machine.close()


def test_dockerd_is_there(tmp_path: Path, socket_path: Path) -> None:
    """An installed dockerd is started without installing anything, on any distribution."""
    scene = _scene(tmp_path, socket_path, release=FEDORA, programs=[DOCKERD])
    scene.setup.ensure()
    assert [command.split()[0] for command in scene.machine.commands] == [DOCKERD]
    scene.machine.close()


def test_systemd(tmp_path: Path, socket_path: Path) -> None:
    """Where systemd runs, the system's service is started, and it is not ours to stop."""
    scene = _scene(tmp_path, socket_path, programs=[DOCKERD], systemd=True)
    scene.setup.ensure()
    assert scene.machine.commands == ["systemctl start docker"]
    assert "systemctl stop docker" in scene.said[0]
    assert "no engine of ours" in scene.setup.stop()
    scene.machine.close()


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"root": False}, "only root can start one"),
        ({"release": FEDORA}, "not on Fedora Linux 41"),
        ({"release": {}, "root": False}, "only root can start one and dockerd is not installed"),
        ({"root": False, "programs": [DOCKERD]}, "only root"),
    ],
)
def test_elsewhere(tmp_path: Path, socket_path: Path, facts: Mapping[str, object], words: str) -> None:
    """Where we can do nothing, one message says what is missing and what to do; nothing is run."""
    scene = _scene(tmp_path, socket_path, **facts)
    with pytest.raises(EngineError, match=words) as caught:
        scene.setup.ensure()
    assert "no socket" in caught.value.message
    assert "DOCKER_HOST" in caught.value.remedy
    assert scene.machine.commands == []


def test_address_that_the_user_chose(tmp_path: Path, socket_path: Path) -> None:
    """Where DOCKER_HOST names an engine that does not answer, none is started in its place."""
    machine = FakeMachine(socket_path, programs=[DOCKERD])
    scene = Scene(tmp_path, machine, socket_path, chosen=True)
    with pytest.raises(EngineError, match=r"no socket .* which DOCKER_HOST names"):
        scene.setup.ensure()
    assert machine.commands == []


def test_package_that_cannot_be_installed(tmp_path: Path, socket_path: Path) -> None:
    """The archive's own words are in the error."""
    scene = _scene(tmp_path, socket_path)
    scene.machine.archive = False
    with pytest.raises(EngineError, match="Unable to locate package"):
        scene.setup.ensure()


def test_dockerd_that_ends_at_once(tmp_path: Path, socket_path: Path) -> None:
    """A dockerd that cannot start is reported with its last words, not waited for."""
    scene = _scene(tmp_path, socket_path, programs=[DOCKERD])
    scene.machine.crashes = True
    with pytest.raises(EngineError, match="ended at once\n  failed to start daemon: no cgroups"):
        scene.setup.ensure()


def test_stop_ends_just_ours(tmp_path: Path, socket_path: Path) -> None:
    """The engine that we started ends, once."""
    scene = _scene(tmp_path, socket_path, programs=[DOCKERD])
    scene.setup.ensure()
    assert "process 77" in scene.setup.stop()
    assert scene.machine.processes == {}
    assert "no engine of ours" in scene.setup.stop()


@pytest.mark.parametrize("change", ["recycled", "rebooted", "gone", "garbled"])
def test_stop_never_hits_another_process(tmp_path: Path, socket_path: Path, change: str) -> None:
    """A pid that is somebody else's by now, or a record that cannot be read, ends nothing."""
    scene = _scene(tmp_path, socket_path, programs=[DOCKERD])
    scene.setup.ensure()
    if change == "recycled":
        scene.machine.processes[77] = "2000"
    elif change == "rebooted":
        scene.machine.boot_id = "boot-2"
    elif change == "gone":
        del scene.machine.processes[77]
    else:
        (scene.state / RECORD_NAME).write_text('{"pid": 77}')
    before = dict(scene.machine.processes)
    assert "no engine of ours" in scene.setup.stop()
    assert scene.machine.processes == before
    scene.machine.close()


def test_linux_machine_knows_processes() -> None:
    """The start time of a process is stable, and that of none is None."""
    machine = LinuxMachine({})
    assert machine.start_time(os.getpid()) == machine.start_time(os.getpid()) is not None
    assert machine.start_time(2**22 + 1) is None
    assert machine.boot()


def test_linux_machine_starts_and_ends_a_process(tmp_path: Path) -> None:
    """A spawned process writes to its log, leads its own session, and only its very self is ended."""
    machine = LinuxMachine({"PATH": os.defpath, "SECRET": "x"})
    pid = machine.spawn(["/bin/sh", "-c", "env; echo ready; exec sleep 3600"], tmp_path / "log")
    start_time = machine.start_time(pid)
    assert start_time is not None
    assert os.getsid(pid) == pid
    while not (tmp_path / "log").read_text().endswith("ready\n"):
        pass
    assert "SECRET" not in (tmp_path / "log").read_text()
    assert machine.terminate(pid, "another", 0.1)
    assert machine.start_time(pid) == start_time
    assert machine.terminate(pid, start_time, 10)
    assert machine.start_time(pid) is None
    assert os.waitpid(pid, 0)[0] == pid


def test_linux_machine_runs_commands() -> None:
    """A command's end comes back with its code, and a missing program is no exception."""
    machine = LinuxMachine({"PATH": os.defpath})
    assert machine.run(["/bin/sh", "-c", "echo a; echo b >&2; exit 3"]) == (3, "a; b")
    assert machine.run(["/no/such/program"])[0] == 127
    assert machine.find("sh") and machine.find("no-such-program") is None


@pytest.fixture
def second(tmp_path: Path) -> Iterator[EngineSetup]:
    """A second engine beside the user's, with everything of it in the test's directory. Needs root."""
    with own_engine(tmp_path) as engine:
        yield engine.setup


def _job(directory: Path, door: Door, script: str) -> JobSpec:
    listed = LinuxMachine({}).run(["/bin/busybox", "--list"])
    assert listed[0] == 0
    door.load([busybox_archive(Path("/bin/busybox").read_bytes(), ["sh", "sleep", "echo"])])
    image = door.inspect_image(REFERENCE)
    assert image is not None
    return JobSpec(
        key="outage.1",
        run="outage",
        step="outage",
        attempt=1,
        image=LocalId(image.id),
        command=("/bin/sh", "-c", script),
        attempt_dir=directory / "attempt",
        working_dir="/",
        network=Network.NONE,
    )


@pytest.mark.engine
def test_restart(tmp_path: Path, second: EngineSetup) -> None:
    """An engine that is restarted in the middle of a job: the job is stopped with it and ends once."""
    door = Door(Address(f"unix://{tmp_path}/d.sock"))
    engine = DockerEngine(door, uid=os.geteuid(), gid=os.getegid())
    job = _job(tmp_path, door, "echo begun; exec sleep 3600")
    (handle,) = engine.submit([job])
    greeting(engine, handle, b"begun")
    assert "has ended" in second.stop()
    assert "started by us" in second.ensure()
    assert end_of(engine, job.key).exit_code == 143
    assert (job.attempt_dir / "out.log").read_bytes() == b"begun\n"
    assert engine.next_event(0.2) is None
    engine.release(handle)
    engine.close()
    assert (tmp_path / "state" / LOG_NAME).stat().st_size > 0


@pytest.mark.engine
def test_engine_that_does_not_come_back(tmp_path: Path, second: EngineSetup) -> None:
    """An engine that stays away is an error to whoever waits, each time anew, and closing does not hang."""
    door = Door(Address(f"unix://{tmp_path}/d.sock"))
    engine = DockerEngine(door, uid=os.geteuid(), gid=os.getegid(), patience=0.0)
    job = _job(tmp_path, door, "sleep 3600")
    engine.submit([job])
    running(engine, job.key)
    second.stop()
    for _ in range(2):
        with pytest.raises(EngineError, match="Docker Engine"):
            while engine.next_event(60) is not None:
                pass
    with pytest.raises(EngineError):
        DockerEngine(door, uid=0, gid=0).submit([job])
    engine.close()
