"""Engines that do not see our files: found out, served by copies, and right whatever breaks off."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch._docker import Address, Door, ImageRecord
from dispatch._docker.containers import Bind
from dispatch._docker.helper import OneShot
from dispatch._docker.sight import REMAPPED, UNSEEN, Sight
from dispatch.engine.base import Event, JobSpec, Mount, Network, Reason
from dispatch.engine.docker import DockerEngine
from dispatch.engine.volumes import CONTENT_LABEL
from dispatch.environment import LocalId
from dispatch.errors import EngineError
from dispatch.location import HostPath, SharedPath
from dispatch.testing.contracts_engine import end_of
from dispatch.testing.far import LURE, FarEngine, Relay, far_engine
from dispatch.testing.processes import until

pytestmark = pytest.mark.engine
RUN = "test-far"
SIZE = 8_000_000
Load = Callable[[Door], ImageRecord]


@pytest.fixture(scope="module")
def far() -> Iterator[FarEngine]:
    """An engine that does not see our files."""
    with far_engine(os.environ) as far:
        yield far


class Line:
    """A way to the engine that can be cut, after so many bytes of a connection out or back."""

    def __init__(self, socket: Path) -> None:
        self.out: int | None = None
        self.back: int | None = None
        self.relay = Relay(socket, limit=self._limit)
        self.address = Address(f"tcp://127.0.0.1:{self.relay.port}", chosen=True)

    def _limit(self, outward: bool) -> int | None:
        return self.out if outward else self.back

    def mend(self) -> None:
        """Cut nothing any more."""
        self.out = self.back = None


@pytest.fixture
def line(far: FarEngine) -> Iterator[Line]:
    """The way to the engine."""
    line = Line(far.socket)
    yield line
    line.relay.close()


@pytest.fixture
def door(line: Line, far: FarEngine) -> Iterator[Door]:
    """The door to the engine."""
    door = Door(line.address, far.hidden)
    yield door
    line.mend()
    for row in door.containers.labelled("dispatch.run", RUN):
        door.containers.remove(row.name)
    door.close()


@pytest.fixture
def engine(door: Door) -> Iterator[DockerEngine]:
    """The engine."""
    engine = DockerEngine(door, uid=os.geteuid(), gid=os.getegid())
    yield engine
    engine.close()


Make = Callable[..., JobSpec]


@pytest.fixture
def here(far: FarEngine, tmp_path: Path) -> Path:
    """A directory of ours that the engine does not see."""
    (far.hidden / tmp_path.name).mkdir()
    return far.hidden / tmp_path.name


@pytest.fixture
def make(here: Path, door: Door, load_busybox: Load) -> Make:
    """Makes jobs with an output, a work directory, and a result as input."""
    image = load_busybox(door)
    given = here / "cache" / "given" / "result"
    given.mkdir(parents=True)
    (given / "word").write_text("given")
    (here / "work").mkdir()

    def job(script: str, key: str = "step.1", content: str = "") -> JobSpec:
        attempt = here / "attempts" / key
        (attempt / "output" / "result").mkdir(parents=True, exist_ok=True)
        return JobSpec(
            key=key,
            run=RUN,
            step="step",
            attempt=1,
            image=LocalId(image.id),
            command=("/bin/sh", "-c", script),
            attempt_dir=attempt,
            mounts=(
                Mount(HostPath(attempt / "output"), "/dispatch/output", read_only=False),
                Mount(HostPath(here / "work"), "/dispatch/work", read_only=False),
                Mount(HostPath(given), "/dispatch/inputs/0", content=content or f"test.{here.name}"),
            ),
            working_dir="/",
            network=Network.NONE,
        )

    return job


def _finish(engine: DockerEngine, job: JobSpec) -> tuple[Event, str]:
    (handle,) = engine.submit([job])
    event = end_of(engine, job.key)
    engine.release(handle)
    return event, (job.attempt_dir / "out.log").read_text()


def _result(job: JobSpec) -> Path:
    return job.attempt_dir / "output" / "result"


def _leftovers(job: JobSpec) -> set[str]:
    return {path.name for path in job.attempt_dir.iterdir()} - {"container", "output", "out.log"}


# What the engine sees.


class _Unasked:
    """Files of an engine that nobody may ask."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"the engine was asked: {name}")


