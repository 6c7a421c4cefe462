"""Directories as tars: equal ones make equal bytes; what others made is laid down inside or not at all."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dispatch._beaker import BeakerDamagedError
from dispatch._beaker.archive import archive_of, inner, unpack
from dispatch.errors import WorkspaceError
from dispatch.workspace.manifest import survey

Maker = Callable[[tarfile.TarFile], None]


def fill(root: Path, order: int = 1) -> None:
    """A directory with one of everything, made in one order or the other."""
    root.mkdir(parents=True)
    (root / "sub").mkdir()
    for number in list(range(5))[::order]:
        (root / f"f{number}").write_bytes(b"x" * number * 300)
    (root / "sub" / "hollow").mkdir()
    (root / "sub" / "run").write_text("#!/bin/sh\n")
    (root / "sub" / "run").chmod(0o700)
    (root / "sub" / "link").symlink_to("../f1")
    (root / ("ü" * 100)).write_text("long and no ASCII")
    (root / os.fsdecode(b"no\xfftext")).write_text("x")


def packed(root: Path) -> bytes:
    """The tar of a directory."""
    archive = archive_of(root, survey(root))
    whole = b"".join(archive.blocks())
    assert len(whole) == archive.size
    return whole


def test_equal_directories_make_equal_bytes(tmp_path: Path) -> None:
    """Whatever the order in which files came, their times, their owner, and who else may read them."""
    first, second = tmp_path / "a", tmp_path / "b"
    fill(first)
    before = os.umask(0o077)
    try:
        fill(second, -1)
    finally:
        os.umask(before)
    for path in (second, *second.rglob("*")):
        os.utime(path, (1e9, 1e9), follow_symlinks=False)
        if os.getuid() == 0:
            os.chown(path, 12345, 54321, follow_symlinks=False)
    assert packed(first) == packed(second)


def test_a_directory_comes_out_as_it_went_in(tmp_path: Path) -> None:
    """Content is told as a survey would, with modes as far as they travel; GNU tar reads it, too."""
    source, target, other = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    fill(source)
    target.mkdir()
    other.mkdir()
    whole = packed(source)
    assert unpack(io.BytesIO(whole), target) == survey(source) == survey(target)
    assert (target / "sub" / "run").stat().st_mode & 0o777 == 0o755
    assert (target / "f1").stat().st_mode & 0o111 == 0
    subprocess.run(["tar", "-x", "-C", str(other)], input=whole, check=True)
    assert survey(other) == survey(source)


@pytest.mark.parametrize("program", [["tar"], ["busybox", "tar"]])
def test_what_a_job_packed_is_read(tmp_path: Path, program: list[str]) -> None:
    """With a dot before each path, with hard links, in whatever order the directory had."""
    if shutil.which(program[0]) is None:
        program = ["tar"]
    source, target = tmp_path / "a", tmp_path / "b"
    fill(source)
    os.link(source / "f4", source / "sub" / "again")
    target.mkdir()
    made = subprocess.run(
        [*program, "-c", "-f", "-", "-C", str(source), "."], check=True, capture_output=True
    )
    assert unpack(io.BytesIO(made.stdout), target) == survey(source) == survey(target)


def test_nothing_at_all_is_packed_too(tmp_path: Path) -> None:
    """An empty directory is a result."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert unpack(io.BytesIO(packed(tmp_path / "a")), tmp_path / "b") == survey(tmp_path / "a")


