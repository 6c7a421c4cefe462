"""Trees as archives: what is sent, what comes back, and what is refused."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from dispatch._docker.archive import ArchiveError, CutError, Item, pack, unpack, with_parents


def _tree(root: Path) -> Path:
    """Files of many sizes, links, an empty directory, closed ones, and a name that is no text."""
    (root / "deep" / "er").mkdir(parents=True)
    (root / "empty").mkdir()
    for size in (0, 1, 511, 512, 513, 3_000_001):
        (root / f"{size}.bin").write_bytes(os.urandom(size))
    (root / "deep" / "run.sh").write_text("#!/bin/sh\n")
    (root / "deep" / "run.sh").chmod(0o755)
    (root / "deep" / "er" / ("long" * 60)).write_text("a long name")
    (root / "deep" / "secret").write_text("closed")
    (root / "deep" / "secret").chmod(0o400)
    (root / "link").symlink_to("deep/run.sh")
    (root / "dangling").symlink_to("/no/such/place")
    os.mkfifo(root / "pipe")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe")).write_text("no text")
    os.utime(root / "1.bin", (1_000_000_000.5, 1_000_000_000.5))
    (root / "deep" / "er").chmod(0o555)
    os.utime(root / "deep", (999_999_999, 999_999_999))
    return root


def _facts(root: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        facts = path.lstat()
        content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        mtime = 0.0 if path.is_symlink() else int(facts.st_mtime)
        found[str(path.relative_to(root))] = (facts.st_mode, mtime, content)
    return found


def test_there_and_back(tmp_path: Path) -> None:
    """A tree comes back as it was sent: contents, modes, times, links, and every name."""
    tree = _tree(tmp_path / "tree")
    unpack(io.BytesIO(b"".join(pack([Item("top", tree)], 0, 0))), tmp_path / "back")
    assert _facts(tmp_path / "back") == _facts(tree)
    assert {path.lstat().st_uid for path in (tmp_path / "back").rglob("*")} == {os.geteuid()}


def test_what_is_sent_belongs_to_the_job(tmp_path: Path) -> None:
    """Over there everything has the given owner, and what is to be written may be written by them."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("x")
    (tmp_path / "tree" / "file").chmod(0o444)
    items = [
        Item("dispatch/a/b", tmp_path / "tree", writable=True),
        Item("etc/passwd", content=b"me", mode=0o644),
    ]
    archive = tarfile.open(fileobj=io.BytesIO(b"".join(pack(with_parents(items, "dispatch"), 7, 8))))  # noqa: SIM115
    infos = archive.getmembers()
    assert [info.name for info in infos] == [
        "dispatch",
        "dispatch/a",
        "dispatch/a/b",
        "dispatch/a/b/file",
        "etc/passwd",
    ]
    assert {(info.uid, info.gid, info.uname) for info in infos} == {(7, 8, "")}
    assert [info.mode for info in infos[3:]] == [0o644, 0o644]


def test_file_that_shrinks(tmp_path: Path) -> None:
    """A file that gets shorter while it is sent is an error, not an archive that lies."""
    path = tmp_path / "file"
    path.write_bytes(bytes(5_000_000))
    stream = pack([Item("file", path)], 0, 0)
    next(stream), next(stream)
    os.truncate(path, 1_100_000)
    with pytest.raises(ArchiveError, match="shrank"):
        b"".join(stream)


def test_cut_anywhere(tmp_path: Path) -> None:
    """Wherever an archive breaks off before its end, it is never taken for a whole one."""
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "zeros").write_bytes(bytes(2048))
    (tree / "sub" / "text").write_bytes(b"x" * 700)
    (tree / "link").symlink_to("zeros")
    whole = b"".join(pack([Item("top", tree)], 0, 0))
    ends = range(0, len(whole) - 1023, 512)
    for end in ends:
        with pytest.raises(CutError):
            unpack(io.BytesIO(whole[:end]), tmp_path / f"cut{end}")
    unpack(io.BytesIO(whole), tmp_path / "whole")
    assert _facts(tmp_path / "whole") == _facts(tree)


