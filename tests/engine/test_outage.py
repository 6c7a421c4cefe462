"""An engine that cannot be reached for a while, by a proxy before the real one that can be cut."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch._docker import Address, Door, ImageRecord
from dispatch.engine.base import JobSpec, Network, Reason
from dispatch.engine.docker import DockerEngine
from dispatch.environment import LocalId
from dispatch.testing.contracts_engine import LIMIT, end_of, greeting, running

pytestmark = pytest.mark.engine
RUN = "test-outage"


class Proxy:
    """Forwards connections to an engine's socket until it is cut; mended, it forwards new ones."""

    def __init__(self, path: Path, engine: str) -> None:
        self.path = path
        self._engine = engine
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self.mend()

    def mend(self) -> None:
        """Listen."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """End all connections and refuse new ones."""
        self.path.unlink()
        with self._lock:
            for connection in (self._listener, *self._open):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._open.clear()
        self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(self._engine)
            with self._lock:
                self._open += [client, engine]
            for source, target in ((client, engine), (engine, client)):
                threading.Thread(target=self._forward, args=(source, target), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(tmp_path: Path, address: Address) -> Iterator[Proxy]:
    """A proxy before the user's engine."""
    proxy = Proxy(tmp_path / "p.sock", address.socket_path)
    yield proxy
    proxy.cut()


@pytest.fixture
def engine(proxy: Proxy, door: Door) -> Iterator[DockerEngine]:
    """An engine that is reached through the proxy."""
    engine = DockerEngine(Door(Address(f"unix://{proxy.path}")), uid=os.geteuid(), gid=os.getegid())
    yield engine
    engine.close()
    for row in door.containers.labelled("dispatch.run", RUN):
        door.containers.remove(row.name)


def _job(directory: Path, image: ImageRecord, script: str) -> JobSpec:
    return JobSpec(
        key="cut.1",
        run=RUN,
        step="cut",
        attempt=1,
        image=LocalId(image.id),
        command=("/bin/sh", "-c", script),
        attempt_dir=directory / "attempt",
        working_dir="/",
        network=Network.NONE,
    )


def test_end_during_an_outage(
    tmp_path: Path, proxy: Proxy, engine: DockerEngine, door: Door, busybox_image: ImageRecord
) -> None:
    """A job that ends while the engine cannot be reached is told once, with its own exit code and log."""
    job = _job(tmp_path, busybox_image, "trap 'exit 3' TERM; echo begun; sleep 3600 & wait")
    (handle,) = engine.submit([job])
    greeting(engine, handle, b"begun")
    proxy.cut()
    door.containers.kill(handle.engine_id, "SIGTERM")
    assert door.containers.wait(handle.engine_id, 60) == 3
    proxy.mend()
    event = end_of(engine, job.key)
    assert (event.exit_code, event.reason) == (3, Reason.STEP)
    assert (job.attempt_dir / "out.log").read_bytes() == b"begun\n"
    assert engine.next_event(0.5) is None


def test_container_that_vanished_during_an_outage(
    tmp_path: Path, proxy: Proxy, engine: DockerEngine, door: Door, busybox_image: ImageRecord
) -> None:
    """A job whose container is gone when the engine can be reached again is lost, and told once."""
    job = _job(tmp_path, busybox_image, "sleep 3600")
    (handle,) = engine.submit([job])
    running(engine, job.key)
    proxy.cut()
    door.containers.remove(handle.engine_id)
    proxy.mend()
    event = end_of(engine, job.key)
    assert (event.exit_code, event.reason) == (None, Reason.LOST)
    assert event.message
    assert engine.next_event(0.5) is None


def test_job_that_outlives_an_outage(
    tmp_path: Path, proxy: Proxy, engine: DockerEngine, busybox_image: ImageRecord
) -> None:
    """A job that runs on through an outage can be cancelled afterwards like any other."""
    job = _job(tmp_path, busybox_image, "trap 'exit 143' TERM; sleep 3600 & wait")
    handles = engine.submit([job])
    running(engine, job.key)
    proxy.cut()
    proxy.mend()
    while not engine.find(RUN):
        pass
    engine.cancel(handles, grace=30)
    event = end_of(engine, job.key)
    assert (event.exit_code, event.reason) == (143, Reason.CANCELLED)


def test_what_others_run_after_an_outage(
    tmp_path: Path, proxy: Proxy, engine: DockerEngine, door: Door, busybox_image: ImageRecord
) -> None:
    """Containers of others that ended or started during an outage are told apart when it is over."""
    other = DockerEngine(door, uid=os.geteuid(), gid=os.getegid())
    try:
        gone = _job(tmp_path, busybox_image, "sleep 3600")
        (handle,) = other.submit([gone])
        running(other, gone.key)
        assert _known(engine, tmp_path) == {"cut.1"}
        proxy.cut()
        door.containers.remove(handle.engine_id)
        end_of(other, gone.key)
        came = replace(gone, key="came.1", attempt_dir=tmp_path / "came")
        other.submit([came])
        running(other, came.key)
        assert _known(engine, tmp_path) == {"cut.1"}
        proxy.mend()
        given_up = time.monotonic() + 60
        while _known(engine, tmp_path) != {"came.1"}:
            assert time.monotonic() < given_up
            time.sleep(0.01)
    finally:
        other.close()


def _known(engine: DockerEngine, directory: Path) -> set[str]:
    """The keys of this test's jobs that a client counts as others'."""
    return {each.key for each in engine.others() if each.directory.startswith(f"{directory}/")}


def test_log_of_a_job_that_outlives_an_outage(
    tmp_path: Path, proxy: Proxy, engine: DockerEngine, busybox_image: ImageRecord
) -> None:
    """What is printed before, during and after an outage is in the log, once, and comes live again."""
    script = "n=0; while [ ! -e /dispatch/scratch/end ]; do n=$((n + 1)); echo line $n; sleep 0.02; done"
    job = _job(tmp_path, busybox_image, script)
    engine.submit([job])
    running(engine, job.key)
    log = job.attempt_dir / "out.log"

    def grows() -> None:
        before = log.stat().st_size if log.exists() else 0
        given_up = time.monotonic() + LIMIT
        while not log.exists() or log.stat().st_size <= before:
            assert time.monotonic() < given_up, "the log stands still"
            time.sleep(0.01)

    for _ in range(3):
        grows()
        proxy.cut()
        time.sleep(0.2)
        proxy.mend()
        grows()
    (job.attempt_dir / "scratch" / "end").touch()
    assert end_of(engine, job.key).exit_code == 0
    lines = log.read_text().splitlines()
    assert lines == [f"line {number}" for number in range(1, len(lines) + 1)]
