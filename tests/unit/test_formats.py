"""Formats: what is written where, that it comes back exactly, and what is refused."""

from __future__ import annotations

import enum
import io
import math
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

import pytest

from dispatch.errors import ConfigurationError, FormatError
from dispatch.formats import (
    AUTO,
    BytesFormat,
    DillFormat,
    Format,
    JsonFormat,
    PickleFormat,
    TextFormat,
    read_result,
    resolve_format,
)


class Level(enum.IntEnum):
    """A number that JSON would make plain."""

    ONE = 1


def nested(depth: int) -> Any:
    """Return lists inside each other."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "file"),
    [
        (None, "data.json"),
        (True, "data.json"),
        (0, "data.json"),
        (-(2**2000), "data.json"),
        (2**2048, "data.pickle"),
        (0.1, "data.json"),
        (-0.0, "data.json"),
        (1e300, "data.json"),
        (math.inf, "data.pickle"),
        ("text\r\n\u2028é\0", "data.txt"),
        ("", "data.txt"),
        ("\ud83d", "data.pickle"),
        (b"\0\xff", "data.bin"),
        (bytearray(b"x"), "data.pickle"),
        ([], "data.json"),
        ([1, 1.0, True, None, "é", "\U0001f600", [{}]], "data.json"),
        (["\ud83d\ude00"], "data.pickle"),
        ({"b": 1, "a": {"z": [1], "y": 2}}, "data.json"),
        ({1: "a"}, "data.pickle"),
        ({"\ud83d": 1}, "data.pickle"),
        ((1, 2), "data.pickle"),
        ([(1,)], "data.pickle"),
        ({"a": {1}}, "data.pickle"),
        ([b"x"], "data.pickle"),
        (OrderedDict(a=1), "data.pickle"),
        (Level.ONE, "data.pickle"),
        ([math.nan], "data.pickle"),
        (Path("x"), "data.pickle"),
        (nested(100), "data.json"),
        (nested(101), "data.pickle"),
    ],
)
def test_auto_gives_back_exactly_what_was_written(value: Any, file: str, tmp_path: Path) -> None:
    """AUTO picks the safe format that gives the value back with all its types, else pickle."""
    assert AUTO.write(value, tmp_path) == file
    assert [path.name for path in tmp_path.iterdir()] == [file]
    found = AUTO.read(tmp_path, trust_pickle=file == "data.pickle")
    assert repr(found) == repr(value)
    assert pickle.dumps(found) == pickle.dumps(value) or found == value or math.isnan(found[0])


@pytest.mark.parametrize(
    ("format", "value", "file"),
    [
        (JsonFormat(), "text", "data.json"),
        (JsonFormat(), {"a": 1}, "data.json"),
        (JsonFormat(), (1, 2), "data.pickle"),
        (TextFormat(), "text", "data.txt"),
        (TextFormat(), 3, "data.pickle"),
        (BytesFormat(), b"x", "data.bin"),
        (BytesFormat(), "x", "data.pickle"),
        (PickleFormat(), "text", "data.pickle"),
    ],
)
def test_a_value_that_does_not_fit_its_format_is_not_lost(
    format: Format[Any], value: Any, file: str, tmp_path: Path
) -> None:
    """A format writes what it gives back exactly, and pickle takes what it would change."""
    assert format.write(value, tmp_path) == file
    assert read_result(tmp_path, trust_pickle=True) == value


def test_files_are_what_other_tools_expect(tmp_path: Path) -> None:
    """JSON is UTF-8 with the order of the dict; text and bytes are themselves."""
    for name, value in (("json", {"b": "é", "a": 1}), ("text", "é\n"), ("bytes", b"\0")):
        (tmp_path / name).mkdir()
        resolve_format(name).write(value, tmp_path / name)
    assert (tmp_path / "json/data.json").read_bytes() == '{"b": "é", "a": 1}\n'.encode()
    assert (tmp_path / "text/data.txt").read_bytes() == "é\n".encode()
    assert (tmp_path / "bytes/data.bin").read_bytes() == b"\0"


class Bomb:
    """Would leave a mark if it were unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_a_pickle_is_not_loaded_without_trust(tmp_path: Path) -> None:
    """Without being told to trust it, reading a pickle runs nothing and says what to do."""
    mark = tmp_path / "mark"
    PickleFormat().write(Bomb(mark), tmp_path)
    for format in (AUTO, JsonFormat(), PickleFormat(), DillFormat()):
        with pytest.raises(FormatError, match="loading it would run") as caught:
            format.read(tmp_path)
        assert "trusted_workspaces" in caught.value.remedy
    assert not mark.exists()
    read_result(tmp_path, trust_pickle=True)
    assert mark.exists()


