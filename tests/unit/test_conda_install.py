"""Installing a conda lock: what comes is what was locked, however it comes and whatever crashes."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dispatch.errors import DispatchError, ImageError, LockError
from dispatch.lock.model import CondaLock
from dispatch.lock.rattler import Rattler
from dispatch.testing.condapackages import locked, served, true_channel
from dispatch.testing.processes import lives, until
from dispatch.testing.reporting import RecordingReporter

PREFIX = "/opt/conda"


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The channel, whose Python does not run."""
    return true_channel(tmp_path_factory.mktemp("channel") / "channel", python=False)


@pytest.fixture
def lock(channel: Path) -> CondaLock:
    """Two of its packages."""
    return locked(channel, "libtext-1.3-h1_0", "datafiles-1.0-0", name="team")


class Bench:
    """An installer with a directory of its own, and what it told."""

    def __init__(self, root: Path, *addresses: str, run: Callable[..., Any] = subprocess.run) -> None:
        self.archives = root / "archives"
        self.told = RecordingReporter()
        self.asked: list[str] = []
        self._addresses = addresses
        self._root = root
        self._installer = Rattler(self._where, self.archives, dict(os.environ), run)

    def _where(self, channel: str) -> list[str]:
        self.asked.append(channel)
        return list(self._addresses)

    def install(self, lock: CondaLock, name: str = "prefix") -> Path:
        """Install into a directory of this name, and return it."""
        self._installer.install(lock, self._root / name, PREFIX, self.told)
        return self._root / name


def test_from_a_directory(channel: Path, lock: CondaLock, tmp_path: Path) -> None:
    """The prefix holds what the packages bring, made for its place in the image; nothing else is left."""
    bench = Bench(tmp_path, channel.as_uri())
    prefix = bench.install(lock)
    assert (prefix / "bin" / "libtext-config").read_text() == "#!/bin/sh\necho /opt/conda/lib\n"
    assert (prefix / "share" / "datafiles" / "readme.txt").read_text() == "in /opt/conda\n"
    assert {path.name for path in tmp_path.iterdir()} == {"prefix", "archives"}
    kept = {f"{each.sha256}.conda" for each in lock.packages}
    assert {path.name for path in bench.archives.iterdir()} == kept
    assert set(bench.asked) == {"team"}


@pytest.mark.parametrize("way", ["file", "http"])
def test_older_format(way: str, channel: Path, tmp_path: Path) -> None:
    """A package in the older format is installed as the others are."""
    lock = locked(channel, "legacy-1.0-0")
    with contextlib.ExitStack() as stack:
        address = channel.as_uri() if way == "file" else stack.enter_context(served(channel))[0]
        bench = Bench(tmp_path, address)
        prefix = bench.install(lock)
    assert (prefix / "share" / "old").read_text() == "in /opt/conda\n"
    assert [path.name for path in bench.archives.iterdir()] == [f"{lock.packages[0].sha256}.tar.bz2"]


def test_fetched_once(channel: Path, lock: CondaLock, tmp_path: Path) -> None:
    """What was fetched is not asked for again, by another prefix either."""
    with served(channel) as (address, asked):
        bench = Bench(tmp_path, address)
        bench.install(lock)
        assert sorted(asked) == ["/linux-64/libtext-1.3-h1_0.conda", "/noarch/datafiles-1.0-0.conda"]
    bench.install(lock, "other")
    assert bench.told.lines == []


def test_scripts_do_not_run(channel: Path, tmp_path: Path) -> None:
    """A post-link script is put in, and not run."""
    prefix = Bench(tmp_path, channel.as_uri()).install(locked(channel, "registered-1.0-0"))
    assert (prefix / "bin" / ".registered-post-link.sh").exists()
    assert not (prefix / "was-here").exists()


