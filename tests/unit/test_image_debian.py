"""What is left of a machine in a base's tar: nothing."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from dispatch.image.debian import normalise

EPOCH = 1735689600
CAPABILITY = {"SCHILY.xattr.security.capability": "\x01\x00\x02"}


def make_root(path: Path, names: dict[str, tarfile.TarInfo]) -> Path:
    """Write a tar as mmdebstrap would: names begin with ./, owners have names, times are of today."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, info in names.items():
            info.name = f"./{name}"
            info.uname, info.gname, info.mtime = "root", "root", info.mtime or 1900000000.5
            data = b"Package: x\n" if name == "var/lib/dpkg/status" else b"x"
            info.size = len(data) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return path


def entry(kind: bytes = tarfile.REGTYPE, target: str = "", **fields: object) -> tarfile.TarInfo:
    """One entry of a kind."""
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    for name, value in fields.items():
        setattr(info, name, value)
    return info


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("etc/hostname", False),
        ("etc/resolv.conf", False),
        ("etc/apt/sources.list", False),
        ("etc/apt/apt.conf.d/99mmdebstrap", False),
        ("etc/apt/apt.conf.d/70debconf", True),
        ("etc/dpkg/dpkg.cfg.d/99mmdebstrap", False),
        ("etc/passwd", True),
        ("etc/passwd-", False),
        ("var/log/apt/term.log", False),
        ("var/lib/apt/lists/m.example_dists_InRelease", False),
        ("var/cache/ldconfig/aux-cache", False),
        ("var/lib/dpkg/status-old", False),
        ("var/lib/dpkg/info/bash.list", True),
        ("etc/ld.so.cache", True),
        ("tmp/x", False),
        ("usr/share/doc/bash/copyright", True),
        ("usr/share/doc/bash/changelog.gz", False),
        ("usr/share/man/man1/bash.1.gz", False),
        ("usr/share/locale/de/LC_MESSAGES/bash.mo", False),
        ("usr/share/zoneinfo/UTC", True),
    ],
)
def test_files(tmp_path: Path, name: str, kept: bool) -> None:
    """What the host or the assembly left goes; what the packages brought stays, but for documentation."""
    raw = make_root(tmp_path / "raw.tar", {"": entry(tarfile.DIRTYPE), name: entry()})
    normalise(raw, tmp_path / "root.tar", EPOCH)
    with tarfile.open(tmp_path / "root.tar") as archive:
        assert archive.getnames() == ([name] if kept else [])


def test_entries(tmp_path: Path) -> None:
    """Times are cut to the epoch, owners are numbers, links and capabilities are kept, devices go."""
    raw = make_root(
        tmp_path / "raw.tar",
        {
            "dev": entry(tarfile.DIRTYPE, mode=0o755),
            "dev/null": entry(tarfile.CHRTYPE),
            "usr/bin/ping": entry(mode=0o755, pax_headers=CAPABILITY),
            "usr/bin/pong": entry(tarfile.LNKTYPE, "./usr/bin/ping"),
            "usr/bin/old": entry(mtime=1000, uid=7, gid=42),
            "bin": entry(tarfile.SYMTYPE, "usr/bin"),
            "var/lib/dpkg/status": entry(),
        },
    )
    status = normalise(raw, tmp_path / "root.tar", EPOCH)
    assert status == "Package: x\n"
    with tarfile.open(tmp_path / "root.tar") as archive:
        found = {info.name: info for info in archive}
    assert sorted(found) == [
        "bin",
        "dev",
        "usr/bin/old",
        "usr/bin/ping",
        "usr/bin/pong",
        "var/lib/dpkg/status",
    ]
    assert {name: info.mtime for name, info in found.items() if info.mtime != EPOCH} == {"usr/bin/old": 1000}
    assert {info.uname + info.gname for info in found.values()} == {""}
    assert (found["usr/bin/old"].uid, found["usr/bin/old"].gid) == (7, 42)
    assert found["usr/bin/pong"].linkname == "usr/bin/ping"
    assert found["bin"].linkname == "usr/bin"
    assert found["usr/bin/ping"].pax_headers == found["usr/bin/pong"].pax_headers == CAPABILITY