def test_a_directory_without_our_files_is_its_path(tmp_path: Path) -> None:
    """The result of a command, which wrote what it liked, is the directory itself."""
    assert read_result(tmp_path) == tmp_path
    (tmp_path / "picture.png").touch()
    assert read_result(str(tmp_path)) == tmp_path
    for name in ("data.json", "data.txt"):
        (tmp_path / name).touch()
    assert read_result(tmp_path) == tmp_path
    with pytest.raises(FormatError, match="there is no result"):
        read_result(tmp_path / "nothing")


def test_other_files_beside_the_result_do_not_matter(tmp_path: Path) -> None:
    """A step may write files of its own beside what it returns."""
    (tmp_path / "picture.png").touch()
    AUTO.write([1], tmp_path)
    assert AUTO.read(tmp_path) == [1]


def test_links_and_pipes_are_not_read(tmp_path: Path) -> None:
    """A link would lead out of the result and a pipe would wait for ever: neither is opened."""
    (tmp_path / "outside").write_text("secret")
    for name, make in (("link", os.symlink), ("pipe", lambda _, path: os.mkfifo(path))):
        directory = tmp_path / name
        directory.mkdir()
        make(tmp_path / "outside", directory / "data.txt")
        with pytest.raises(FormatError, match=r"data\.txt: "):
            read_result(directory)


@pytest.mark.parametrize(
    ("name", "content"),
    [("data.json", b"{"), ("data.txt", b"\xff"), ("data.pickle", b"x"), ("data.json", b"")],
)
def test_damaged_files_are_format_errors(name: str, content: bytes, tmp_path: Path) -> None:
    """What cannot be read is an error that names the file."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=name.replace(".", r"\.")):
        read_result(tmp_path, trust_pickle=True)


def test_a_pickle_of_a_missing_module_names_the_module(tmp_path: Path) -> None:
    """Where the reading image lacks what the value is made of, the error says which module."""
    (tmp_path / "data.pickle").write_bytes(b"cno_such_module\nThing\n.")
    with pytest.raises(FormatError, match="'no_such_module'"):
        read_result(tmp_path, trust_pickle=True)


@pytest.mark.parametrize(
    "value", [(i for i in [1]), lambda: 1, io.TextIOWrapper(io.BytesIO()), ["x" * 99999, lambda: 1]]
)
def test_what_cannot_be_written_leaves_nothing_behind(value: Any, tmp_path: Path) -> None:
    """A value that cannot be pickled is an error naming its type, and no half file stays."""
    with pytest.raises(FormatError, match="cannot be written as pickle"):
        AUTO.write(value, tmp_path)
    assert list(tmp_path.iterdir()) == []


class Interrupted(Format[Any]):
    """A format that is interrupted in the middle of writing."""

    NAME = "interrupted"
    FILE = "data.bin"

    def accepts(self, value: Any) -> bool:
        """Accept anything."""
        return value is not None

    def dump(self, value: Any, file: IO[bytes]) -> None:
        """Write half."""
        file.write(b"half")
        raise value


@pytest.mark.parametrize(
    ("error", "seen"), [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "full"), FormatError)]
)
def test_no_half_file_survives_an_interruption(
    error: BaseException, seen: type[BaseException], tmp_path: Path
) -> None:
    """Whatever ends the writing, no file is left that could be taken for a result."""
    with pytest.raises(seen):
        Interrupted().write(error, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_a_steps_own_file_is_not_overwritten(tmp_path: Path) -> None:
    """A step that wrote a file under a name of ours is told, whichever of the names it is."""
    (tmp_path / "data.txt").write_text("mine")
    with pytest.raises(FormatError, match=r"data\.txt: is there already"):
        AUTO.write([1], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["data.txt"]


def test_formats_have_names() -> None:
    """A name, a format or nothing at all leads to a format; anything else is an error."""
    assert Format.list_available() == ["auto", "bytes", "dill", "json", "pickle", "text"]
    assert resolve_format(None) is AUTO
    assert type(resolve_format("json")) is JsonFormat
    format = DillFormat()
    assert resolve_format(format) is format
    with pytest.raises(ConfigurationError, match="did you mean 'json'"):
        resolve_format("jsn")
    with pytest.raises(ConfigurationError, match="neither a name nor a Format"):
        resolve_format(3)  # type: ignore[arg-type]


def test_dill_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without dill, its format says so before anything is computed; with it, it writes by it."""
    import sys
    import types

    monkeypatch.setitem(sys.modules, "dill", None)
    with pytest.raises(FormatError, match="dill is not installed") as caught:
        DillFormat().ensure_available()
    assert "image" in caught.value.remedy
    with pytest.raises(FormatError, match="dill is not installed"):
        DillFormat().write(1, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == []
    stand_in = types.ModuleType("dill")
    stand_in.dump = pickle.dump  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dill", stand_in)
    DillFormat().ensure_available()
    assert DillFormat().write({1}, tmp_path) == "data.pickle"
    assert read_result(tmp_path, trust_pickle=True) == {1}
