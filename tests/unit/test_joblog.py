"""A followed log from its bytes on a connection to its file, in whatever pieces they come."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch._docker.containers import STDERR, STDOUT, LogFrame
from dispatch._docker.follow import LogFeed
from dispatch.engine.joblog import JobLog

HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n"
STAMP = "2024-01-02T03:04:05.000000006Z"


def packed(stream: int, data: bytes) -> bytes:
    """A frame as the engine sends it."""
    content = f"{STAMP} ".encode() + data
    return bytes([stream, 0, 0, 0]) + len(content).to_bytes(4, "big") + content


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, LogFeed]]:
    """The engine's end of a connection, and ours."""
    theirs, ours = socket.socketpair()
    feed = LogFeed(ours)
    yield theirs, feed
    feed.close()
    theirs.close()


def test_frames_in_pieces(ends: tuple[socket.socket, LogFeed]) -> None:
    """Head and frames are pieced together wherever they were cut; nothing is waited for."""
    theirs, feed = ends
    assert feed.read() == []
    rows = [(STDOUT, b"line %d\n" % n) if n % 3 else (STDERR, b"") for n in range(50)]
    sent = HEAD + b"".join(packed(*row) for row in rows)
    dice, found = random.Random(3), []
    while sent:
        size = dice.randint(1, 40)
        theirs.sendall(sent[:size])
        sent = sent[size:]
        found += feed.read() or []
    assert found == [LogFrame(stream, STAMP, data) for stream, data in rows]
    assert feed.read() == []
    theirs.close()
    assert feed.read() is None


@pytest.mark.parametrize(
    "answer",
    [
        b'HTTP/1.0 404 Not Found\r\n\r\n{"message": "No such container"}',
        b"HTTP/1.0 200 OK\r\n\r\n\1\0\0\0\xff\xff\xff\xff",
        b"x" * 70000,
    ],
)
def test_answers_that_are_no_log(ends: tuple[socket.socket, LogFeed], answer: bytes) -> None:
    """An error, or rubbish, is a stream that ends, not a log and not memory without end."""
    theirs, feed = ends
    theirs.sendall(answer)
    theirs.close()
    given_up = time.monotonic() + 10
    while (frames := feed.read()) is not None:
        assert frames == [] and time.monotonic() < given_up


class Layered:
    """A connection as TLS has it: what it holds decoded makes no descriptor readable."""

    def __init__(self) -> None:
        self.held = HEAD + packed(STDOUT, b"held\n")

    def setblocking(self, blocking: bool) -> None:
        """Take it as given."""
        assert not blocking

    def pending(self) -> int:
        """How much is held."""
        return len(self.held)

    def recv(self, size: int) -> bytes:
        """Give what is held; then there is nothing to give yet."""
        given, self.held = self.held[:size], self.held[size:]
        if not given:
            raise type("SSLWantReadError", (OSError,), {})
        return given


def test_what_a_layer_holds() -> None:
    """Bytes that have come already, but not to the descriptor, are told."""
    feed = LogFeed(Layered())  # type: ignore[arg-type]
    assert feed.pending
    assert feed.read() == [LogFrame(STDOUT, STAMP, b"held\n")]
    assert not feed.pending
    assert feed.read() == []


def frames(*lines: str, stream: int = STDOUT) -> list[LogFrame]:
    """Frames of lines."""
    return [LogFrame(stream, STAMP, line.encode()) for line in lines]


def test_replay_over_what_is_there(tmp_path: Path) -> None:
    """A log that begins anew writes itself over itself, and cuts off what never was."""
    (tmp_path / "out.log").write_text("one\ntwo\nthrough a broken disk " + "\0" * 100)
    log = JobLog(tmp_path)
    log.add(frames("one\n", "two\n"))
    assert (tmp_path / "out.log").read_text().startswith("one\ntwo\nthrough")
    log.restart()
    log.add_all(iter(frames("one\n", "two\n", "three\n")))
    assert log.finish(0.0) == ""
    assert (tmp_path / "out.log").read_text() == "one\ntwo\nthree\n"
    assert not (tmp_path / "phases.json").exists()


def test_secret_at_the_end(tmp_path: Path) -> None:
    """What may be a secret's beginning is kept back while more may come, and written at the end."""
    log = JobLog(tmp_path, ["hunter2"])
    log.add(frames("hunter2 and hunt"))
    assert (tmp_path / "out.log").read_text() == "*** and "
    log.leave()
    assert (tmp_path / "out.log").read_text() == "*** and "
    log.restart()
    log.add(frames("hunter2 and hunt"))
    log.finish(0.0)
    assert (tmp_path / "out.log").read_text() == "*** and hunt"


def test_no_output(tmp_path: Path) -> None:
    """A job that prints nothing has an empty log."""
    assert JobLog(tmp_path).finish(0.0) == ""
    assert (tmp_path / "out.log").read_bytes() == b""


def test_directory_that_is_gone(tmp_path: Path) -> None:
    """A log that cannot be written is told once it is whole, and not before."""
    log = JobLog(tmp_path / "gone")
    log.add(frames("one\n"))
    log.add(frames("two\n"))
    assert log.fault is not None
    with pytest.raises(FileNotFoundError):
        log.finish(0.0)


def test_phases_and_failure(tmp_path: Path) -> None:
    """Phases are timed by the engine's clock, on stderr, up to the last; init's own word is told."""
    log = JobLog(tmp_path)
    log.add(frames("dispatch: phase source\n", stream=STDERR))
    log.add(frames("dispatch: phase install\n"))
    log.add(frames("dispatch: phase run\n", "dispatch: phase environment\n", stream=STDERR))
    log.add(frames("[FATAL tini (7)] exec /no/such failed: No such file or directory\n", stream=STDERR))
    begun = 1704164645.0
    assert log.finish(begun + 2) == "exec /no/such failed: No such file or directory"
    assert json.loads((tmp_path / "phases.json").read_text()) == {
        "source": 0.0,
        "run": pytest.approx(2, abs=1e-6),
    }