def test_rubbish_in_the_middle(tmp_path: Path) -> None:
    """A header that is damaged is not taken for the end."""
    (tmp_path / "tree").mkdir()
    for name in "abc":
        (tmp_path / "tree" / name).write_text(name)
    whole = bytearray(b"".join(pack([Item("top", tmp_path / "tree")], 0, 0)))
    place = whole.index(b"top/b")
    whole[place] = 0x7F
    with pytest.raises(CutError):
        unpack(io.BytesIO(bytes(whole)), tmp_path / "back")


def _archive(*entries: tuple[str, bytes, str, bytes]) -> io.BytesIO:
    """An archive of (name, type, link target, content)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind, target, content in entries:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size, info.mode = kind, target, len(content), 0o6755
            archive.addfile(info, io.BytesIO(content))
    return io.BytesIO(buffer.getvalue())


TOP = ("top", tarfile.DIRTYPE, "", b"")


@pytest.mark.parametrize(
    "entries",
    [
        [TOP, ("/top/file", tarfile.REGTYPE, "", b"x")],
        [TOP, ("top/../../file", tarfile.REGTYPE, "", b"x")],
        [TOP, ("../top/file", tarfile.REGTYPE, "", b"x")],
        [TOP, ("top/link", tarfile.SYMTYPE, "/OUTSIDE", b""), ("top/link/file", tarfile.REGTYPE, "", b"x")],
        [TOP, ("top/link", tarfile.SYMTYPE, "/OUTSIDE/file", b""), ("top/link", tarfile.REGTYPE, "", b"x")],
        [TOP, ("top/link", tarfile.SYMTYPE, "/OUTSIDE", b""), ("top/link", tarfile.DIRTYPE, "", b"")],
        [TOP, ("top/hard", tarfile.LNKTYPE, "/OUTSIDE/mine", b"")],
        [TOP, ("top/hard", tarfile.LNKTYPE, "top/../../OUTSIDE/mine", b"")],
        [TOP, ("top/l", tarfile.SYMTYPE, "/OUTSIDE", b""), ("top/hard", tarfile.LNKTYPE, "top/l/mine", b"")],
        [TOP, ("top/absent/file", tarfile.REGTYPE, "", b"x")],
        [TOP, ("top/null", tarfile.CHRTYPE, "", b"")],
        [TOP, ("top/disk", tarfile.BLKTYPE, "", b"")],
        [("top", tarfile.REGTYPE, "", b"x")],
        [("top/file", tarfile.REGTYPE, "", b"x")],
    ],
)
def test_hostile_archives(tmp_path: Path, entries: list[tuple[str, bytes, str, bytes]]) -> None:
    """What would lie elsewhere, reach elsewhere or be a device is refused; nothing else is touched."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_text("mine")
    moved = [
        (name, kind, target.replace("/OUTSIDE", str(outside)), content)
        for name, kind, target, content in entries
    ]
    (tmp_path / "in").mkdir()
    with pytest.raises(ArchiveError):
        unpack(_archive(*moved), tmp_path / "in" / "target")
    assert {path.name for path in tmp_path.iterdir()} == {"outside", "in"}
    assert {path.name for path in outside.iterdir()} == {"mine"}
    assert (outside / "mine").lstat().st_nlink == 1


def test_no_set_user_id(tmp_path: Path) -> None:
    """A file of the caller's never runs as the caller by whoever may read it."""
    unpack(_archive(TOP, ("top/su", tarfile.REGTYPE, "", b"x")), tmp_path / "t")
    assert (tmp_path / "t" / "su").stat().st_mode & 0o7777 == 0o755


def test_hard_links(tmp_path: Path) -> None:
    """Two names of one file come back as that."""
    archive = _archive(TOP, ("top/a", tarfile.REGTYPE, "", b"x"), ("top/b", tarfile.LNKTYPE, "top/a", b""))
    unpack(archive, tmp_path / "t")
    assert (tmp_path / "t" / "a").samefile(tmp_path / "t" / "b")
