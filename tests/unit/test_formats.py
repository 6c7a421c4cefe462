"""Formats: what is written where, that it comes back exactly, and what is refused."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

import pytest

import dispatch
from dispatch.errors import ConfigurationError, FormatError
from dispatch.formats import (
    AUTO,
    DillFormat,
    Format,
    JsonFormat,
    PickleFormat,
    UnfitError,
    read_result,
    resolve_format,
    runs_code,
)


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
        (0.1, "data.json"),
        (-0.0, "data.json"),
        (1e300, "data.json"),
        ("text\r\n\u2028é\0", "data.txt"),
        ("", "data.txt"),
        (b"\0\xff", "data.bin"),
        ([], "data.json"),
        ([1, 1.0, True, None, "é", "\U0001f600", [{}]], "data.json"),
        ({"b": 1, "a": {"z": [1], "y": 2}}, "data.json"),
        ((1, 2), "data.json"),
        (OrderedDict(a=1), "data.pickle"),
        (nested(100), "data.json"),
        (nested(101), "data.pickle"),
        ([range(3)], "data.pickle"),
        (b"x" * (1 << 21), "data.bin"),
        ([b"x" * (1 << 21)], "data.pickle"),
    ],
)
def test_auto_gives_back_exactly_what_was_written(value: Any, file: str, tmp_path: Path) -> None:
    """AUTO picks the safe format that gives the value back with all its types, else pickle."""
    assert AUTO.write(value, tmp_path) == file
    assert [path.name for path in tmp_path.iterdir()] == [file]
    found = AUTO.read(tmp_path, trust_pickle=file == "data.pickle")
    assert repr(found) == repr(value)
    assert pickle.dumps(found) == pickle.dumps(value) or found == value
    assert runs_code(tmp_path) == (file if file == "data.pickle" else None)


@pytest.mark.parametrize(
    ("format", "value", "file"),
    [
        ("json", "text", "data.json"),
        ("json", {"a": 1}, "data.json"),
        ("json", (1, 2), "data.json"),
        ("text", "text", "data.txt"),
        ("bytes", b"x", "data.bin"),
        ("pickle", "text", "data.pickle"),
        ("dill", "text", "data.pickle"),
        ({"type": "json", "compress": "gz"}, [1], "data.json.gz"),
        ({"type": "text", "compress": "bz2"}, "é" * 99999, "data.txt.bz2"),
        ({"type": "bytes", "compress": "lzma"}, b"x" * 99999, "data.bin.xz"),
        ({"type": "pickle", "compress": "gz"}, [1], "data.pickle.gz"),
        ({"type": "dill", "compress": "xz"}, [1], "data.pickle.xz"),
    ],
)
def test_a_format_that_is_asked_for_is_taken(format: Any, value: Any, file: str, tmp_path: Path) -> None:
    """By name or as a mapping with options; reading needs only the file."""
    assert resolve_format(format).write(value, tmp_path) == file
    assert read_result(tmp_path, trust_pickle=True) == value
    assert (runs_code(tmp_path) is not None) == file.startswith("data.pickle")


@pytest.mark.parametrize(
    ("format", "value", "fact"),
    [
        (
            "json",
            {"a": [1, {2: object()}]},
            r"as json: at \['a'\]\[1\]\[2\]: a value of type builtins.object",
        ),
        ("json", [b"x" * (1 << 21)], r"at \[0\]: 2097152 bytes"),
        ("json", {"a": {(1, nested)}}, "in a set|of type builtins.function"),
        ("text", 3, "type builtins.int cannot be written as text: it takes texts"),
        ("text", "\ud83d", "it takes texts that UTF-8 can hold"),
        ("bytes", "x", "it takes bytes"),
        ("jsonl", [1], r"it takes iterators and nothing else: return iter"),
        ("jsonl", iter([1, nested]), "as jsonl: item 2: a value of type builtins.function"),
        ("files", "x", "it takes the Path of a file or directory that exists"),
        ("files", Path("not there"), "it takes the Path"),
        ("pickle", lambda: 1, "cannot be written as pickle"),
    ],
)
def test_a_format_that_is_asked_for_does_not_yield(
    format: str, value: Any, fact: str, tmp_path: Path
) -> None:
    """What a format would change is an error that says which value and where, and nothing is left behind."""
    with pytest.raises(FormatError, match=fact) as caught:
        resolve_format(format).write(value, tmp_path)
    assert caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_files_are_what_other_tools_expect(tmp_path: Path) -> None:
    """JSON is UTF-8 with the order of the dict; text and bytes are themselves."""
    for name, value in (("json", {"b": "é", "a": 1}), ("text", "é\n"), ("bytes", b"\0")):
        (tmp_path / name).mkdir()
        resolve_format(name).write(value, tmp_path / name)
    assert (tmp_path / "json/data.json").read_bytes() == '{"b": "é", "a": 1}\n'.encode()
    assert (tmp_path / "text/data.txt").read_bytes() == "é\n".encode()
    assert (tmp_path / "bytes/data.bin").read_bytes() == b"\0"
    resolve_format({"type": "json", "compress": "gz"}).write([1], tmp_path)
    assert gzip.decompress((tmp_path / "data.json.gz").read_bytes()) == b"[1]\n"


@pytest.mark.parametrize("compress", ["gz", "bz2", "lzma"])
def test_equal_results_are_equal_files(compress: str, tmp_path: Path) -> None:
    """No time, name or order of a set gets into a file."""
    files = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        value = [{"b", "a", "c"} if name == "first" else {"c", "a", "b"}] * 99
        file = resolve_format({"type": "json", "compress": compress}).write(value, tmp_path / name)
        files.append((tmp_path / name / file).read_bytes())
    assert files[0] == files[1]


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
    "value",
    [
        lambda: 1,
        io.TextIOWrapper(io.BytesIO()),
        ["x" * 99999, lambda: 1],
        (i for i in [1, nested, lambda: 1]),
    ],
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
    known = [
        "arrow",
        "bytes",
        "dill",
        "files",
        "json",
        "jsonl",
        "numpy",
        "parquet",
        "pickle",
        "safetensors",
        "text",
    ]
    named = [name for name in Format.list_available() if not name.startswith("test-")]
    assert named == ["auto", *known]
    assert [resolve_format(name).NAME for name in known] == known
    assert {resolve_format(name).VERSION for name in ("auto", *known)} == {"001"}
    assert resolve_format(None) is AUTO
    assert type(resolve_format("json")) is JsonFormat
    format = DillFormat()
    assert resolve_format(format) is format
    with pytest.raises(ConfigurationError, match="did you mean 'json'"):
        resolve_format("jsn")
    for wrong in (
        {"type": "json", "compress": "zip"},
        {"type": "numpy", "compress": "gz"},
        {"compress": "gz"},
    ):
        with pytest.raises(ConfigurationError, match="compress"):
            resolve_format(wrong)
    with pytest.raises(ConfigurationError, match="neither a name nor a mapping"):
        resolve_format(3)  # type: ignore[arg-type]


def test_dill_takes_lambdas_and_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dill it writes what pickle cannot; without, it says so before anything is computed."""
    assert DillFormat.REQUIRES == ("dill",)
    DillFormat().ensure_available()
    assert DillFormat().write(lambda: 3, tmp_path) == "data.pickle"
    assert read_result(tmp_path, trust_pickle=True)() == 3
    (tmp_path / "data.pickle").unlink()
    monkeypatch.setitem(sys.modules, "dill", None)
    with pytest.raises(FormatError, match="the package dill ") as caught:
        DillFormat().ensure_available()
    assert "image" in caught.value.remedy
    with pytest.raises(FormatError, match="dill"):
        DillFormat().write(1, tmp_path)
    assert list(tmp_path.iterdir()) == []