@pytest.mark.parametrize("way", ["file", "http"])
def test_wrong_hash(way: str, channel: Path, lock: CondaLock, tmp_path: Path) -> None:
    """A package that is not what was locked is refused, also from a directory, and is not kept."""
    first, second = lock.packages
    changed = replace(lock, packages=(replace(first, sha256="0" * 64), second))
    with contextlib.ExitStack() as stack:
        address = channel.as_uri() if way == "file" else stack.enter_context(served(channel))[0]
        bench = Bench(tmp_path, address)
        with pytest.raises(LockError, match=r"libtext-1.3-h1_0.conda: channel team gives other") as caught:
            bench.install(changed)
    assert "--upgrade" in caught.value.remedy
    assert address not in caught.value.message
    assert {path.name for path in bench.archives.iterdir()} <= {f"{second.sha256}.conda"}
    assert not (tmp_path / "prefix").exists()


def test_damaged_archive(channel: Path, lock: CondaLock, tmp_path: Path) -> None:
    """An archive that is not what it was is fetched again, and that is said."""
    bench = Bench(tmp_path, channel.as_uri())
    bench.install(lock)
    path = bench.archives / f"{lock.packages[1].sha256}.conda"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    bench.install(lock)
    assert bench.told.lines == ["datafiles-1.0-0.conda: what was kept of it was damaged: fetched again"]
    content[len(content) // 2] ^= 1
    assert path.read_bytes() == content


@pytest.mark.parametrize("way", ["file", "http"])
def test_vanished(way: str, channel: Path, lock: CondaLock, tmp_path: Path) -> None:
    """A package that its channel has no more is a lock to be renewed; another place may still have it."""
    gone = tmp_path / "gone"
    gone.mkdir()
    with contextlib.ExitStack() as stack:
        address = gone.as_uri() if way == "file" else stack.enter_context(served(gone))[0]
        with pytest.raises(LockError, match="channel team has it no more") as caught:
            Bench(tmp_path, address).install(lock)
        assert "dispatch lock --upgrade" in caught.value.remedy
        Bench(tmp_path, address, channel.as_uri()).install(lock)


def test_no_answer(lock: CondaLock, tmp_path: Path) -> None:
    """A channel that does not answer is no fault of the lock; its address is not told."""
    with pytest.raises(ImageError, match=r"channel team does not give it") as caught:
        Bench(tmp_path, "http://127.0.0.1:9/secret").install(lock)
    assert "127.0.0.1" not in str(caught.value.message)
    assert list((tmp_path / "archives").iterdir()) == []


class _Cutting(http.server.SimpleHTTPRequestHandler):
    """Cuts each file short, or breaks off, the first ``times`` it is asked for it."""

    def __init__(self, *more: object, directory: str, seen: dict[str, int], bad: tuple[int, str]) -> None:
        self._seen = seen
        self._times, self._way = bad
        super().__init__(*more, directory=directory)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Answer with half of the file."""
        self._seen[self.path] = self._seen.get(self.path, 0) + 1
        if self._seen[self.path] > self._times:
            super().do_GET()
            return
        content = (Path(self.directory) / self.path[1:]).read_bytes()
        if self._way == "refused":
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) // (2 if self._way == "short" else 1)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def cutting(channel: Path, times: int, way: str) -> Iterator[str]:
    """Serve a channel badly."""
    handler = partial(_Cutting, directory=str(channel), seen={}, bad=(times, way))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("way", ["short", "broken off", "refused"])
def test_bad_line(way: str, channel: Path, lock: CondaLock, tmp_path: Path) -> None:
    """A file that comes in part, or not at first, is asked for again."""
    with cutting(channel, 1, way) as address:
        bench = Bench(tmp_path, address)
        prefix = bench.install(lock)
    assert (prefix / "share" / "datafiles" / "readme.txt").read_text() == "in /opt/conda\n"
    kept = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in bench.archives.iterdir()}
    assert kept == {each.sha256: each.sha256 for each in lock.packages}


def test_always_short(channel: Path, lock: CondaLock, tmp_path: Path) -> None:
    """A file that never comes whole is a fault of the line, not of the lock."""
    with cutting(channel, 99, "short") as address, pytest.raises(ImageError, match=r"of [0-9]+ bytes came"):
        Bench(tmp_path, address).install(lock)


class Crashing:
    """Runs the real process, which then crashes: after its work, or before it ``times`` times."""

    def __init__(self, code: int, before: int = 0) -> None:
        self.code = code
        self.before = before
        self.runs = 0

    def __call__(self, command: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
        """Run, and say it crashed."""
        self.runs += 1
        if self.runs <= self.before:
            return subprocess.CompletedProcess(command, self.code, "", "Aborted\n")
        done = subprocess.run(command, **more)
        return subprocess.CompletedProcess(command, self.code, done.stdout, done.stderr)


@pytest.mark.parametrize("code", [-6, -11, 134, 139])
def test_crash_at_its_end(code: int, channel: Path, lock: CondaLock, tmp_path: Path) -> None:
    """A process that crashes with its work done has done its work."""
    crashing = Crashing(code)
    prefix = Bench(tmp_path, channel.as_uri(), run=crashing).install(lock)
    assert (prefix / "bin" / "libtext-config").exists()
    assert crashing.runs == 1


def test_crash_before(channel: Path, lock: CondaLock, tmp_path: Path) -> None:
    """One that crashes before is tried once more; then that is an error."""
    Bench(tmp_path, channel.as_uri(), run=Crashing(134, before=1)).install(lock)
    with pytest.raises(ImageError, match="py-rattler ended with 134: Aborted"):
        Bench(tmp_path, channel.as_uri(), run=Crashing(134, before=2)).install(lock, "other")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x05\x06" + bytes(18)])
def test_rubbish(content: bytes, lock: CondaLock, tmp_path: Path) -> None:
    """A locked file that is no package is an error that says so."""
    import hashlib

    (tmp_path / "bad" / "noarch").mkdir(parents=True)
    (tmp_path / "bad" / "noarch" / "datafiles-1.0-0.conda").write_bytes(content)
    package = replace(lock.packages[1], sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    with pytest.raises(DispatchError, match="installing conda packages"):
        Bench(tmp_path, (tmp_path / "bad").as_uri()).install(replace(lock, packages=(package,)))


class Orphaned:
    """Runs the real process by another one, which is killed."""

    child = 0

    def __call__(self, command: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
        """Start it, kill who started it, and leave it alone."""
        code = "import subprocess as s, sys; c = s.Popen(sys.argv[1:]); print(c.pid, flush=True); c.wait()"
        between = subprocess.Popen(
            [sys.executable, "-c", code, *command], stdout=subprocess.PIPE, cwd=more["cwd"], env=more["env"]
        )
        assert between.stdout is not None
        self.child = int(between.stdout.readline())
        between.kill()
        between.wait()
        return subprocess.CompletedProcess(command, -9, "", "")


def test_killed_with_its_maker(lock: CondaLock, tmp_path: Path) -> None:
    """The process does not outlive the one that started it, even while it waits for a channel."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        orphaned = Orphaned()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ImageError, match="ended with -9"):
            Bench(tmp_path, address, run=orphaned).install(lock)
        until(lambda: not lives(orphaned.child), "the process lives on")


class Answering:
    """Leaves an answer, as the process would."""

    def __init__(self, **answer: Any) -> None:
        self._answer = {"error": None, "file": "", "said": "", "damaged": [], **answer}

    def __call__(self, command: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
        """Write it."""
        (Path(more["cwd"]) / "answer.json").write_text(json.dumps(self._answer))
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.mark.parametrize("kind", ["install", "download"])
def test_full_disk(kind: str, lock: CondaLock, tmp_path: Path) -> None:
    """A full disk is told as such, whoever noticed it, so that a build can say what to remove."""
    said = "failed to write https://host/x: No space left on device (os error 28)"
    run = Answering(error=kind, file="datafiles-1.0-0.conda", said=said)
    with pytest.raises(ImageError, match="No space left on device") as caught:
        Bench(tmp_path, "file:///nowhere", run=run).install(lock)
    assert "host" not in caught.value.message
