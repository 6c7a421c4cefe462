"""What a result directory may hold, and what is written down of it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from dispatch.errors import FormatError, WorkspaceError
from dispatch.workspace.manifest import Content, Manifest, survey


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
