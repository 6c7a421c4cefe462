"""The journal of a run: lines that are whole or nothing, read while they are written."""

from __future__ import annotations

import errno
import json
import threading
import time
from pathlib import Path

import pytest

from dispatch.testing.faults import WatchedDisk
from dispatch.workspace.disk import Disk
from dispatch.workspace.journal import Entry, JournalReader, JournalStep, JournalWriter, Kind, section

STEPS = (
    JournalStep("a", "A-1", "run", "no result yet", "base", "container"),
    JournalStep("b", "B-1", "cached", "computed yesterday"),
)
ENTRIES = [
    Entry(Kind.OPENED, 1.5, driver=2, host="here", pid=7, steps=STEPS),
    Entry(Kind.STARTING, 2.0, "a", attempt=3),
    Entry(Kind.RUNNING, 2.5, "a", since=2.25, node="n1", key="A-1.3"),
    Entry(Kind.WAITING, 3.0, "a", "nö\n room"),
    Entry(Kind.RETRYING, 4.0, "a", "oom", delay=0.5),
    Entry(Kind.ENDED, 5.0, "a", "it broke", verdict="failed"),
    Entry(Kind.SAID, 6.0, reason="somebody asks"),
    Entry(Kind.CLOSED, 7.0, driver=2, state="failed"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the journal is."""
    return tmp_path / "journal"


def write(path: Path, *entries: Entry) -> None:
    """Append entries as a new driver does."""
    writer = JournalWriter(path, Disk())
    for entry in entries:
        writer.append(entry)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.kind.value)
def test_a_line_says_all_of_an_entry(entry: Entry) -> None:
    """One line, ASCII, and the same entry again."""
    line = entry.to_line()
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert Entry.from_line(line) == entry


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"what": "starting"}',
        b'{"what": "dancing", "time": 1}',
        b'{"what": "starting", "time": "noon"}',
        b'{"what": "starting", "time": 1, "attempt": "x"}',
        b'{"what": "opened", "time": 1, "steps": 3}',
        b'{"what": "opened", "time": 1, "steps": [{"name": "a"}]}',
    ],
)
def test_what_is_no_entry_says_nothing(path: Path, line: bytes) -> None:
    """A line that cannot be read is passed over, and what stands around it is not."""
    path.write_bytes(ENTRIES[1].to_line() + line + b"\n" + ENTRIES[2].to_line())
    assert JournalReader(path).read() == ENTRIES[1:3]


def test_keys_of_a_later_version_are_left_out() -> None:
    """The rest of the entry counts."""
    data = {**json.loads(ENTRIES[0].to_line()), "colour": "red"}
    data["steps"][0]["shape"] = "round"
    assert Entry.from_line(json.dumps(data).encode()) == ENTRIES[0]


def test_reading_a_byte_at_a_time(path: Path) -> None:
    """However a journal grows, each entry is read once, as soon as its line is whole."""
    whole = b"".join(entry.to_line() for entry in ENTRIES)
    reader = JournalReader(path)
    assert reader.read() == []
    found = []
    for at in range(len(whole)):
        with path.open("ab") as file:
            file.write(whole[at : at + 1])
        new = reader.read()
        assert bool(new) == (whole[at : at + 1] == b"\n")
        found += new
    assert found == ENTRIES


def test_a_torn_last_line_is_passed_over(path: Path) -> None:
    """A driver that died in the middle of a line costs that line: the next driver's stand whole."""
    path.write_bytes(ENTRIES[0].to_line() + ENTRIES[1].to_line()[:9])
    reader = JournalReader(path)
    assert reader.read() == [ENTRIES[0]]
    write(path, ENTRIES[2], ENTRIES[3])
    assert reader.read() == ENTRIES[2:4]
    assert JournalReader(path).read() == [ENTRIES[0], *ENTRIES[2:4]]


def test_a_write_that_failed_in_the_middle(path: Path) -> None:
    """What the full disk took of a line does not spoil the next one."""

    def fail(name: str, arguments: tuple[object, ...], after: bool) -> None:
        if name == "append" and not after and len(calls) == 1:
            assert isinstance(arguments[1], bytes)
            with path.open("ab") as file:
                file.write(arguments[1][:5])
            calls.append(0)
            raise OSError(errno.ENOSPC, "no room")
        if after:
            calls.append(0)

    calls: list[int] = []
    writer = JournalWriter(path, WatchedDisk(fail))
    writer.append(ENTRIES[1])
    with pytest.raises(OSError, match="no room"):
        writer.append(ENTRIES[2])
    writer.append(ENTRIES[3])
    assert JournalReader(path).read() == [ENTRIES[1], ENTRIES[3]]


def test_a_journal_that_got_shorter(path: Path) -> None:
    """Nothing is told twice, and what is written from then on is told."""
    write(path, *ENTRIES[:4])
    reader = JournalReader(path)
    assert len(reader.read()) == 4
    path.write_bytes(path.read_bytes()[: len(ENTRIES[0].to_line()) + 3])
    assert reader.read() == []
    write(path, ENTRIES[5])
    assert reader.read() == [ENTRIES[5]]


def test_another_file_in_its_place(path: Path) -> None:
    """It is read from its beginning."""
    write(path, *ENTRIES[:4])
    reader = JournalReader(path)
    reader.read()
    other = path.with_name("other")
    write(other, ENTRIES[6], ENTRIES[7])
    other.replace(path)
    assert reader.read() == ENTRIES[6:]


def test_a_journal_under_writing(path: Path) -> None:
    """A reader beside a writer of thousands of lines sees all of them, in order."""
    many = [Entry(Kind.SAID, float(number), reason="x" * (number % 50)) for number in range(5000)]
    thread = threading.Thread(target=write, args=(path, *many))
    thread.start()
    reader = JournalReader(path)
    found: list[Entry] = []
    until = time.monotonic() + 60
    while len(found) < len(many) and time.monotonic() < until:
        found += reader.read()
    thread.join()
    assert found == many


def test_the_latest_drivers_section() -> None:
    """It begins with the last OPENED; without one there is none."""
    assert section([]) == []
    assert section(ENTRIES[1:4]) == []
    assert section([*ENTRIES, *ENTRIES[:2]]) == ENTRIES[:2]
