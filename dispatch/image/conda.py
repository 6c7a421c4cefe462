"""The conda layer: what an installer left in a staging prefix, made the same whoever installed it and where.

Owns the layout of ``/opt/conda`` in the image, its entry points and the records in ``conda-meta``. Refuses to
resolve or download (``lock`` does), packages with scripts that would have to run in the image, and compiled
files that packages bring: those name the time of their sources, which is another in the layer.

Sources of the formats: conda's documentation of ``conda-meta`` records and of link scripts.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dispatch.errors import ImageError
from dispatch.image.base import CONDA_PREFIX
from dispatch.image.pip import Tree, Wheel, sources_digest
from dispatch.image.scripts import entry_point_script
from dispatch.image.staged import StagedFile, StagedLink, scan
from dispatch.image.tar import Entry, Kind, with_parents
from dispatch.lock.model import CondaLock, CondaPackage

_LINK_SCRIPTS = ("post-link", "pre-link")
# What the archive itself says of a package, and of each of its files; another installer's records have more.
_SAID = frozenset(
    {"arch", "build", "build_number", "constrains", "depends", "features", "license", "license_family", "md5"}
    | {"name", "noarch", "platform", "sha256", "size", "subdir", "timestamp", "track_features", "version"}
)
_ROW = frozenset(
    {"_path", "file_mode", "no_link", "path_type", "prefix_placeholder", "sha256", "sha256_in_prefix"}
    | {"size_in_bytes"}
)
_ENTRY_POINT = re.compile(
    rb"^from (?P<module>[\w.]+) import \w+$.*\bsys\.exit\((?P<call>[\w.]+)\(\)\)", re.MULTILINE | re.DOTALL
)
_NOT_COMPILED = frozenset({"test", "tests"})


def library(python: str) -> str:
    """Return the path of the standard library below the prefix for a minor version (``"3.11"``)."""
    return f"lib/python{python}"


def normalise_conda(name: str, staging: Path, lock: CondaLock) -> Tree:
    """Turn a staging prefix into the tree of ``/opt/conda``.

    ``name`` is the environment's, for messages. Raises ImageError where what is there is not the lock, or a
    package has a script to be run when it is linked.
    """
    files: dict[str, StagedFile] = {}
    links: dict[str, StagedLink] = {}
    for found in scan(os.fsencode(staging), CONDA_PREFIX):
        if isinstance(found, StagedLink):
            links[found.path] = found
        elif "/__pycache__/" not in found.path:
            files[found.path] = found
    records = {package.name: _Record.read(package, files) for package in lock.packages}
    _refuse_scripts(name, lock, files)
    owned = {path for record in records.values() for path in record.paths}
    replaced: dict[str, bytes] = {}
    for record in records.values():
        replaced |= _scripts(record, lock, files)
    kept = {path: file for path, file in files.items() if path in owned}
    entries = _entries(kept, replaced) + [link.entry() for path, link in links.items() if path in owned]
    there = kept.keys() | links.keys()
    entries += [record.entry(there, replaced) for record in records.values()]
    entries.append(Entry.file(f"{CONDA_PREFIX[1:]}/conda-meta/history", b""))
    entries += map(Entry.directory, with_parents(entry.path for entry in entries))
    return Tree(tuple(entries), tuple(_wheels(records, lock.python, kept)))


def _entries(files: Mapping[str, StagedFile], replaced: Mapping[str, bytes]) -> list[Entry]:
    """Return the entries of files; those that are one file in their package are one in the layer."""
    entries: list[Entry] = []
    first: dict[tuple[int, int], Entry] = {}
    for path in sorted(files, key=lambda path: path.encode("utf-8", "surrogateescape")):
        file = files[path]
        entry = file.entry(replaced.get(path))
        known = first.setdefault(file.inode, entry)
        if known is not entry and path not in replaced:
            entry = replace(entry, kind=Kind.HARDLINK, size=0, source=None, target=known.path)
        entries.append(entry)
    return entries


class _Record:
    """A package's record in ``conda-meta``: what it is, and the paths that it brought."""

    def __init__(self, package: CondaPackage, document: dict[str, Any]) -> None:
        self.package = package
        self._document = document
        self._rows: list[dict[str, Any]] = document["paths_data"]["paths"]
        self.paths = frozenset(str(row["_path"]) for row in self._rows)

    @staticmethod
    def read(package: CondaPackage, files: Mapping[str, StagedFile]) -> _Record:
        """Read the record of a package of the lock; ImageError if it is of another one."""
        stem = package.file.removesuffix(".conda").removesuffix(".tar.bz2")
        try:
            document = json.loads(files[f"conda-meta/{stem}.json"].read())
            record = _Record(package, document)
            digest = document["sha256"]
        except (KeyError, TypeError, ValueError) as error:
            raise ImageError(f"conda package {package.file}: the installer left no record of it") from error
        if digest != package.sha256:
            raise ImageError(f"conda package {package.file}: another file was installed than was locked")
        return record

    def entry_points(self) -> list[str]:
        """Return the paths of the scripts that the installer wrote."""
        kind = "unix_python_entry_point"
        return sorted(str(row["_path"]) for row in self._rows if row.get("path_type") == kind)

    def entry(self, there: frozenset[str] | set[str], replaced: Mapping[str, bytes]) -> Entry:
        """Return the record's entry: what the archive says, of the files that the layer has.

        Where the archive was had from is left out, but for the shape of an address, which readers want: a
        lock's digest holds no place, so the layer cannot.
        """
        package = self.package
        document = {key: value for key, value in self._document.items() if key in _SAID}
        rows = []
        for path, found in sorted((str(row["_path"]), row) for row in self._rows if row["_path"] in there):
            rows.append({key: value for key, value in found.items() if key in _ROW})
            if (data := replaced.get(path)) is not None:
                rows[-1] |= {"sha256": hashlib.sha256(data).hexdigest(), "size_in_bytes": len(data)}
        document |= {
            "files": [row["_path"] for row in rows],
            "fn": package.file,
            "paths_data": {"paths": rows, "paths_version": 1},
            "url": f"file:///{package.subdir}/{package.file}",
        }
        stem = package.file.removesuffix(".conda").removesuffix(".tar.bz2")
        text = json.dumps(document, indent=2, sort_keys=True) + "\n"
        return Entry.file(f"{CONDA_PREFIX[1:]}/conda-meta/{stem}.json", text.encode("ascii"))


