"""A job's log: from the engine's frames to a file, and from the file to readers, at any moment of it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch.beakerd.joblog import LINE_LIMIT, LogReader, LogWriter

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND + 5
FRAME = 16 * 1024


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log is."""
    return tmp_path / "log"


@pytest.fixture
def reader(path: Path) -> Iterator[LogReader]:
    """A reader from before the log is there."""
    reader = LogReader(path)
    yield reader
    reader.close()


def write(path: Path, frames: list[tuple[int, bytes]], final: bool = True) -> bytes:
    """Write a log from its beginning, and return the file."""
    writer = LogWriter(path)
    writer.add(frames)
    writer.close(final)
    return path.read_bytes()


def read(path: Path, since: int | None = None, tail: int | None = None) -> list[tuple[int, bytes]]:
    """What a new reader sees."""
    reader = LogReader(path)
    try:
        return list(reader.read(since, tail))
    finally:
        reader.close()


@pytest.mark.parametrize(
    ("frames", "lines"),
    [
        ([], []),
        ([b"a\n"], [b"a"]),
        ([b"a\nb\n"], [b"a", b"b"]),
        ([b"\n", b"\n\n"], [b"", b"", b""]),
        ([b"no end"], [b"no end"]),
        ([b"in ", b"", b"pieces\nand", b" no end"], [b"in pieces", b"and no end"]),
        ([b"bar 1\rbar 2\r\n"], [b"bar 1\rbar 2\r"]),
        ([b"\xff\x00\xfe\n"], [b"\xff\x00\xfe"]),
        ([b"x" * FRAME, b"y" * FRAME, b"z\n"], [b"x" * FRAME + b"y" * FRAME + b"z"]),
        ([b"x" * LINE_LIMIT + b"\n"], [b"x" * LINE_LIMIT]),
        ([b"x" * LINE_LIMIT, b"\n"], [b"x" * LINE_LIMIT]),
        ([b"x" * (LINE_LIMIT + 1) + b"\n"], [b"x" * LINE_LIMIT, b"x"]),
        ([b"x" * (2 * LINE_LIMIT), b"y"], [b"x" * LINE_LIMIT, b"x" * LINE_LIMIT, b"y"]),
        ([b"x" * FRAME] * 65 + [b"\n"], [b"x" * LINE_LIMIT, b"x" * FRAME]),
    ],
)
def test_lines(path: Path, frames: list[bytes], lines: list[bytes]) -> None:
    """Frames become lines without their ends; one that is too long becomes several; none is lost."""
    write(path, [(START + n, frame) for n, frame in enumerate(frames)])
    assert [line for _, line in read(path)] == lines


def test_a_line_that_is_not_ended_waits_for_its_end(path: Path, reader: LogReader) -> None:
    """Half a line is no line before the log has ended, or a replay would change what readers have seen."""
    assert list(reader.read()) == []
    writer = LogWriter(path)
    writer.add([(START, b"one\ntw")])
    assert [line for _, line in reader.read()] == [b"one"]
    writer.close(final=False)
    assert list(reader.read()) == []
    writer = LogWriter(path)
    writer.add([(START, b"one\ntw"), (START + 9, b"o\nthree")])
    assert list(reader.read()) == [(START + 1, b"two")]
    writer.close(final=True)
    assert list(reader.read()) == [(START + 9, b"three")]


def test_stamps_strictly_increase(path: Path) -> None:
    """Equal times, a clock set back and whole seconds still give stamps that a client can resume from."""
    back = START - 3600 * SECOND
    times = [START, START, START, back, back + 1, START + 1, 0, -5, START + SECOND - 6, START + 2 * SECOND]
    write(path, [(when, b"x\n") for when in times])
    stamps = [stamp for stamp, _ in read(path)]
    assert stamps == sorted(set(stamps))
    assert all(0 < stamp % SECOND < SECOND - 1 for stamp in stamps)
    assert stamps[:4] == [START, START + 1, START + 2, START + 3]
    assert stamps[-2:] == [START + SECOND - 4, START + 2 * SECOND]


def test_replay_writes_the_same_bytes(path: Path) -> None:
    """Wherever a server was killed in the middle of writing, a replay makes the file that would be there."""
    dice = random.Random(5)
    clock, frames = START, []
    for n in range(60):
        clock += dice.choice([0, 1, 1000, -5_000_000])
        frames.append((clock, b"line %d" % n + dice.choice([b"\n", b"", b"\n\n", b" x\ny"])))
    whole = write(path, frames)
    seen = read(path)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        found = read(path)
        assert found == seen[: len(found)]
        assert read(path, tail=3) == found[-3:]
        if found:
            assert read(path, since=found[-1][0]) == found[-1:]
        if size % 20 == 0:
            given = dice.randint(0, len(frames))
            write(path, frames[:given], final=False)
            assert read(path)[: len(found)] == found
            assert write(path, frames) == whole


