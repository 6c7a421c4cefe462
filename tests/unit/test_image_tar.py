"""Layers as bytes: the tar format, and nothing of the host in it."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from dispatch.errors import ImageError
from dispatch.image.tar import Entry, FileStream, Kind, TarStream, header, with_parents

EPOCH = 315532800


def packed(*entries: Entry) -> bytes:
    """The archive of some entries."""
    stream = TarStream(entries, EPOCH)
    data = b"".join(stream.chunks())
    assert len(data) == stream.size
    return data


LONG = "a" * 90 + "/" + "b" * 90
LONGER = "c" * 120
DEEP = "/".join(["d" * 60] * 6)


@pytest.mark.parametrize(
    ("entry", "pax"),
    [
        (Entry.file("etc/motd", b"hello"), False),
        (Entry.file("bin/tool", b"#!/bin/sh\n", 0o755), False),
        (Entry.file("empty", b""), False),
        (Entry.file("block", b"x" * 512), False),
        (Entry.directory("opt/venv"), False),
        (Entry.symlink("bin/python", "/usr/bin/python3.11"), False),
        (Entry("bin/again", Kind.HARDLINK, 0o755, target="bin/tool"), False),
        (Entry.file(LONG, b"fits ustar's prefix"), False),
        (Entry.file(LONGER, b"does not"), True),
        (Entry.file(DEEP, b"nor does this"), True),
        (Entry.directory(LONGER), True),
        (Entry.file("naïve/ü", b"not ASCII"), True),
        (Entry.symlink("link", "é" * 80), True),
        (Entry.symlink("far", "x" * 150), True),
    ],
)
def test_entries_read_back(entry: Entry, pax: bool) -> None:
    """Every kind of entry is read back by another reader, with a PAX header only where it is needed."""
    data = packed(entry)
    assert (b"PaxHeaders" in data) is pax
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        (member,) = archive.getmembers()
        assert (member.name, member.mode, member.linkname) == (entry.path, entry.mode, entry.target)
        assert (member.uid, member.gid, member.uname, member.gname, member.mtime) == (0, 0, "", "", EPOCH)
        assert member.type == entry.kind.value
        if entry.kind is Kind.FILE:
            content = archive.extractfile(member)
            assert content is not None and content.read() == entry.data


def test_files_beyond_eight_gibibytes() -> None:
    """A size that ustar cannot hold is in a PAX header."""
    size = 9 << 30
    blocks = header(Entry("big", size=size, source=b"/nowhere"), EPOCH)
    with tarfile.open(fileobj=io.BytesIO(blocks)) as archive:
        member = archive.next()
    assert member is not None and member.size == size


def test_order_is_that_of_the_names(tmp_path: Path) -> None:
    """The order in which entries come does not matter, nor do time and mode of the files they are from."""
    one, two = tmp_path / "one", tmp_path / "two"
    for file in (one, two):
        file.write_bytes(b"same")
    two.chmod(0o600)
    os.utime(two, (1, 1))
    entries = [Entry("b", size=4, source=os.fsencode(one)), Entry.directory("a"), Entry.file("a/x", b"")]
    other = [Entry.file("a/x", b""), Entry("b", size=4, source=os.fsencode(two)), Entry.directory("a")]
    assert packed(*entries) == packed(*other)


def test_large_files_come_in_pieces(tmp_path: Path) -> None:
    """A stream never holds a large file in memory, and no piece is empty."""
    file = tmp_path / "large"
    file.write_bytes(bytes(5 << 20))
    stream = TarStream([Entry("large", size=5 << 20, source=os.fsencode(file))], EPOCH)
    sizes = [len(chunk) for chunk in stream.chunks()]
    assert min(sizes) > 0
    assert max(sizes) < 3 << 20
    assert sum(sizes) == stream.size


@pytest.mark.parametrize("size", [3, 5])
def test_a_file_that_changes_is_refused(tmp_path: Path, size: int) -> None:
    """A file that grew or shrank since it was listed breaks the layer instead of corrupting it."""
    file = tmp_path / "file"
    file.write_bytes(b"four")
    with pytest.raises(ImageError, match="changed while"):
        packed(Entry("file", size=size, source=os.fsencode(file)))


def test_a_file_can_be_a_stream(tmp_path: Path) -> None:
    """An archive on disk is passed on as it is."""
    file = tmp_path / "x.tar"
    file.write_bytes(b"x" * 700)
    stream = FileStream(file)
    assert (b"".join(stream.chunks()), stream.size) == (b"x" * 700, 700)


def test_parents() -> None:
    """All directories above a path are listed, however deep."""
    assert with_parents(["a/b/c", "a/d", "e"]) == {"a", "a/b"}