def _refuse_scripts(name: str, lock: CondaLock, files: Mapping[str, StagedFile]) -> None:
    """Refuse packages that would have to run something in the image."""
    found = [
        (package, script)
        for package in lock.packages
        for script in _LINK_SCRIPTS
        if f"bin/.{package.name}-{script}.sh" in files
    ]
    if found:
        package, script = found[0]
        more = f" (and {len(found) - 1} more such packages)" if len(found) > 1 else ""
        raise ImageError(
            f"image {name!r}: conda package {package.name} {package.version} has a {script} script, which"
            f" would have to run inside of the image{more}",
            remedy=f"leave {package.name} out of the environment's file, or make the image by a Dockerfile of"
            " your own (`dockerfile:`) that has conda",
        )


def _scripts(record: _Record, lock: CondaLock, files: Mapping[str, StagedFile]) -> dict[str, bytes]:
    """Return our own text of a package's entry points, so that no installer's version is in the layer."""
    replaced: dict[str, bytes] = {}
    for path in record.entry_points():
        match = _ENTRY_POINT.search(files[path].read()) if path in files else None
        target = f"{match['module'].decode()}:{match['call'].decode()}" if match else ""
        script = entry_point_script(target, f"{CONDA_PREFIX}/bin/python{lock.python}")
        if script is None:
            raise ImageError(f"conda package {record.package.file}: its entry point {path} cannot be read")
        replaced[path] = script
    return replaced


def _wheels(
    records: Mapping[str, _Record], python: str | None, files: Mapping[str, StagedFile]
) -> Iterator[Wheel]:
    """Yield the packages that have sources to be compiled; tests are rarely imported.

    A source that several packages bring is compiled with the first: a layer has each path once.
    """
    start = f"{library(python or '')}/"
    taken: set[str] = set()
    for _, record in sorted(records.items()):
        sources = sorted(
            path[len(start) :]
            for path in (record.paths & files.keys()) - taken
            if path.startswith(start) and path.endswith(".py") and not _NOT_COMPILED & set(path.split("/"))
        )
        taken |= record.paths
        if sources:
            yield Wheel(record.package.file, tuple(sources), sources_digest(files, start, sources))
