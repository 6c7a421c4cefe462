"""A conda channel in a directory, with noarch packages made on the spot.

Owns just enough of the ``.conda`` format and of ``repodata.json`` for a solver to resolve and install from.
Sources: conda's "package specification" (``.conda``: a zip of two zstd tars) and RFC 8878 (zstd frames, whose
raw blocks need no compressor).
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_BLOCK = 1 << 17
_MAGIC = 0xFD2FB528
# One segment, with the content's size in four bytes.
_DESCRIPTOR = 0b10100000


@dataclass(frozen=True)
class Package:
    """A noarch package: the paths below the prefix with their text; ``{prefix}`` stands for the prefix."""

    name: str
    version: str = "1.0"
    depends: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.name}-{self.version}-0.conda"

    def index(self) -> dict[str, object]:
        """What a channel's index says of it, without its digests."""
        return {
            "name": self.name,
            "version": self.version,
            "build": "0",
            "build_number": 0,
            "depends": list(self.depends),
            "noarch": "generic",
            "subdir": "noarch",
        }

    def archive(self) -> bytes:
        """The ``.conda`` file."""
        placeholder = "/placeholder_" * 10
        content, paths = {}, []
        for path, text in sorted(self.files.items()):
            data = text.replace("{prefix}", placeholder).encode()
            content[path] = data
            entry: dict[str, object] = {"_path": path, "path_type": "hardlink", "size_in_bytes": len(data)}
            entry["sha256"] = hashlib.sha256(data).hexdigest()
            if "{prefix}" in text:
                entry.update(prefix_placeholder=placeholder, file_mode="text")
            paths.append(entry)
        info = {
            "info/index.json": json.dumps(self.index()).encode(),
            "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}).encode(),
        }
        stem = self.file.removesuffix(".conda")
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("metadata.json", '{"conda_pkg_format_version": 2}')
            archive.writestr(f"pkg-{stem}.tar.zst", _zstd(_tar(content)))
            archive.writestr(f"info-{stem}.tar.zst", _zstd(_tar(info)))
        return buffer.getvalue()


def write_channel(directory: Path, packages: Iterable[Package]) -> Path:
    """Write a channel, and return its directory."""
    records = {}
    noarch = directory / "noarch"
    noarch.mkdir(parents=True)
    for package in packages:
        data = package.archive()
        (noarch / package.file).write_bytes(data)
        digests = {"sha256": hashlib.sha256(data).hexdigest(), "md5": hashlib.md5(data).hexdigest()}
        records[package.file] = {**package.index(), **digests, "size": len(data)}
    for subdir, found in (("noarch", records), ("linux-64", {})):
        (directory / subdir).mkdir(exist_ok=True)
        index = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": found, "repodata_version": 1}
        (directory / subdir / "repodata.json").write_text(json.dumps(index), "utf-8")
    return directory


def _tar(content: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, data in content.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            entry.mode = 0o755 if path.startswith("bin/") else 0o644
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _zstd(data: bytes) -> bytes:
    blocks = [data[start : start + _BLOCK] for start in range(0, len(data), _BLOCK)]
    frame = struct.pack("<IBI", _MAGIC, _DESCRIPTOR, len(data))
    for number, block in enumerate(blocks, 1):
        frame += (len(block) << 3 | (number == len(blocks))).to_bytes(3, "little") + block
    return frame