@Format.register("test-wav")
class Wav(Format[Any]):
    """A format of a user's own."""

    NAME = "wav"
    FILE = "data.wav"
    RUNS_CODE = False

    def accepts(self, value: Any) -> bool:
        """Accept lists of bytes."""
        return isinstance(value, list)

    def dump(self, value: Any, file: IO[bytes]) -> None:
        """Write them."""
        file.write(bytes(value))

    def load(self, file: IO[bytes]) -> Any:
        """Read them."""
        return list(file.read())


class Album(Format[Any]):
    """A format of a user's own that makes a directory, and needs trust."""

    NAME = "album"
    FILE = "data.album"
    RUNS_CODE = True

    def accepts(self, value: Any) -> bool:
        """Accept dicts."""
        return isinstance(value, dict)

    def save(self, value: Any, path: str) -> None:
        """Make a file for each item."""
        Path(path).mkdir()
        for name, text in value.items():
            if text is None:
                raise ValueError(name)
            Path(path, name).write_text(text)

    def restore(self, path: str) -> Any:
        """Read the files."""
        return {file.name: file.read_text() for file in Path(path).iterdir()}


def test_formats_of_others_are_read_where_they_are_known(tmp_path: Path) -> None:
    """A registered format reads its file back; a file of an unknown name leaves the directory a command's."""
    assert resolve_format("test-wav").write([1, 2], tmp_path) == "data.wav"
    assert read_result(tmp_path) == [1, 2]
    (tmp_path / "data.unknown").touch()
    assert read_result(tmp_path) == [1, 2]
    (tmp_path / "data.wav").unlink()
    assert read_result(tmp_path) == tmp_path
    (tmp_path / "data.wav").touch()
    AUTO.write([3], tmp_path)
    assert read_result(tmp_path) == [3]
    with pytest.raises(UnfitError, match="as wav: the format does not take it"):
        Wav().write(3, tmp_path)


def test_a_format_of_others_may_make_a_directory(tmp_path: Path) -> None:
    """It overrides two methods, and the rest is kept: trust, no half result, no links."""
    with pytest.raises(FormatError, match="cannot be written as album: ValueError: b"):
        Album().write({"a": "1", "b": None}, tmp_path)
    assert list(tmp_path.iterdir()) == []
    Album().write({"a": "1"}, tmp_path)
    assert runs_code(tmp_path) == "data.album"
    with pytest.raises(FormatError, match="loading it would run"):
        read_result(tmp_path)
    assert read_result(tmp_path, trust_pickle=True) == {"a": "1"}
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/data.album").symlink_to(tmp_path / "data.album")
    with pytest.raises(FormatError, match="link"):
        read_result(tmp_path / "linked", trust_pickle=True)


def test_a_start_loads_no_package_and_no_particular_format() -> None:
    """Importing the formats loads three small modules; looking at a value imports no package."""
    code = (
        "import sys, tempfile; from dispatch.formats import AUTO, read_result;"
        "print(sorted(n for n in sys.modules if n.startswith('dispatch.formats.')));"
        "d = tempfile.mkdtemp(); AUTO.write({'a': (1, {2})}, d); read_result(d);"
        "print({'numpy', 'pyarrow', 'torch', 'safetensors', 'dill', 'pickle'} & {*sys.modules})"
    )
    root = Path(dispatch.__file__).parent.parent
    out = subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True)
    loaded, others = out.stdout.splitlines()
    assert loaded == str([f"dispatch.formats.{name}" for name in ("auto", "base", "finding")])
    assert others == "set()"