def add(archive: tarfile.TarFile, name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> None:
    """Put an entry into an archive, whatever it is called."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    data = b"evil" if kind == tarfile.REGTYPE else b""
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def chain(archive: tarfile.TarFile) -> None:
    """Two links that lead out together."""
    add(archive, "sub", tarfile.DIRTYPE)
    add(archive, "sub/up", tarfile.SYMTYPE, "..")
    add(archive, "out", tarfile.SYMTYPE, "sub/up/../../victim")


def through(archive: tarfile.TarFile) -> None:
    """A file below a link."""
    add(archive, "link", tarfile.SYMTYPE, "/tmp")
    add(archive, "link/evil")


def beneath(archive: tarfile.TarFile) -> None:
    """A file below a file."""
    add(archive, "file")
    add(archive, "file/evil")


def twice(archive: tarfile.TarFile) -> None:
    """A link in the place of a file, and a file in the place of a link."""
    add(archive, "one", tarfile.SYMTYPE, "two")
    add(archive, "one")


EVIL: dict[str, Maker] = {
    "absolute": lambda archive: add(archive, "/evil"),
    "upwards": lambda archive: add(archive, "../evil"),
    "upwards in between": lambda archive: add(archive, "a/../../evil"),
    "root is a file": lambda archive: add(archive, "."),
    "link upwards": lambda archive: add(archive, "link", tarfile.SYMTYPE, "../evil"),
    "link to an absolute path": lambda archive: add(archive, "link", tarfile.SYMTYPE, "/etc/passwd"),
    "hard link upwards": lambda archive: add(archive, "link", tarfile.LNKTYPE, "../victim"),
    "hard link to an absolute path": lambda archive: add(archive, "link", tarfile.LNKTYPE, "/etc/passwd"),
    "hard link to what does not come before": lambda archive: add(archive, "x", tarfile.LNKTYPE, "y"),
    "device": lambda archive: add(archive, "null", tarfile.CHRTYPE),
    "block device": lambda archive: add(archive, "disk", tarfile.BLKTYPE),
    "pipe": lambda archive: add(archive, "pipe", tarfile.FIFOTYPE),
    "links in a chain": chain,
    "through a link": through,
    "beneath a file": beneath,
    "twice": twice,
}


@pytest.mark.parametrize("name", EVIL)
def test_nothing_is_laid_down_outside(tmp_path: Path, name: str) -> None:
    """What would be, or is no file, directory or link, makes the whole archive damaged."""
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "victim").write_text("whole")
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        EVIL[name](archive)
    raw.seek(0)
    with pytest.raises(BeakerDamagedError):
        unpack(raw, target)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["target", "victim"]
    assert (tmp_path / "victim").read_text() == "whole"
    assert (tmp_path / "victim").stat().st_nlink == 1


@pytest.mark.parametrize("keep", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_half_an_archive_is_none(tmp_path: Path, keep: float) -> None:
    """Wherever it is cut, in a header or in a file: what came out is no result."""
    source, target = tmp_path / "a", tmp_path / "b"
    fill(source)
    target.mkdir()
    whole = packed(source)
    try:
        found = unpack(io.BytesIO(whole[: int(len(whole) * keep)]), target)
    except BeakerDamagedError:
        return
    assert found != survey(source)


@pytest.mark.parametrize("garbage", [b"not a tar at all" * 100, b"\xff" * 5000, b"x"])
def test_rubbish_is_no_archive(tmp_path: Path, garbage: bytes) -> None:
    """It is said, in one line."""
    with pytest.raises(BeakerDamagedError, match="archive: "):
        unpack(io.BytesIO(garbage), tmp_path)


def test_a_bit_that_turned_in_a_header_is_seen(tmp_path: Path) -> None:
    """It does not become the end of the archive."""
    source, target = tmp_path / "a", tmp_path / "b"
    fill(source)
    target.mkdir()
    whole = bytearray(packed(source))
    position = whole.index(b"f4")
    whole[position] ^= 1
    with pytest.raises(BeakerDamagedError):
        unpack(io.BytesIO(bytes(whole)), target)


@pytest.mark.parametrize("change", ["shorter", "longer", "gone"])
def test_a_file_that_changes_meanwhile_is_named(tmp_path: Path, change: str) -> None:
    """A tar whose headers lie about what follows is never finished."""
    source = tmp_path / "a"
    fill(source)
    archive = archive_of(source, survey(source))
    if change == "gone":
        (source / "f4").unlink()
    else:
        (source / "f4").write_bytes(b"x" * (10 if change == "shorter" else 5000))
    with pytest.raises(WorkspaceError, match="f4"):
        for _ in archive.blocks():
            pass


@pytest.mark.parametrize(
    ("name", "path"),
    [("a", "a"), ("./a/b", "a/b"), ("a//b/", "a/b"), (".", ""), ("./", ""), ("..a", "..a"), ("-x", "-x")],
)
def test_paths_are_told_in_their_shortest_form(name: str, path: str) -> None:
    """So that each is known by one name."""
    assert inner(name) == path


@pytest.mark.parametrize("name", ["/a", "..", "a/..", "a/../b", "../a", "a\0b"])
def test_paths_that_lead_out_are_refused(name: str) -> None:
    """Whoever listed them."""
    with pytest.raises(BeakerDamagedError, match="leads out"):
        inner(name)
