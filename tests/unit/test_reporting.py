"""The reporter's port: tasks begin and end, bytes are counted where they pass, and where a pull tells."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch._docker.pulling import PulledLayers
from dispatch.reporting import Lines, counted, measured, working
from dispatch.testing.reporting import RecordedTask, RecordingReporter


def test_a_task_ends_with_its_context() -> None:
    """Well, or broken by what leaves the context."""
    report = RecordingReporter()
    with working(report, "loading", 3) as task:
        assert list(counted([b"ab", b"c"], task)) == [b"ab", b"c"]
    with pytest.raises(ValueError, match="no"), working(report, "breaking"):
        raise ValueError("no")
    assert [(each.name, each.total, each.bytes, each.state) for each in report.tasks] == [
        ("loading", 3, 3, "done"),
        ("breaking", None, 0, "broken"),
    ]


def test_bytes_count_when_they_were_taken() -> None:
    """A chunk that nobody came back from is not counted: the reader may hang on it."""
    task = RecordedTask("loading", None)
    chunks = counted([b"abc", b"de"], task)
    next(chunks)
    assert task.bytes == 0
    next(chunks)
    assert task.bytes == 3


def test_lines_alone() -> None:
    """A reporter of lines keeps tasks to itself."""
    said: list[str] = []
    report = Lines(said.append)
    report("one")
    with working(report, "loading") as task:
        task.expect(5)
        task.advance(5)
    assert said == ["one"]


def test_another_programs_work_is_measured(tmp_path: Path) -> None:
    """What grows is told while it grows and at the end; what is not there yet is no error."""
    file = tmp_path / "download"
    task = RecordedTask("fetching", None)
    seen = threading.Event()

    def size() -> int:
        found = file.stat().st_size
        if found == 4:
            seen.set()
        return found

    with measured(task, size, interval=0.01):
        file.write_bytes(b"four")
        assert seen.wait(30)
        file.write_bytes(b"and then more")
    assert task.bytes == len(b"and then more")


def messages() -> Iterator[dict[str, object]]:
    """What an engine says of two layers, one of which is begun again, and of one that it holds."""
    yield {"status": "Already exists", "progressDetail": {}, "id": "held"}
    yield {"status": "Pulling fs layer", "progressDetail": {}, "id": "one"}
    yield {"status": "Downloading", "progressDetail": {"current": 10, "total": 100}, "id": "one"}
    yield {"status": "Downloading", "progressDetail": {"current": 50, "total": 100}, "id": "one"}
    yield {"status": "Downloading", "progressDetail": {"current": 5, "total": 100}, "id": "one"}
    yield {"status": "Downloading", "progressDetail": {"current": 7, "total": 10}, "id": "two"}
    yield {"status": "Download complete", "progressDetail": {}, "id": "two"}
    yield {"status": "Extracting", "progressDetail": {"current": 3, "total": 10}, "id": "two"}
    yield {"status": "Download complete", "progressDetail": {}, "id": "one"}


def test_layers_of_a_pull_add_up() -> None:
    """Bytes are those that were downloaded, each once, and the total grows as layers are announced."""
    task = RecordedTask("pulling", None)
    layers = PulledLayers(task)
    came = []
    for message in messages():
        layers.take(message)
        came.append((task.bytes, task.total))
    assert came == [
        (0, None),
        (0, None),
        (10, 100),
        (50, 100),
        (50, 100),
        (57, 110),
        (60, 110),
        (60, 110),
        (110, 110),
    ]


@pytest.mark.parametrize(
    "message",
    [
        {"status": "Downloading", "progressDetail": None, "id": "one"},
        {"status": "Downloading", "progressDetail": {"current": "5"}, "id": "one"},
        {"status": "Downloading", "progressDetail": {"total": -1}, "id": "one"},
        {"status": "Downloading", "progressDetail": {"current": 5}},
        {"progressDetail": {}, "id": 7},
    ],
)
def test_rubbish_is_passed_over(message: dict[str, object]) -> None:
    """A message that is not as the API says moves nothing, and raises nothing."""
    task = RecordedTask("pulling", None)
    PulledLayers(task).take(message)
    assert (task.bytes, task.total) == (0, None)
