"""A conda channel in a directory, with packages made on the spot.

Owns just enough of the formats of packages and of ``repodata.json`` for a solver to resolve and install from.
What it holds is true: digests, sizes, placeholders of the prefix, links and entry points are what installers
expect. Sources: conda's "package specification" (``.conda``: a zip of two zstd tars; ``info/paths.json``,
``info/link.json``) and RFC 8878 (zstd frames, whose raw blocks need no compressor).
"""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SUBDIRS = ("noarch", "linux-64", "linux-aarch64", "osx-arm64")
PLACEHOLDER = "/placeholder_" * 19
_BLOCK = 1 << 17
_MAGIC = 0xFD2FB528
# One segment, with the content's size in four bytes.
_DESCRIPTOR = 0b10100000
_TIME = 1700000000


@dataclass(frozen=True)
class Package:
    """A package: the paths below the prefix with their text or bytes; ``{prefix}`` stands for the prefix.

    ``subdir`` is the platform it is for; in ``noarch`` it is a Python package where it has ``entry_points``
    (``name = module:function``) or a path below ``site-packages``, else a generic one. ``links`` are symbolic
    links and ``hardlinks`` hard ones, by path; their targets are as a tar archive has them. A ``placeholder``
    is what the files hold for the prefix, if it is another than ours. An ``old`` one is a ``.tar.bz2``.
    """

    name: str
    version: str = "1.0"
    depends: tuple[str, ...] = ()
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    build: str = "0"
    build_number: int = 0
    subdir: str = "noarch"
    constrains: tuple[str, ...] = ()
    entry_points: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    hardlinks: Mapping[str, str] = field(default_factory=dict)
    placeholder: str = PLACEHOLDER
    old: bool = False

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.name}-{self.version}-{self.build}{'.tar.bz2' if self.old else '.conda'}"

    @property
    def noarch(self) -> str:
        """``"python"``, ``"generic"``, or ``""`` for a package of one platform."""
        if self.subdir != "noarch":
            return ""
        python = self.entry_points or any(path.startswith("site-packages/") for path in self.files)
        return "python" if python else "generic"

    def index(self) -> dict[str, object]:
        """What a channel's index says of it, without its digests."""
        index: dict[str, object] = {
            "name": self.name,
            "version": self.version,
            "build": self.build,
            "build_number": self.build_number,
            "depends": list(self.depends),
            "constrains": list(self.constrains),
            "subdir": self.subdir,
            "timestamp": _TIME * 1000,
        }
        if self.noarch:
            index["noarch"] = self.noarch
        else:
            system, _, machine = self.subdir.partition("-")
            index |= {"platform": system, "arch": {"64": "x86_64"}.get(machine, machine)}
        return index

    def archive(self) -> bytes:
        """The package's file."""
        content = {path: self._bytes(data) for path, data in sorted(self.files.items())}
        info = {
            "info/index.json": json.dumps(self.index()).encode(),
            "info/paths.json": json.dumps({"paths": self._paths(content), "paths_version": 1}).encode(),
        }
        if self.noarch == "python":
            python = {"type": "python", "entry_points": list(self.entry_points)}
            info["info/link.json"] = json.dumps({"noarch": python, "package_metadata_version": 1}).encode()
        if self.old:
            return bz2.compress(_tar({**content, **info}, self.links, self.hardlinks))
        stem = self.file.removesuffix(".conda")
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, data in (
                ("metadata.json", b'{"conda_pkg_format_version": 2}'),
                (f"pkg-{stem}.tar.zst", _zstd(_tar(content, self.links, self.hardlinks))),
                (f"info-{stem}.tar.zst", _zstd(_tar(info))),
            ):
                archive.writestr(zipfile.ZipInfo(name), data)
        return buffer.getvalue()

    def _bytes(self, data: str | bytes) -> bytes:
        if isinstance(data, bytes):
            return data.replace(b"{prefix}", self.placeholder.encode())
        return data.replace("{prefix}", self.placeholder).encode()

    def _paths(self, content: Mapping[str, bytes]) -> list[dict[str, object]]:
        """What ``info/paths.json`` says of every file and link."""
        paths: list[dict[str, object]] = []
        hard = {path: content[target] for path, target in self.hardlinks.items()}
        for path, data in sorted({**content, **hard}.items()):
            entry: dict[str, object] = {"_path": path, "path_type": "hardlink", "size_in_bytes": len(data)}
            entry["sha256"] = hashlib.sha256(data).hexdigest()
            if self.placeholder.encode() in data:
                mode = "binary" if b"\0" in data else "text"
                entry.update(prefix_placeholder=self.placeholder, file_mode=mode)
            paths.append(entry)
        nothing = {"size_in_bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}
        paths += [{"_path": path, "path_type": "softlink", **nothing} for path in sorted(self.links)]
        return paths


def write_channel(directory: Path, packages: Iterable[Package]) -> Path:
    """Write a channel, or add to one, and return its directory."""
    records: dict[str, dict[str, object]] = {subdir: {} for subdir in SUBDIRS}
    for subdir, found in records.items():
        index = directory / subdir / "repodata.json"
        index.parent.mkdir(parents=True, exist_ok=True)
        if index.exists():
            found |= read_index(directory, subdir)
    for package in packages:
        data = package.archive()
        (directory / package.subdir / package.file).write_bytes(data)
        digests = {"sha256": hashlib.sha256(data).hexdigest(), "md5": hashlib.md5(data).hexdigest()}
        records[package.subdir][package.file] = {**package.index(), **digests, "size": len(data)}
    for subdir, found in records.items():
        old = {file: record for file, record in found.items() if file.endswith(".tar.bz2")}
        new = {file: record for file, record in found.items() if file not in old}
        told = {"info": {"subdir": subdir}, "packages": old, "packages.conda": new, "repodata_version": 1}
        (directory / subdir / "repodata.json").write_text(json.dumps(told), "utf-8")
    return directory


def read_index(channel: Path, subdir: str) -> dict[str, dict[str, Any]]:
    """Return what a channel says of the packages of a platform, by the names of their files."""
    told = json.loads((channel / subdir / "repodata.json").read_text("utf-8"))
    return {**told["packages"], **told["packages.conda"]}


def _tar(
    content: Mapping[str, bytes],
    links: Mapping[str, str] | None = None,
    hardlinks: Mapping[str, str] | None = None,
) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, data in content.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mtime = len(data), _TIME
            runs = path.startswith("bin/") or path.rpartition("/")[2].startswith("lib")
            entry.mode = 0o755 if runs else 0o644
            archive.addfile(entry, io.BytesIO(data))
        for kind, found in ((tarfile.SYMTYPE, links or {}), (tarfile.LNKTYPE, hardlinks or {})):
            for path, target in sorted(found.items()):
                entry = tarfile.TarInfo(path)
                entry.type, entry.linkname, entry.mtime, entry.mode = kind, target, _TIME, 0o755
                archive.addfile(entry)
    return buffer.getvalue()


def _zstd(data: bytes) -> bytes:
    blocks = [data[start : start + _BLOCK] for start in range(0, len(data), _BLOCK)] or [b""]
    frame = [struct.pack("<IBI", _MAGIC, _DESCRIPTOR, len(data))]
    for number, block in enumerate(blocks, 1):
        frame += [(len(block) << 3 | (number == len(blocks))).to_bytes(3, "little"), block]
    return b"".join(frame)