def test_engine_of_this_machine(address: Address, tmp_path: Path) -> None:
    """That a dockerd beside us sees our files is known without asking it anything but what it is."""
    door = Door(address)
    sight = Sight(address, _Unasked(), _Unasked(), door.info)  # type: ignore[arg-type]
    assert sight.obstacle([tmp_path]) == ""
    assert sight.user(7, 8) == (7, 8)


def test_engine_of_this_machine_behind_another_program(address: Address, tmp_path: Path) -> None:
    """Where something else holds the socket the engine is asked, and shows that it sees what we wrote."""
    relay = Relay(Path(address.socket_path))
    door = Door(Address(f"tcp://127.0.0.1:{relay.port}", chosen=True))
    assert door.sight.obstacle([tmp_path]) == ""
    assert list(tmp_path.iterdir()) == []
    assert door.containers.labelled("dispatch.probe") == []
    door.close()
    relay.close()


@pytest.mark.parametrize("way", ["socket", "tcp"])
def test_directory_of_the_same_name(far: FarEngine, line: Line, way: str) -> None:
    """A directory that is there on the engine's side as well is not taken for ours, whatever the address."""
    door = Door(Address(far.url, chosen=True) if way == "socket" else line.address)
    assert door.sight.obstacle([far.hidden / LURE]) == UNSEEN
    assert door.sight.obstacle([far.hidden]) == UNSEEN
    assert list((far.hidden / LURE).iterdir()) == []
    assert door.containers.labelled("dispatch.probe") == []
    door.close()


def test_capabilities(engine: DockerEngine) -> None:
    """The engine mounts shared drives alone, and says why files are copied."""
    found = engine.capabilities()
    assert (found.accepts, found.obstacle) == ((SharedPath,), UNSEEN)


# What is copied.


def test_there_and_back(engine: DockerEngine, make: Make, here: Path) -> None:
    """Inputs are there and closed; source, output and work may be written; all of it comes back as it was."""
    source = here / "source"
    (source / "pkg").mkdir(parents=True)
    (source / "pkg" / "closed").write_text("original")
    (source / "pkg" / "closed").chmod(0o444)
    script = """
        cat /dispatch/inputs/0/word /src/pkg/closed; touch /dispatch/inputs/0/x 2>/dev/null || echo closed
        echo new > /src/pkg/closed; echo new > /src/pkg/other
        echo "$(cat /dispatch/work/count 2>/dev/null)x" > /dispatch/work/count
        cd /dispatch/output/result
        mkdir -p a/b; echo deep > a/b/c; chmod 711 a/b/c; ln -s a/b/c link; ln -s /etc/passwd out; : > empty
        echo ok > ../outcome.json.part; mv ../outcome.json.part ../outcome.json
    """
    job = replace(make(script), source=HostPath(source))
    event, log = _finish(engine, job)
    assert (event.exit_code, event.reason, log) == (0, Reason.STEP, "givenoriginalclosed\n")
    result = _result(job)
    assert (result / "a" / "b" / "c").read_text() == "deep\n"
    assert (result / "a" / "b" / "c").stat().st_mode & 0o777 == 0o711
    assert (result / "link").readlink() == Path("a/b/c")
    assert (result / "out").readlink() == Path("/etc/passwd")
    assert (job.attempt_dir / "output" / "outcome.json").read_text() == "ok\n"
    assert (here / "work" / "count").read_text() == "x\n"
    assert (source / "pkg" / "closed").read_text() == "original"
    assert not (source / "pkg" / "other").exists()
    assert {path.lstat().st_uid for path in here.rglob("*")} == {os.geteuid()}
    assert _leftovers(job) == set()


