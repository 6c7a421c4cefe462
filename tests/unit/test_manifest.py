"""What a result directory may hold, and what is written down of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dispatch.errors import FormatError, WorkspaceError
from dispatch.workspace.manifest import Content, DamagedError, Manifest, survey, verify


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """An empty result directory."""
    (tmp_path / "secret").write_text("outside")
    (tmp_path / "result").mkdir()
    return tmp_path / "result"


def test_everything_is_recorded(result: Path) -> None:
    """Files with size and hash, links with their target, and directories, empty ones too."""
    data = os.urandom(3 << 20)
    (result / "a" / "empty").mkdir(parents=True)
    (result / "a" / "big").write_bytes(data)
    (result / "data.json").write_bytes(b"")
    (result / "link").symlink_to("a/big")
    (result / "a" / "up").symlink_to("../data.json")
    (result / "dangling").symlink_to("nothing")
    content = survey(result)
    assert content.files == {
        "a/big": (3 << 20, hashlib.sha256(data).hexdigest()),
        "data.json": (0, hashlib.sha256(b"").hexdigest()),
    }
    assert content.links == {"link": "a/big", "a/up": "../data.json", "dangling": "nothing"}
    assert content.directories == ("a", "a/empty")


@pytest.mark.parametrize("target", ["../secret", "/etc/passwd", "here/../secret", "../result/../x", ".."])
def test_links_that_lead_out_are_refused(result: Path, target: str) -> None:
    """A link out of the result is refused by name, also where it only gets out through another link."""
    (result / "here").symlink_to(".")
    (result / "out").symlink_to(target)
    with pytest.raises(FormatError, match="'out'") as caught:
        survey(result)
    assert caught.value.remedy


def test_absolute_links_into_the_result_are_refused(result: Path) -> None:
    """An absolute link would break when the result moves, wherever it points."""
    (result / "data").write_text("x")
    (result / "out").symlink_to(result / "data")
    with pytest.raises(FormatError, match="'out'"):
        survey(result)


def test_special_files_are_refused(result: Path) -> None:
    """What is neither file, link nor directory is refused by name."""
    os.mkfifo(result / "pipe")
    with pytest.raises(FormatError, match="'pipe'"):
        survey(result)


def test_round_trip(tmp_path: Path) -> None:
    """A manifest reads back as it was written, names that are not UTF-8 included."""
    content = Content({os.fsdecode(b"\xff\xfe"): (1, "ab")}, {"l": "é"}, ("d",))
    manifest = Manifest("Step-a", 3, {"name": "a"}, {"state": "completed"}, content, {"name": "auto"})
    path = tmp_path / "manifest.json"
    path.write_bytes(manifest.to_bytes())
    assert Manifest.read(path) == manifest


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"manifest": 2}', '{"manifest": 1, "files": 3}'])
def test_what_is_no_manifest(tmp_path: Path, text: str) -> None:
    """A file that is not a manifest we know is an error that names it."""
    path = tmp_path / "manifest.json"
    path.write_text(text)
    with pytest.raises(WorkspaceError, match=r"manifest\.json") as caught:
        Manifest.read(path)
    assert caught.value.remedy


def test_no_manifest(tmp_path: Path) -> None:
    """Where there is no file there is no result."""
    assert Manifest.read(tmp_path / "manifest.json") is None


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """A manifest in which any one byte was changed or cut off is refused, or says what it said before."""
    content = Content({"data.json": (7, "ab" * 32)}, {"link": "data.json"}, ("sub",))
    manifest = Manifest("Step-a", 3, {"name": "a"}, {"state": "completed"}, content, None)
    path, data = tmp_path / "manifest.json", manifest.to_bytes()
    refused = 0
    for place in range(len(data)):
        for changed in (bytes([data[place] ^ 1]) + data[place + 1 :], b""):
            path.write_bytes(data[:place] + changed)
            try:
                assert Manifest.read(path) == manifest
            except WorkspaceError:
                refused += 1
    assert refused > 2 * len(data) - 20


def test_unsealed_manifest(tmp_path: Path) -> None:
    """A manifest of the first versions, which had no seal, is read."""
    manifest = Manifest("Step-a", 3, {}, {}, Content(), None)
    data = json.loads(manifest.to_bytes())
    del data["seal"]
    (tmp_path / "manifest.json").write_text(json.dumps(data, indent=1))
    assert Manifest.read(tmp_path / "manifest.json") == manifest


@pytest.fixture
def committed(result: Path) -> tuple[Path, Manifest]:
    """A result with its manifest."""
    (result / "sub").mkdir()
    (result / "sub" / "part").write_text("part")
    (result / "link").symlink_to("sub/part")
    return result, Manifest("Step-a", 1, {}, {}, survey(result))


def swap(path: Path) -> None:
    """Change bytes, and no size."""
    path.write_text("trap")


def pipe(path: Path) -> None:
    """Put a pipe in the place of a file."""
    path.unlink()
    os.mkfifo(path)


Change = Callable[[Path], object]


@pytest.mark.parametrize(
    ("change", "where", "fact", "shallow"),
    [
        pytest.param(lambda r: swap(r / "sub/part"), "sub/part", "other bytes", False, id="bytes"),
        pytest.param(lambda r: (r / "sub/part").write_text("x"), "sub/part", "1 bytes", True, id="size"),
        pytest.param(lambda r: (r / "sub/part").unlink(), "sub/part", "missing", True, id="file gone"),
        pytest.param(lambda r: shutil.rmtree(r / "sub"), "sub", "missing", True, id="directory gone"),
        pytest.param(lambda r: (r / "link").unlink(), "link", "missing", True, id="link gone"),
        pytest.param(lambda r: (r / "more").touch(), "more", "not part", True, id="more"),
        pytest.param(lambda r: (r / "sub/more").mkdir(), "sub/more", "not part", True, id="more in sub"),
        pytest.param(lambda r: shutil.rmtree(r), "", "missing", True, id="all gone"),
        pytest.param(lambda r: r.rename(r.with_name("x")) and r.touch(), "", "not a d", True, id="a file"),
        pytest.param(
            lambda r: (r / "link").unlink() or (r / "link").touch(), "link", "not a link", True, id="no link"
        ),
        pytest.param(
            lambda r: (r / "link").unlink() or (r / "link").symlink_to("/etc/passwd"),
            "link",
            "'/etc/passwd'",
            True,
            id="link bent",
        ),
        pytest.param(
            lambda r: (r / "sub/part").unlink() or (r / "sub/part").symlink_to("../link"),
            "sub/part",
            "not a regular file",
            True,
            id="link for a file",
        ),
        pytest.param(
            lambda r: pipe(r / "sub/part"),
            "sub/part",
            "not a regular file",
            True,
            id="pipe for a file",
        ),
        pytest.param(
            lambda r: (r / "sub").rename(r.parent / "s") and (r / "sub").symlink_to("../s"),
            "sub",
            "not a directory",
            True,
            id="link for a directory",
        ),
    ],
)
def test_results_are_held_against_their_manifest(
    committed: tuple[Path, Manifest], change: Change, where: str, fact: str, shallow: bool
) -> None:
    """What is not as it was committed is an error with place, fact and remedy; bytes if one looks deep."""
    result, manifest = committed
    verify(result, manifest, deep=True)
    change(result)
    for deep in (True, False) if shallow else (True,):
        with pytest.raises(DamagedError, match=fact) as caught:
            verify(result, manifest, deep=deep)
        assert caught.value.path == str(result / where)
        assert "dispatch repair" in caught.value.remedy
    if not shallow:
        verify(result, manifest, deep=False)
