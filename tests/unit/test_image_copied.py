"""Files that a declaration copies into an image: what is taken, where it may go, what decides its digest."""

from __future__ import annotations

import io
import os
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dispatch.environment import CopiedFile
from dispatch.errors import ConfigurationError, ImageError
from dispatch.image.copied import copied_files, files_recipes
from dispatch.image.tar import Entry, Kind, TarStream


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with all that is taken, and some that is not."""
    root = tmp_path / "tools"
    (root / "sub" / "__pycache__").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / ".git" / "HEAD").write_text("ref")
    (root / "sub" / "__pycache__" / "x.pyc").write_text("old")
    (root / "sub" / "data.txt").write_text("data")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("sub/data.txt")
    (root / "empty").mkdir()
    return root


def members(*copies: CopiedFile) -> dict[str, tarfile.TarInfo]:
    """The layer as another reader has it."""
    copied = copied_files(copies)
    data = b"".join(copied.layer(copied.recipe()).chunks())
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


def test_a_directory(tree: Path) -> None:
    """What is in a directory comes under its target; git's directory and compiled files do not."""
    found = members(CopiedFile(tree, "/opt/tools"))
    assert set(found) == {
        "opt",
        "opt/tools",
        "opt/tools/empty",
        "opt/tools/link",
        "opt/tools/run.sh",
        "opt/tools/sub",
        "opt/tools/sub/data.txt",
    }
    assert found["opt/tools/link"].linkname == "sub/data.txt"
    assert (found["opt/tools/run.sh"].mode, found["opt/tools/sub/data.txt"].mode) == (0o755, 0o644)
    assert {(each.uid, each.gid, each.mtime) for each in found.values()} == {(0, 0, 315532800)}


def test_a_file(tree: Path) -> None:
    """A file comes as its target, or into it where that ends with a slash."""
    assert "etc/tool.conf" in members(CopiedFile(tree / "sub" / "data.txt", "/etc/tool.conf"))
    assert "etc/data.txt" in members(CopiedFile(tree / "sub" / "data.txt", "/etc/"))


def test_directories_of_a_base(tree: Path) -> None:
    """Directories above a copy that have a mode of their own in every base keep it."""
    found = members(CopiedFile(tree, "/tmp/tools"), CopiedFile(tree, "/root/tools"))
    assert (found["tmp"].mode, found["root"].mode) == (0o1777, 0o700)


def chmod(tree: Path) -> None:
    """Make a file executable."""
    (tree / "sub" / "data.txt").chmod(0o755)


def relink(tree: Path) -> None:
    """Let a link lead elsewhere."""
    (tree / "link").unlink()
    (tree / "link").symlink_to("run.sh")


@pytest.mark.parametrize(
    ("change", "matters"),
    [
        (lambda tree: (tree / "sub" / "data.txt").write_text("other"), True),
        (lambda tree: (tree / "new").touch(), True),
        (chmod, True),
        (relink, True),
        (lambda tree: (tree / "empty").rmdir(), True),
        (lambda tree: os.utime(tree / "sub" / "data.txt", (1, 1)), False),
        (lambda tree: (tree / "sub" / "data.txt").chmod(0o600), False),
        (lambda tree: (tree / "sub" / "__pycache__" / "y.pyc").touch(), False),
        (lambda tree: (tree / ".git" / "HEAD").write_text("other"), False),
    ],
    ids=["content", "a file", "executable", "a link", "a directory", "time", "mode", "compiled", "git"],
)
def test_digest(change: Callable[[Path], object], matters: bool, tree: Path) -> None:
    """The digest follows what the layer holds, and nothing else."""
    copies = [CopiedFile(tree, "/opt/tools")]
    (before,) = files_recipes(copies)
    change(tree)
    (after,) = files_recipes(copies)
    assert (before != after) is matters


def test_nothing_to_copy() -> None:
    """Without copies there is no layer."""
    assert files_recipes(()) == []


def test_changed_meanwhile(tree: Path) -> None:
    """Files that change between planning and building are not put into an image that says otherwise."""
    copies = [CopiedFile(tree, "/opt/tools")]
    (recipe,) = files_recipes(copies)
    (tree / "sub" / "data.txt").write_text("other")
    with pytest.raises(ImageError, match="changed while it was built"):
        copied_files(copies).layer(recipe)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("/lib/x", "/lib may be a link"),
        ("/bin/x", "/bin may be a link"),
        ("/var/run/x", "/var/run may be a link"),
        ("/proc/x", "nothing of an image is seen in /proc"),
        ("/dispatch/x", "nothing of an image is seen in /dispatch"),
        ("/", "not an absolute path below the root"),
        ("x/y", "not an absolute path"),
        ("/opt/../etc", "not an absolute path"),
    ],
)
def test_places(target: str, message: str, tree: Path) -> None:
    """Copies do not go where they would break the image, or where nobody would see them."""
    with pytest.raises(ConfigurationError, match=message):
        copied_files([CopiedFile(tree, target)])


def test_two_in_one_place(tree: Path) -> None:
    """Two copies may share directories, but no file."""
    both = [CopiedFile(tree / "sub", "/opt/x"), CopiedFile(tree / "empty", "/opt/x/more")]
    assert "opt/x/more" in members(*both)
    with pytest.raises(ConfigurationError, match=r"two files go to /opt/x/data\.txt"):
        copied_files([*both, CopiedFile(tree / "run.sh", "/opt/x/data.txt")])


def test_bad_sources(tree: Path) -> None:
    """What is not there, or is no file, is named."""
    with pytest.raises(ConfigurationError, match="missing: it is not there"):
        copied_files([CopiedFile(tree / "missing", "/opt/x")])
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tree / "socket"))
        for source in (tree / "socket", tree):
            with pytest.raises(ConfigurationError, match="socket: it is neither a file"):
                copied_files([CopiedFile(source, "/opt/x")])


def test_capabilities() -> None:
    """A capability goes into the archive as other tools write and read it."""
    value = b"\x01\x00\x00\x02\x00\x20\x00\x00" + bytes(12)
    entry = Entry("usr/bin/ping", Kind.FILE, 0o755, 3, b"abc", capability=value)
    data = b"".join(TarStream([entry], 0).chunks())
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        (member,) = archive.getmembers()
        found = member.pax_headers["SCHILY.xattr.security.capability"]
        assert found.encode("utf-8", "surrogateescape") == value
        file = archive.extractfile(member)
        assert file is not None and file.read() == b"abc"


def test_large_files(tmp_path: Path) -> None:
    """A file above 8 GiB has its size where other readers find it, and is never held in memory."""
    path = tmp_path / "large"
    size = (8 << 30) + 5
    with path.open("wb") as file:
        file.truncate(size)
    stream = copied_files_without_reading(path, size)
    assert stream.size > size
    chunks = stream.chunks()
    start = b"".join(next(chunks) for _ in range(3))
    with tarfile.open(fileobj=io.BytesIO(start)) as archive:
        member = archive.next()
        assert member is not None and (member.name, member.size) == ("data/large", size)


def copied_files_without_reading(path: Path, size: int) -> TarStream:
    """The layer of one file; its digest would take a while."""
    return TarStream([Entry("data/large", size=size, source=os.fsencode(path))], 0)