def test_work_survives_attempts(engine: DockerEngine, make: Make, here: Path) -> None:
    """What an attempt that failed left in the work directory, the next one finds, whatever else was there."""
    script = "echo x >> /dispatch/work/count; rm -f /dispatch/work/$(cat /dispatch/work/count | wc -l)"
    for number in (1, 2, 3):
        (here / "work" / str(number)).write_text("to be removed by that attempt")
    for number in (1, 2, 3):
        event, _ = _finish(engine, make(f"{script}; exit 3", f"step.{number}"))
        assert event.exit_code == 3
        assert len((here / "work" / "count").read_text().split()) == number
        assert {path.name for path in (here / "work").iterdir()} == {"count", "1", "2", "3"} - {
            str(done + 1) for done in range(number)
        }


def test_volume_is_filled_once(
    engine: DockerEngine, door: Door, make: Make, far: FarEngine, here: Path
) -> None:
    """A result is sent once: steps, clients and runs after it find it there, whole."""
    assert _finish(engine, make("cat /dispatch/inputs/0/word", "a.1"))[1] == "given"
    label = f"test.{here.name}.{os.geteuid()}.{os.getegid()}"
    (volume,) = door.files.volumes(CONTENT_LABEL, label)
    (here / "cache" / "given" / "result" / "word").write_text("never sent")
    assert _finish(engine, make("cat /dispatch/inputs/0/word", "b.1"))[1] == "given"
    again = Door(Address(far.url, chosen=True), far.hidden)
    other = DockerEngine(again, uid=os.geteuid(), gid=os.getegid())
    assert _finish(other, make("cat /dispatch/inputs/0/word", "c.1"))[1] == "given"
    other.close()
    assert door.files.volumes(CONTENT_LABEL, label) == [volume]


def test_volume_that_was_removed(engine: DockerEngine, make: Make, far: FarEngine) -> None:
    """What somebody tidied away is sent again; it is never an empty mount."""
    assert _finish(engine, make("cat /dispatch/inputs/0/word", "a.1"))[1] == "given"
    until(lambda: engine.find(RUN) == [], "the job is forgotten")
    docker = ["docker", "--host", far.url]
    words = [*docker, "volume", "ls", "-q", "-f", f"label={CONTENT_LABEL}"]
    listed = subprocess.run(words, check=True, capture_output=True, text=True)
    subprocess.run([*docker, "volume", "rm", *listed.stdout.split()], check=True, capture_output=True)
    assert _finish(engine, make("cat /dispatch/inputs/0/word", "b.1"))[1] == "given"


def test_user_mounts_are_the_engines(engine: DockerEngine, make: Make, far: FarEngine) -> None:
    """A mount of the user's own is a path of the engine's machine: there is nothing to be copied."""
    (far.hidden / LURE / "ours").touch()
    job = make("ls -a /data")
    job = replace(job, mounts=(*job.mounts, Mount(SharedPath(far.hidden / LURE), "/data")))
    assert _finish(engine, job)[1] == ".\n..\n"
    missing = replace(make("true", "b.1"), mounts=(Mount(SharedPath(far.hidden / "gone"), "/data"),))
    event, _ = _finish(engine, missing)
    assert event.reason is Reason.INFRA
    assert "no such path" in event.message
    (far.hidden / LURE / "ours").unlink()


def test_shared_drive_that_is_none(engine: DockerEngine, make: Make, here: Path) -> None:
    """A workspace on a drive that the engine does not share is refused, not written to another place."""
    job = make("true")
    output = SharedPath(job.attempt_dir / "output")
    job = replace(job, mounts=(Mount(output, "/dispatch/output", read_only=False),))
    event, _ = _finish(engine, job)
    assert (event.exit_code, event.reason) == (None, Reason.INFRA)
    assert "shared_dirs" in event.message
    assert here.exists()


