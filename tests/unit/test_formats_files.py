"""Paths as results: what the step made is kept under its own name, and nothing else is touched."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from dispatch.errors import FormatError
from dispatch.formats import AUTO, FilesFormat, read_result


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The output directory of a step, with an empty ``result``."""
    (tmp_path / "output/result").mkdir(parents=True)
    return tmp_path / "output"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of temporary files: not the one that all these tests are in."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A directory that is not the step's, with a file and a tree."""
    place = tmp_path / "elsewhere"
    (place / "tree/sub").mkdir(parents=True)
    (place / "tree/sub/a.txt").write_text("a")
    (place / "tree/b.sh").write_text("b")
    (place / "tree/b.sh").chmod(0o755)
    (place / "tree/link").symlink_to("sub/a.txt")
    (place / "model.pt").write_bytes(b"x" * 300_000)
    return place


def test_a_file_keeps_its_name_and_content(output: Path, elsewhere: Path) -> None:
    """What is not the step's own is copied; reading gives the path inside the result."""
    assert FilesFormat().write(elsewhere / "model.pt", output / "result") == "data.files"
    found = read_result(output / "result")
    assert found == output / "result/data.files/model.pt"
    assert found.read_bytes() == b"x" * 300_000
    assert (elsewhere / "model.pt").exists()
    assert found.stat().st_ino != (elsewhere / "model.pt").stat().st_ino


def test_a_directory_is_kept_as_it_is(output: Path, elsewhere: Path) -> None:
    """Modes and inner links, too."""
    (elsewhere / "tree/empty").mkdir()
    FilesFormat().write(elsewhere / "tree", output / "result")
    found = read_result(output / "result")
    assert found.name == "tree"
    assert sorted(str(path.relative_to(found)) for path in found.rglob("*")) == [
        "b.sh",
        "empty",
        "link",
        "sub",
        "sub/a.txt",
    ]
    assert stat.S_IMODE((found / "b.sh").stat().st_mode) == 0o755
    assert os.readlink(found / "link") == "sub/a.txt"  # noqa: PTH115


def test_what_is_the_steps_own_is_moved(output: Path, elsewhere: Path) -> None:
    """Nothing is copied where it need not be; the caller says what it may take away."""
    inode = (elsewhere / "model.pt").stat().st_ino
    assert AUTO.write(elsewhere / "model.pt", output / "result", own=[str(elsewhere)]) == "data.files"
    assert not (elsewhere / "model.pt").exists()
    assert read_result(output / "result").stat().st_ino == inode


def test_auto_keeps_what_lies_in_the_output_directory(output: Path) -> None:
    """Beside the result itself, without being told."""
    (output / "model.pt").write_text("model")
    assert AUTO.write(output / "model.pt", output / "result") == "data.files"
    assert read_result(output / "result").read_text() == "model"
    assert (output / "model.pt").exists()


def test_auto_keeps_temporary_files(output: Path, temporary: Path) -> None:
    """They were made to be kept nowhere else; copied, since they may be anybody's."""
    (temporary / "model.pt").write_text("model")
    assert AUTO.write(temporary / "model.pt", output / "result") == "data.files"
    assert (temporary / "model.pt").exists()


def test_auto_does_not_copy_what_others_have(output: Path, elsewhere: Path) -> None:
    """A path to a data set stays a path, and the step is told; so does a path to nothing."""
    with pytest.warns(UserWarning, match="is the path .*tree' itself, and not what it names"):
        assert AUTO.write(elsewhere / "tree", output / "result") == "data.json"
    assert read_result(output / "result") == elsewhere / "tree"
    (output / "result/data.json").unlink()
    assert AUTO.write(Path("not/there"), output / "result") == "data.json"
    assert read_result(output / "result") == Path("not/there")


def test_a_link_is_followed_and_gives_its_name(output: Path, elsewhere: Path) -> None:
    """``latest`` may lead to the newest checkpoint."""
    (elsewhere / "latest").symlink_to("model.pt")
    FilesFormat().write(elsewhere / "latest", output / "result")
    found = read_result(output / "result")
    assert found.name == "latest"
    assert not found.is_symlink()
    assert found.read_bytes() == b"x" * 300_000


def test_the_result_cannot_hold_itself(output: Path) -> None:
    """Nor the directory around it."""
    for path in (output / "result", output, Path("/")):
        with pytest.raises(FormatError, match="in which the result itself is to be stored"):
            FilesFormat().write(path, output / "result")
    assert list((output / "result").iterdir()) == []


def test_what_is_no_file_is_refused(output: Path, elsewhere: Path) -> None:
    """A pipe in the tree is an error that names it, and no half copy stays."""
    os.mkfifo(elsewhere / "tree/sub/pipe")
    with pytest.raises(FormatError, match=r"sub/pipe: is a socket, pipe or device"):
        FilesFormat().write(elsewhere / "tree", output / "result")
    assert list((output / "result").iterdir()) == []
    with pytest.raises(FormatError, match="it takes the Path of a file or directory"):
        FilesFormat().write(elsewhere / "tree/sub/pipe", output / "result")


def test_a_kept_name_is_not_overwritten(output: Path, elsewhere: Path) -> None:
    """A second result is refused."""
    FilesFormat().write(elsewhere / "model.pt", output / "result")
    for value in (elsewhere / "tree", [1]):
        with pytest.raises(FormatError, match=r"data\.files: is there already"):
            AUTO.write(value, output / "result", own=[str(elsewhere)])
    assert read_result(output / "result").name == "model.pt"


@pytest.mark.parametrize("damage", ["empty", "two", "link", "file", "linked"])
def test_what_is_not_one_entry_is_an_error(damage: str, output: Path, elsewhere: Path) -> None:
    """A result that somebody changed does not lead anywhere else."""
    place = output / "result/data.files"
    if damage == "file":
        place.touch()
    elif damage == "linked":
        place.symlink_to(elsewhere)
    else:
        place.mkdir()
    if damage == "link":
        (place / "x").symlink_to("/etc/passwd")
    if damage == "two":
        (place / "x").touch()
        (place / "y").touch()
    with pytest.raises(FormatError, match=r"data\.files"):
        read_result(output / "result")


def test_a_commands_own_directory_is_not_taken_for_ours(output: Path) -> None:
    """A shell step may well make a directory named files."""
    (output / "result/files").mkdir()
    (output / "result/files/one.txt").touch()
    assert read_result(output / "result") == output / "result"
