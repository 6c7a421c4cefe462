"""Iterators as results: written and read item by item, as JSON lines or as pickles."""

from __future__ import annotations

import gc
import itertools
import json
import os
import tracemalloc
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from dispatch.errors import FormatError
from dispatch.formats import AUTO, JsonLinesFormat, read_result, resolve_format, runs_code


class Opaque:
    """What JSON cannot hold, and pickle can."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]


def generator(items: Any) -> Iterator[Any]:
    """Yield items."""
    yield from items


@pytest.mark.parametrize(
    ("format", "items", "file"),
    [
        ("auto", [], "data.jsonl"),
        ("auto", [1, "two\n\u2028", {"three": [3.0]}, None], "data.jsonl"),
        ("auto", [(1, 2), date(2024, 1, 2), b"x", {1: {2}}], "data.jsonl"),
        ("auto", [1, (2,), Opaque(3), 4, Opaque(5)], "data.pickles"),
        ("auto", [Opaque(1)], "data.pickles"),
        ("json", [1, (2,)], "data.jsonl"),
        ("jsonl", [1, (2,)], "data.jsonl"),
        ("pickle", [1, Opaque(2)], "data.pickles"),
        ("dill", [1, Opaque(2)], "data.pickles"),
        ({"type": "jsonl", "compress": "gz"}, [1] * 9999, "data.jsonl.gz"),
        ({"type": "json", "compress": "lzma"}, [1] * 9999, "data.jsonl.xz"),
        ({"type": "pickle", "compress": "bz2"}, [1] * 9999, "data.pickles.bz2"),
    ],
)
def test_an_iterator_comes_back_as_one(format: Any, items: list[Any], file: str, tmp_path: Path) -> None:
    """Each reading gives a new iterator, which goes through the items once."""
    for source in (generator(items), iter(items), itertools.chain(items)):
        assert resolve_format(format).write(source, tmp_path) == file
        assert [path.name for path in tmp_path.iterdir()] == [file]
        assert (runs_code(tmp_path) is not None) == ("pickles" in file)
        found = read_result(tmp_path, trust_pickle=True)
        assert iter(found) is found
        assert list(found) == items
        assert list(found) == []
        assert list(read_result(tmp_path, trust_pickle=True)) == items
        (tmp_path / file).unlink()


def test_lines_are_what_other_tools_expect(tmp_path: Path) -> None:
    """One JSON text a line, in UTF-8."""
    AUTO.write(iter(["é\n", {"b": 1, "a": 2}]), tmp_path)
    assert (tmp_path / "data.jsonl").read_bytes() == '"é\\n"\n{"b": 1, "a": 2}\n'.encode()


def test_a_row_of_pickles_needs_trust(tmp_path: Path) -> None:
    """They run code as any pickle does."""
    AUTO.write(generator([Opaque(1)]), tmp_path)
    with pytest.raises(FormatError, match=r"data\.pickles: is a pickle"):
        read_result(tmp_path)


def test_no_more_than_an_item_is_held(tmp_path: Path) -> None:
    """Not while writing, not while going over to pickles, not while reading."""
    big, number = "x" * 100_000, 300
    items = (big + str(index) if index < number - 1 else Opaque(index) for index in range(number))
    tracemalloc.start()
    try:
        assert AUTO.write(items, tmp_path) == "data.pickles"
        assert sum(1 for _ in read_result(tmp_path, trust_pickle=True)) == number
        assert tracemalloc.get_traced_memory()[1] < 20 * len(big)
    finally:
        tracemalloc.stop()


class StepFailedError(Exception):
    """What a step may raise."""


def failing(items: list[Any], error: BaseException) -> Iterator[Any]:
    """Yield items, then raise."""
    yield from items
    raise error


@pytest.mark.parametrize("format", ["auto", "jsonl", "pickle", {"type": "pickle", "compress": "gz"}])
@pytest.mark.parametrize("items", [[], [1], [1, Opaque]])
def test_what_the_iterator_raises_is_the_steps_failure(format: Any, items: list[Any], tmp_path: Path) -> None:
    """It is not dressed up as trouble with a format, and no half result stays."""
    if format == "jsonl":
        items = items[:1]
    for error in (StepFailedError("mine"), OSError(28, "full"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught:
            resolve_format(format).write(failing(items, error), tmp_path)
        assert caught.value is error
        assert list(tmp_path.iterdir()) == []


def test_an_item_that_nothing_can_write_is_named(tmp_path: Path) -> None:
    """By its number and type; no half result stays."""
    with pytest.raises(FormatError, match=r"item 3 of a result, a builtins.function, cannot be written"):
        AUTO.write(generator([1, 2, lambda: 3]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    """Items before it come; the error names the file and the record; nothing comes after it."""
    (tmp_path / "data.jsonl").write_bytes(b"1\n{\n3\n")
    found = read_result(tmp_path)
    assert next(found) == 1
    with pytest.raises(FormatError, match=r"data\.jsonl, record 2: "):
        next(found)
    assert list(found) == []
    (tmp_path / "data.jsonl").unlink()
    AUTO.write(generator([1, Opaque(2)]), tmp_path)
    content = (tmp_path / "data.pickles").read_bytes()
    (tmp_path / "data.pickles").write_bytes(content[:-3])
    found = read_result(tmp_path, trust_pickle=True)
    assert next(found) == 1
    with pytest.raises(FormatError, match=r"data\.pickles, record 2: "):
        next(found)


def test_files_are_closed(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """At the end, on request, and when nobody holds the iterator any more; packed ones, too."""
    gc.collect()  # what earlier tests left open is theirs, and may be closed in the middle of this one
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for format in ("jsonl", {"type": "jsonl", "compress": "gz"}):
        file = resolve_format(format).write(generator([1, 2]), tmp_path)
        held = read_result(tmp_path)
        next(held)
        held.close()
        assert list(held) == []
        list(read_result(tmp_path))
        next(read_result(tmp_path))
        read_result(tmp_path)
        (tmp_path / file).unlink()
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208
    assert [str(each.message) for each in recwarn] == []


def test_a_stream_is_a_result_again(tmp_path: Path) -> None:
    """A step may hand on what it was given."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    AUTO.write(generator([1, (2,)]), tmp_path / "first")
    AUTO.write(read_result(tmp_path / "first"), tmp_path / "second")
    assert list(read_result(tmp_path / "second")) == [1, (2,)]


def test_an_open_file_is_no_stream(tmp_path: Path) -> None:
    """Its lines are not its value."""
    path = tmp_path / "file"
    path.write_text("a\nb\n")
    (tmp_path / "result").mkdir()
    with path.open() as file, pytest.raises(FormatError, match="cannot be written as pickle"):
        AUTO.write(file, tmp_path / "result")
    assert not JsonLinesFormat().accepts(json)
