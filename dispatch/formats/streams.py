"""Iterators as files of records: JSON lines, or pickles one after another.

Owns that neither writing nor reading holds more than one item. What the iterator itself raises is the step's
failure and passes through; what cannot be written is a FormatError that says which item it was.
"""

# ruff: noqa: PTH118, PTH123

from __future__ import annotations

import io
import json
import os

from dispatch.errors import FormatError
from dispatch.formats.base import UnfitError
from dispatch.formats.plain import exact_in_json, parse
from dispatch.formats.reading import open_regular, unreadable
from dispatch.formats.storing import SUFFIXES, CompressibleFormat, discard, ensure_free, kind_of, unfit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Any

_END = object()


def is_stream(value: Any) -> bool:
    """Whether a value is an iterator whose items are the result; an open file is none."""
    return (
        hasattr(type(value), "__next__")
        and hasattr(type(value), "__iter__")
        and not isinstance(value, io.IOBase)
    )


class Stream:
    """An iterator over the records of a file, which is closed at its end. Each goes through them once."""

    def __init__(self, files: tuple[Any, ...], path: str, read: Callable[[Any], Any]) -> None:
        # The first is read from; the others are below it.
        self._files = files
        self._path = path
        self._read = read
        self._number = 0

    def __iter__(self) -> Iterator[Any]:
        """Return the iterator itself."""
        return self

    def __next__(self) -> Any:
        """Return the next item. FormatError names a record that cannot be read."""
        if not self._files:
            raise StopIteration
        try:
            if self._files[0].peek(1):
                self._number += 1
                return self._read(self._files[0])
        except Exception as error:
            self.close()
            raise unreadable(f"{self._path}, record {self._number}", "a stream", error) from error
        self.close()
        raise StopIteration

    def close(self) -> None:
        """Close the file; there are no items after that."""
        files, self._files = self._files, ()
        for file in files:
            file.close()

    def __del__(self) -> None:
        self.close()


class _RecordsFormat(CompressibleFormat["Any"]):
    """What both kinds of streams share."""

    TAKES = "iterators"

    def accepts(self, value: Any) -> bool:
        """Accept iterators. Whether their items fit shows when they come."""
        return is_stream(value)

    def write(self, value: Any, directory: Any, *, own: Any = ()) -> str:  # noqa: ARG002
        """Write the items, one at a time; see ``Format.write``."""
        if not self.accepts(value):
            raise unfit(self, value, f"it takes {self.TAKES} and nothing else: return iter(…), or yield")
        with Records(self, directory) as records:
            for number, item in enumerate(value, 1):
                records.add(item, number)
        return self.file_name

    def dump(self, value: Any, file: IO[bytes]) -> None:
        """Write all items."""
        for number, item in enumerate(value, 1):
            self.add(item, number, file)

    def load(self, file: IO[bytes]) -> Any:
        """Return an iterator that reads as it goes."""
        return Stream((file,), getattr(file, "name", self.FILE), self.take)

    def restore(self, path: str) -> Any:
        """Return an iterator that reads as it goes, and closes the file at its end."""
        file = open_regular(path)
        if path.endswith(tuple(SUFFIXES.values())):
            from dispatch.formats.compression import unpacked

            return Stream((unpacked(file, path), file), path, self.take)
        return Stream((file,), path, self.take)

    def add(self, item: Any, number: int, file: IO[bytes]) -> None:
        """Write one item."""
        raise NotImplementedError

    def take(self, file: Any) -> Any:
        """Read one item."""
        raise NotImplementedError


class JsonLinesFormat(_RecordsFormat):
    """An iterator as lines of JSON, each as ``JsonFormat`` writes it. A list is not one, and is refused."""

    NAME = "jsonl"
    FILE = "data.jsonl"

    def __init__(self, compress: str | None = None) -> None:
        super().__init__(compress)
        self._encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False)

    def add(self, item: Any, number: int, file: IO[bytes]) -> None:
        """Write a line. Raises UnfitError for an item that JSON would change."""
        if not exact_in_json(item):
            from dispatch.formats.tagged import encode
            from dispatch.formats.tags import NotExactError

            try:
                item = encode(item)
            except NotExactError as error:
                raise unfit(self, item, f"item {number}: {error}") from error
        file.write(self._encoder.encode(item).encode("utf-8") + b"\n")

    def take(self, file: Any) -> Any:
        """Parse a line."""
        return parse(file.readline(), self.modules)


