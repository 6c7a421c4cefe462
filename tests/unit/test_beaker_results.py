"""What is kept of a result, as the archive of an engine brings it."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from dispatch._docker.archive import CutError
from dispatch.beakerd.runner.results import Captured, capture


def entry(
    name: str, content: bytes | None = None, kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tarfile.TarInfo:
    """One header, of a size that fits its content."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = len(content or b"")
    return info


def archive(*entries: tuple[tarfile.TarInfo, bytes | None]) -> io.BytesIO:
    """An archive as an engine makes it of a directory's content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as made:
        made.addfile(entry("./", kind=tarfile.DIRTYPE))
        for info, content in entries:
            made.addfile(info, None if content is None else io.BytesIO(content))
    buffer.seek(0)
    return buffer


def file(name: str, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    """A regular file."""
    return entry(name, content), content


def other(name: str, kind: bytes, link: str = "") -> tuple[tarfile.TarInfo, None]:
    """Anything else."""
    return entry(name, None, kind, link), None


def take(tmp_path: Path, *entries: tuple[tarfile.TarInfo, bytes | None]) -> Captured:
    """Capture them at ``files``."""
    return capture(archive(*entries), tmp_path / "files", lambda: 7)


def tree(tmp_path: Path) -> dict[str, bytes]:
    """All regular files that were laid down, and nothing else."""
    root = tmp_path / "files"
    found = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if not path.is_dir()}
    assert not [path for path in found.values() if path.is_symlink() or not path.is_file()]
    return {name: path.read_bytes() for name, path in found.items()}


def test_files(tmp_path: Path) -> None:
    """Each is laid down, with its size and digest as a row."""
    captured = take(tmp_path, file("./a", b"A"), other("./d", tarfile.DIRTYPE), file("./d/b", b""))
    assert tree(tmp_path) == {"a": b"A", "d/b": b""}
    assert captured.rows == [
        ("a", 1, hashlib.sha256(b"A").digest(), 7),
        ("d/b", 0, hashlib.sha256(b"").digest(), 7),
    ]
    assert captured.notes == []


def test_what_was_there_is_replaced(tmp_path: Path) -> None:
    """A capture that was broken off leaves nothing behind the next one."""
    take(tmp_path, file("./old", b"1"), file("./both", b"1"))
    take(tmp_path, file("./both", b"2"))
    assert tree(tmp_path) == {"both": b"2"}


@pytest.mark.parametrize("name", ["../x", "./../x", "/x", "./d/../../x"])
def test_names_that_lead_out(tmp_path: Path, name: str) -> None:
    """Nothing is laid down outside, and it is said."""
    captured = take(tmp_path, file(name, b"evil"), file("./a", b"A"))
    assert tree(tmp_path) == {"a": b"A"}
    assert [path.name for path in tmp_path.iterdir()] == ["files"]
    assert name in captured.notes[0]


@pytest.mark.parametrize(
    ("link", "kept"),
    [
        ("a", b"A"),
        ("d/../a", b"A"),
        ("second", b"A"),
        ("missing", None),
        ("../../etc/passwd", None),
        ("/etc/passwd", None),
        ("d", None),
        ("link", None),
    ],
)
def test_links(tmp_path: Path, link: str, kept: bytes | None) -> None:
    """A link to a file of the result becomes a copy, whatever it passes; any other is left out, and said."""
    captured = take(
        tmp_path,
        other("./link", tarfile.SYMTYPE, link),
        other("./second", tarfile.SYMTYPE, "a"),
        other("./d", tarfile.DIRTYPE),
        file("./a", b"A"),
    )
    assert tree(tmp_path).get("link") == kept
    assert ("link" in {row[0] for row in captured.rows}) is (kept is not None)
    assert bool(captured.notes) is (kept is None)


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    """A file behind a link to a directory elsewhere stays below the result."""
    outside = tmp_path / "outside"
    outside.mkdir()
    take(tmp_path, other("./d", tarfile.SYMTYPE, str(outside)), file("./d/x", b"evil"))
    assert list(outside.iterdir()) == []


def test_hard_links(tmp_path: Path) -> None:
    """The second name of a file is a file, too."""
    captured = take(tmp_path, file("./a", b"A"), other("./b", tarfile.LNKTYPE, "./a"))
    assert tree(tmp_path) == {"a": b"A", "b": b"A"}
    assert [row[:3] for row in captured.rows][1] == ("b", 1, hashlib.sha256(b"A").digest())


def test_no_devices(tmp_path: Path) -> None:
    """Devices and pipes are left out, and said."""
    captured = take(tmp_path, other("./null", tarfile.CHRTYPE), other("./pipe", tarfile.FIFOTYPE))
    assert tree(tmp_path) == {}
    assert "'null', 'pipe'" in captured.notes[0]


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    """It could not be asked for, so it is left out."""
    captured = take(tmp_path, file("./\udcff", b"x"), file("./ä\n", b"y"))
    assert tree(tmp_path) == {"ä\n": b"y"}
    assert captured.notes


@pytest.mark.parametrize("cut", [100, 512, 1024, 2048, 8000, 11776])
def test_half_an_archive(tmp_path: Path, cut: int) -> None:
    """It is never taken for a whole one."""
    whole = archive(file("./a", b"A" * 5000), file("./b", b"B" * 5000)).getvalue()
    with pytest.raises(CutError):
        capture(
            io.BytesIO(whole[:cut].rstrip(b"\0") if cut < 0 else whole[:cut]), tmp_path / "files", lambda: 7
        )


@pytest.mark.parametrize(
    ("content", "metrics"),
    [
        (b'{"loss": 0.5, "n": {"a": 3}}', '{"loss": 0.5, "n": {"a": 3}}'),
        (b"{", None),
        (b"[1]", None),
        (b"\xff", None),
        (b"[" * 100_000, None),
        (b'{"x": "' + b"y" * (1 << 20) + b'"}', None),
    ],
    ids=["good", "cut", "list", "binary", "deep", "huge"],
)
def test_metrics(tmp_path: Path, content: bytes, metrics: str | None) -> None:
    """An object is taken; anything else is said, and no more."""
    captured = take(tmp_path, file("./metrics.json", content))
    assert captured.metrics == metrics
    assert bool(captured.notes) is (metrics is None)


def test_metrics_elsewhere(tmp_path: Path) -> None:
    """Only the one at the top counts."""
    assert take(tmp_path, file("./d/metrics.json", b"{}")).metrics is None


def test_whoever_may_read_it(tmp_path: Path) -> None:
    """What is mounted into other jobs is open to any user of theirs, under any umask of the server's."""
    before = os.umask(0o077)
    try:
        take(tmp_path, other("./d", tarfile.DIRTYPE), file("./d/b", b"B"))
    finally:
        os.umask(before)
    root = tmp_path / "files"
    modes = {path.name: path.stat().st_mode & 0o777 for path in (root, root / "d", root / "d" / "b")}
    assert modes == {"files": 0o755, "d": 0o755, "b": 0o644}