def test_helper_container(door: Door, here: Path, load_busybox: Load) -> None:
    """A helper is given copies of directories, and what it wrote comes back."""
    (here / "in").mkdir()
    (here / "out" / "job").mkdir(parents=True)
    (here / "in" / "word").write_text("given")
    binds = (
        Bind(str(here / "in"), "/dispatch/in"),
        Bind(str(here / "out"), "/dispatch/out", read_only=False),
    )
    script = "cat /dispatch/in/word > /dispatch/out/word; cat /dispatch/out/word"
    user = f"{os.geteuid()}:{os.getegid()}"
    done = door.run_once(OneShot(load_busybox(door).id, ("/bin/sh", "-c", script), binds, user=user))
    assert (done.exit_code, done.stdout) == (0, b"given")
    assert (here / "out" / "word").read_text() == "given"
    assert {path.name for path in (here / "out").iterdir()} == {"job", "word"}


# What a step may not do to us.


def test_device_in_a_result(engine: DockerEngine, make: Make) -> None:
    """A device is not made on our side; the attempt fails and says so."""
    event, _ = _finish(engine, make("mknod /dispatch/output/result/null c 1 3"))
    assert event.reason is Reason.INFRA
    assert "device" in event.message


# What breaks off.


def _fills(here: Path) -> None:
    (here / "cache" / "given" / "result" / "big").write_bytes(os.urandom(SIZE))


def test_line_cut_while_an_input_is_sent(
    engine: DockerEngine, make: Make, line: Line, here: Path, door: Door
) -> None:
    """A volume that was half filled is never mounted; the next attempt sends it whole."""
    _fills(here)
    assert engine.capabilities().obstacle
    line.out = SIZE // 2
    script = "cat /dispatch/inputs/0/big | wc -c"
    event, log = _finish(engine, make(script, "a.1"))
    assert (event.exit_code, event.reason, log) == (None, Reason.INFRA, "")
    label = f"test.{here.name}.{os.geteuid()}.{os.getegid()}"
    assert len(door.files.volumes(CONTENT_LABEL, label)) == 1
    line.mend()
    event, log = _finish(engine, make(script, "a.2"))
    assert (event.exit_code, log) == (0, f"{SIZE}\n")
    assert len(door.files.volumes(CONTENT_LABEL, label)) == 2
    assert door.containers.labelled("dispatch.helper") == []


def test_line_cut_while_the_output_comes_back(engine: DockerEngine, make: Make, line: Line) -> None:
    """A result of which half came is fetched again, and the end is told when it is whole."""
    script = f"sleep 1; dd if=/dev/urandom of=/dispatch/output/result/big bs=1000000 count={SIZE // 1000000}"
    job = make(f"{script} 2>/dev/null; sha256sum < /dispatch/output/result/big")
    (handle,) = engine.submit([job])
    line.back = SIZE // 2
    until(lambda: any(name.startswith(".back-") for name in _leftovers(job)), "the copy begins")
    line.mend()
    event = end_of(engine, job.key)
    engine.release(handle)
    assert (event.exit_code, event.reason) == (0, Reason.STEP)
    assert (_result(job) / "big").stat().st_size == SIZE
    _same(job)
    assert _leftovers(job) == set()


def _same(job: JobSpec) -> None:
    """The result is what the step said of it."""
    said = (job.attempt_dir / "out.log").read_text().split()[0]
    found = subprocess.run(["sha256sum", _result(job) / "big"], check=True, capture_output=True, text=True)
    assert found.stdout.split()[0] == said


CLIENT = """
    import os, pickle, sys
    from pathlib import Path
    from dispatch._docker import Address, Door
    from dispatch.engine.docker import DockerEngine
    from dispatch.testing.contracts_engine import end_of
    job, url, home = pickle.loads(Path(sys.argv[1]).read_bytes())
    engine = DockerEngine(Door(Address(url, True), home), uid=os.geteuid(), gid=os.getegid())
    engine.submit([job])
    end_of(engine, job.key)
"""