def test_a_replay_disturbs_no_reader(path: Path) -> None:
    """A reader in the middle of a log that is replayed sees every line once."""
    frames = [(START + n, b"line %d\n" % n) for n in range(20_000)]
    write(path, frames[:15_000], final=False)
    ended = threading.Event()
    seen: list[tuple[int, bytes]] = []

    def follow() -> None:
        reader = LogReader(path)
        while not ended.is_set():
            seen.extend(reader.read())
        seen.extend(reader.read())
        reader.close()

    thread = threading.Thread(target=follow)
    thread.start()
    for _ in range(3):
        writer = LogWriter(path)
        for start in range(0, len(frames), 100):
            writer.add(frames[start : start + 100])
        writer.close(final=False)
    ended.set()
    thread.join()
    assert [line for _, line in seen] == [line.rstrip() for _, line in frames]


def test_cut_anywhere(path: Path) -> None:
    """How the bytes of one moment are cut into frames changes nothing."""
    text = b"first\n\nsecond line\n" + b"z" * 50 + b"\nlast without end"
    whole = write(path, [(START, text)])
    for cut in range(len(text) + 1):
        assert write(path, [(START, text[:cut]), (START, text[cut:])]) == whole
    assert write(path, [(START, text[at : at + 1]) for at in range(len(text))]) == whole


def test_the_end_cuts_off_what_is_behind(path: Path) -> None:
    """A file that is longer than its log (written by a machine that lost its power) is as long in the end."""
    whole = write(path, [(START, b"a\nb\n")])
    path.write_bytes(whole + b"\0" * 100)
    assert [line for _, line in read(path)] == [b"a", b"b"]
    assert [line for _, line in read(path, tail=1)] == [b"b"]
    assert write(path, [(START, b"a\nb\n")]) == whole


def test_since_and_tail(path: Path) -> None:
    """``since`` and ``tail`` together give the last lines of those that are not too early; also of long
    lines, of which few fit the window that is looked through."""
    frames = [(START + 10 * n, b"%d" % n * (n % 7) * 30_000 + b"\n") for n in range(200)]
    write(path, frames)
    every = read(path)
    for since in (0, 1, START, START + 1, START + 995, START + 1990, START + 5000):
        kept = [row for row in every if row[0] >= since]
        for tail in (None, 0, 1, 2, 5, 199, 200, 1000):
            assert read(path, since, tail) == (kept[-tail:] if tail else kept)


def test_since_and_tail_place_only_once(path: Path, reader: LogReader) -> None:
    """After its first call a reader goes on where it is."""
    writer = LogWriter(path)
    writer.add([(START + n, b"%d\n" % n) for n in range(5)])
    assert [line for _, line in reader.read(tail=2)] == [b"3", b"4"]
    writer.add([(START + 5, b"5\n")])
    assert [line for _, line in reader.read()] == [b"5"]
    writer.close(final=True)


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\0" * 20,
        b"\xff" * 40,
        b"\1" * 7,
        (5).to_bytes(8, "little") + b"\xff\xff\xff\x7f" + b"x" * 9,
        (5).to_bytes(8, "little") + b"\1\0\0\0x\2\0\0\0abcd",
    ],
)
def test_rubbish_is_the_end(path: Path, rubbish: bytes) -> None:
    """What is no record ends the log, read from either end."""
    whole = write(path, [(START, b"a\nb\n")])
    path.write_bytes(whole + rubbish)
    assert [line for _, line in read(path)] == [b"a", b"b"]
    assert [line for _, line in read(path, tail=1)] == [b"b"]
    path.write_bytes(rubbish)
    assert read(path) == read(path, tail=1) == []


def test_many_lines_are_cheap(path: Path) -> None:
    """Writing and reading 200 000 lines costs a few microseconds a line (this bound is for loaded machines),
    and the last ones are found without reading the rest."""
    count = 200_000
    frames = [(START + 1000 * n, b"line %d of a job that prints a little\n" % n) for n in range(count)]
    began = time.monotonic()
    write(path, frames)
    assert [line for _, line in read(path)] == [frame.rstrip() for _, frame in frames]
    assert time.monotonic() - began < 20e-6 * count
    began = time.monotonic()
    for _ in range(20):
        assert read(path, since=START + 1000 * (count - 2))[-1] == read(path, tail=1)[0]
    assert time.monotonic() - began < 2
