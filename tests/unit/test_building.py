"""Builds by an engine that answers anything: cut, early, in pieces, or no engine at all."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dispatch._docker import Address, Door
from dispatch._docker.building import BuildRequest
from dispatch.errors import DispatchError, EngineError, ImageError
from dispatch.testing.reporting import RecordingReporter

BODY = [b"x" * 1000] * 500
OK = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"
DONE = {"id": "moby.image.id", "aux": {"ID": "sha256:abc"}}
STEP = {"stream": "Step 1/1 : FROM x\n"}


def lines(*messages: object) -> bytes:
    """Return messages as an engine sends them."""
    return b"".join(json.dumps(message).encode() + b"\r\n" for message in messages)


@contextlib.contextmanager
def engine(path: Path, answer: Callable[[socket.socket], None]) -> Iterator[Door]:
    """An engine that gives each connection to ``answer`` and closes it."""

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            with line, contextlib.suppress(OSError):
                answer(line)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield Door(Address(f"unix://{path}"))
        listener.shutdown(socket.SHUT_RDWR)


def after_body(*pieces: bytes) -> Callable[[socket.socket], None]:
    """Answer in these pieces when the whole request has come."""

    def answer(line: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += line.recv(65536)
        left = sum(map(len, BODY)) - len(received.partition(b"\r\n\r\n")[2])
        while left > 0:
            left -= len(line.recv(min(left, 65536)))
        for piece in pieces:
            line.sendall(piece)

    return answer


def build(door: Door, report: RecordingReporter, cancelled: Callable[[], bool] = lambda: False) -> str:
    """Build something."""
    size = sum(map(len, BODY))
    return door.build(BuildRequest("x", "Dockerfile", size, lambda: BODY, "Dockerfile"), report, cancelled)


def test_messages_may_come_in_any_pieces(tmp_path: Path) -> None:
    """What is told does not depend on how it is cut; what is no message is passed over."""
    whole = (
        OK
        + lines(STEP, ["no", "message"], {"id": "moby.buildkit.trace", "aux": "?"})
        + b"noise\n"
        + lines(DONE)
    )
    for size in (1, 7, len(whole)):
        report = RecordingReporter()
        pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
        with engine(tmp_path / str(size), after_body(*pieces)) as door:
            assert build(door, report) == "sha256:abc"
        assert report.lines == ["x: [1/1] FROM x"]


BROKEN = {
    "nothing": b"",
    "half a head": OK[:20],
    "no http": b"SSH-2.0-nobody\r\n\r\n",
    "no end": OK + lines(STEP),
    "cut in a message": OK + lines(STEP) + lines(DONE)[:30],
    "an endless head": b"HTTP/1.0 200 OK\r\n" + b"X: y\r\n" * 20_000,
}


@pytest.mark.parametrize("case", BROKEN)
def test_an_answer_without_an_end_is_no_image(tmp_path: Path, case: str) -> None:
    """An engine that breaks off, or is none, is an EngineError; never an image."""
    with (
        engine(tmp_path / "s", after_body(BROKEN[case])) as door,
        pytest.raises(EngineError, match="broke off"),
    ):
        build(door, RecordingReporter())


def test_a_refusal_before_the_end_of_the_body_is_heard(tmp_path: Path) -> None:
    """The engine need not read what it does not want; its sentence comes out all the same."""
    message = b'{"message":"dockerfile parse error line 1: unknown instruction: FOO"}'
    head = b"HTTP/1.0 400 Bad Request\r\nContent-Length: %d\r\n\r\n" % len(message)

    def answer(line: socket.socket) -> None:
        line.recv(1)
        line.sendall(head + message)
        line.shutdown(socket.SHUT_WR)
        # As the kernel does it for a server that goes away gently.
        while line.recv(65536):
            pass

    with engine(tmp_path / "s", answer) as door, pytest.raises(ImageError, match="unknown instruction: FOO"):
        build(door, RecordingReporter())


def test_an_error_of_ours_breaks_the_request_off(tmp_path: Path) -> None:
    """A context that cannot be read to its end is never taken for a whole one by the engine."""
    seen: list[int] = []
    over = threading.Event()

    def answer(line: socket.socket) -> None:
        received = 0
        while data := line.recv(65536):
            received += len(data)
        seen.append(received)
        over.set()

    def chunks() -> Iterator[bytes]:
        yield BODY[0]
        raise ImageError("it was changed")

    with engine(tmp_path / "s", answer) as door:
        request = BuildRequest("x", "Dockerfile", 10_000, chunks, "Dockerfile")
        with pytest.raises(ImageError, match="it was changed"):
            door.build(request, RecordingReporter(), lambda: False)
        assert over.wait(30)
    assert seen[0] < 10_000


def test_a_silent_build_is_interrupted(tmp_path: Path) -> None:
    """Nothing need come from the engine for an interrupt to be heard, and the engine hears of it."""
    begun, over = threading.Event(), threading.Event()

    def answer(line: socket.socket) -> None:
        after_body(OK)(line)
        begun.set()
        while line.recv(65536):
            pass
        over.set()

    with engine(tmp_path / "s", answer) as door:
        with pytest.raises(DispatchError, match="interrupted"):
            build(door, RecordingReporter(), begun.is_set)
        assert over.wait(30)