def test_client_killed_in_the_middle_of_a_copy_back(
    engine: DockerEngine, make: Make, far: FarEngine, here: Path
) -> None:
    """What a killed client had half fetched counts for nothing; the next one that asks gets the whole."""
    script = f"dd if=/dev/urandom of=/dispatch/output/result/big bs=1000000 count={SIZE // 1000000}"
    job = make(f"{script} 2>/dev/null; sha256sum < /dispatch/output/result/big; echo w > /dispatch/work/w")
    # Half of any answer comes, and then nothing more does.
    stuck = threading.Event()
    halves = Relay(far.socket, limit=lambda outward: None if outward else SIZE // 2, stuck=stuck)
    (here / "job").write_bytes(pickle.dumps((job, f"tcp://127.0.0.1:{halves.port}", far.hidden)))
    client = subprocess.Popen([sys.executable, "-c", textwrap.dedent(CLIENT), here / "job"])
    with contextlib.ExitStack() as stack:
        stack.callback(client.wait)
        stack.callback(client.kill)
        stack.callback(halves.close)
        until(stuck.is_set, "the copy is half done")
        until(lambda: any(name.startswith(".back-") for name in _leftovers(job)), "it is laid down here")
        client.send_signal(signal.SIGKILL)
    assert list(_result(job).iterdir()) == []
    (handle,) = engine.submit([job])
    event = end_of(engine, job.key)
    engine.release(handle)
    assert (event.exit_code, event.reason) == (0, Reason.STEP)
    _same(job)
    assert (here / "work" / "w").read_text() == "w\n"
    assert _leftovers(job) == set()


# Engines that map users.


@pytest.fixture(scope="module")
def remapped() -> Iterator[FarEngine]:
    """An engine on which root in a container is somebody else."""
    with far_engine(os.environ, ["--userns-remap=1:1"], subordinate="daemon:100000:65536") as far:
        yield far


def test_remapped_engine(remapped: FarEngine, load_busybox: Load, tmp_path: Path) -> None:
    """Files of an engine that maps users are copied although it sees ours; results belong to the caller."""
    door = Door(Address(remapped.url, chosen=True), tmp_path)
    assert door.sight.obstacle([tmp_path]) == REMAPPED
    image = load_busybox(door)
    engine = DockerEngine(door, uid=os.geteuid(), gid=os.getegid())
    found = engine.capabilities()
    assert (found.uid, found.gid, found.accepts) == (0, 0, (SharedPath,))
    attempt = tmp_path / "attempts" / "map.1"
    (attempt / "output" / "result").mkdir(parents=True)
    (tmp_path / "given").mkdir(mode=0o700)
    (tmp_path / "given" / "word").write_text("given")
    (tmp_path / "given" / "word").chmod(0o600)
    script = "id -u; cat /dispatch/inputs/0/word; cat /proc/self/uid_map; echo r > /dispatch/output/result/r"
    job = JobSpec(
        key="map.1",
        run=RUN,
        step="map",
        attempt=1,
        image=LocalId(image.id),
        command=("/bin/sh", "-c", script),
        attempt_dir=attempt,
        mounts=(
            Mount(HostPath(attempt / "output"), "/dispatch/output", read_only=False),
            Mount(HostPath(tmp_path / "given"), "/dispatch/inputs/0", content=f"map.{tmp_path.name}"),
        ),
        working_dir="/",
        network=Network.NONE,
    )
    event, log = _finish(engine, job)
    engine.close()
    assert event.exit_code == 0, (event, log)
    assert log.split() == ["0", "given", "0", "100000", "65536"]
    assert (_result(job) / "r").read_text() == "r\n"
    assert {path.lstat().st_uid for path in tmp_path.rglob("*")} == {os.geteuid()}
    door.close()


def test_engine_that_is_not_there() -> None:
    """What cannot be reached is said to be, by the sight as by all else."""
    door = Door(Address("unix:///no/such/socket", chosen=True))
    with pytest.raises(EngineError, match="no socket"):
        door.sight.obstacle([Path("/")])
