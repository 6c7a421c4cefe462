"""The private copy of an exported tree."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from dispatch.engine.copying import copy_tree

OLD = 1_600_000_000_123_456_789


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files of many sizes, links, an empty directory; modes and times of their own."""
    tree = tmp_path / "tree"
    (tree / "sub" / "empty").mkdir(parents=True)
    for size in (0, 1, 4095, 3 * 2**20 + 1):
        (tree / "sub" / f"{size}.bin").write_bytes(os.urandom(size))
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o755)
    (tree / "only-read").write_text("r")
    (tree / "only-read").chmod(0o444)
    (tree / "link").symlink_to("../elsewhere")
    (tree / "to-directory").symlink_to("sub")
    (tree / os.fsdecode(b"\xff odd\n")).write_text("odd")
    for path in (tree / "run.sh", tree / "sub"):
        os.utime(path, ns=(OLD, OLD))
    return tree


def facts(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """Mode with the owner's right to write, time, and content or target, by path."""
    found = {}
    for path in directory.rglob("*"):
        info = path.lstat()
        if path.is_symlink():
            entry = (stat.S_IFLNK, 0, os.fsencode(path.readlink()))
        else:
            content = path.read_bytes() if path.is_file() else b""
            entry = (info.st_mode | stat.S_IWUSR, info.st_mtime_ns, content)
        found[str(path.relative_to(directory))] = entry
    return found


def test_a_copy_is_the_same(tree: Path, tmp_path: Path) -> None:
    """Contents, modes, times and links are kept under any umask, and the owner may write."""
    copy = tmp_path / "copy"
    copy.mkdir()
    before = os.umask(0o077)
    try:
        copy_tree(str(tree), str(copy), None)
    finally:
        os.umask(before)
    assert facts(copy) == facts(tree)
    assert (copy / "only-read").stat().st_mode & stat.S_IWUSR


def test_a_copy_is_private(tree: Path, tmp_path: Path) -> None:
    """What is written into it does not reach the original."""
    copy = tmp_path / "copy"
    copy.mkdir()
    copy_tree(str(tree), str(copy), (os.geteuid(), os.getegid()))
    with (copy / "run.sh").open("a") as file:
        file.write("more\n")
    assert (tree / "run.sh").read_text() == "#!/bin/sh\n"
    assert (copy / "run.sh").stat().st_ino != (tree / "run.sh").stat().st_ino


def test_a_copy_goes_to_another_file_system(tree: Path) -> None:
    """The kernel may refuse to copy between two of them."""
    copy = Path("/dev/shm") / f"dispatch-test-copy-{os.getpid()}"
    copy.mkdir()
    try:
        copy_tree(str(tree), str(copy), None)
        assert {name: entry[2] for name, entry in facts(copy).items()} == {
            name: entry[2] for name, entry in facts(tree).items()
        }
    finally:
        for path in sorted(copy.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        copy.rmdir()