class PicklesFormat(_RecordsFormat):
    """An iterator as pickles, one after another, each by ``dump`` of the format that was asked for."""

    FILE = "data.pickles"
    RUNS_CODE = True

    def __init__(
        self,
        compress: str | None = None,
        name: str = "pickle",
        dump_item: Callable[[Any, Any], None] | None = None,
    ) -> None:
        self.NAME = name
        super().__init__(compress)
        if dump_item is None:
            from dispatch.formats.pickles import PickleFormat

            dump_item = PickleFormat().dump
        self._dump_item = dump_item

    def add(self, item: Any, number: int, file: IO[bytes]) -> None:
        """Pickle an item. FormatError if that fails."""
        try:
            self._dump_item(item, file)
        except (FormatError, OSError):
            raise
        except Exception as error:
            raise FormatError(
                f"item {number} of a result, a {kind_of(item)}, cannot be written as {self.NAME}:"
                f" {type(error).__name__}: {error}",
                "yield plain data, or save it yourself in the output directory",
            ) from error

    def take(self, file: Any) -> Any:
        """Unpickle the next item, whatever code that runs."""
        import pickle

        return pickle.load(file)


class Records:
    """A file of records that is being written; if that ends by an exception, the file goes away."""

    def __init__(self, format: _RecordsFormat, directory: Any) -> None:
        self._format = format
        self.path = os.path.join(directory, format.file_name)
        ensure_free(directory, format.file_name)

    def __enter__(self) -> Records:
        self._format.ensure_available()
        try:
            raw = open(self.path, "xb")
        except OSError as error:
            raise FormatError(f"{self.path}: cannot be written: {error.strerror}") from error
        self._files: tuple[Any, ...] = (raw,)
        if self.path.endswith(tuple(SUFFIXES.values())):
            from dispatch.formats.compression import packed

            self._files = (packed(raw, self.path), raw)
        return self

    def add(self, item: Any, number: int) -> None:
        """Append an item."""
        try:
            self._format.add(item, number, self._files[0])
        except OSError as error:
            raise FormatError(f"{self.path}: cannot be written: {error.strerror}") from error

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            for file in self._files:
                file.close()
        except OSError as fault:
            discard(self.path)
            if error is None:
                raise FormatError(f"{self.path}: cannot be written: {fault.strerror}") from fault
        if error is not None:
            discard(self.path)


def write_stream(value: Any, directory: Any) -> str:
    """Write an iterator's items as JSON lines, or as pickles if there is one that JSON would change.

    The items are asked for once: those that have become lines by then are read back from them.
    """
    lines = JsonLinesFormat()
    first = _END
    with Records(lines, directory) as records:
        number = 0
        for number, item in enumerate(value, 1):
            try:
                records.add(item, number)
            except UnfitError:
                first = item
                break
    if first is _END:
        return lines.file_name
    return _continue_as_pickles(records.path, first, value, directory, number)


def _continue_as_pickles(done: str, item: Any, rest: Any, directory: Any, number: int) -> str:
    aside = os.path.join(directory, ".lines")
    os.rename(done, aside)  # noqa: PTH104
    try:
        pickles = PicklesFormat()
        with Records(pickles, directory) as records:
            for before, earlier in enumerate(_lines(aside), 1):
                records.add(earlier, before)
            records.add(item, number)
            for later, following in enumerate(rest, number + 1):
                records.add(following, later)
        return pickles.file_name
    finally:
        discard(aside)


def _lines(path: str) -> Iterator[Any]:
    # Written a moment ago by this process, which has all their classes.
    with open(path, "rb") as file:
        for line in file:
            yield parse(line)
