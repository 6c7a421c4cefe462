"""The pip layer: what an installer left in a staging prefix, made the same whoever installed it and where.

Owns the virtual environment's place in the image, its layout, its console scripts and the metadata of the
installed packages. Refuses to resolve or download (``lock`` does), and never writes below the staging
prefix: its files may be links into the installer's own cache.

Sources of the formats: "Recording installed projects" (dist-info, RECORD, INSTALLER, REQUESTED,
direct_url.json) and "Entry points" of the Python Packaging User Guide; ``pyvenv.cfg`` of PEP 405.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dispatch.errors import ImageError
from dispatch.image.base import CONDA_PREFIX
from dispatch.image.recipes import PREFIX, PYTHON
from dispatch.image.scripts import entry_point_script, entry_points, with_interpreter
from dispatch.image.staged import StagedFile, StagedLink, scan
from dispatch.image.tar import Entry, with_parents

_TRACES = frozenset({"REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"})
_INSTALLER = b"dispatch\n"


@dataclass(frozen=True)
class Wheel:
    """An installed package: its dist-info directory, and its Python sources to be compiled.

    ``sources`` are paths relative to site-packages, sorted; ``digest`` (SHA-256) covers their names and their
    bytes as they are, not as the package claims them to be.
    """

    name: str
    sources: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class Tree:
    """A normalised environment: the entries of its layer, and its packages sorted by name."""

    entries: tuple[Entry, ...]
    wheels: tuple[Wheel, ...]


def normalise(staging: Path, python: str, interpreter: str) -> Tree:
    """Turn a staging prefix into the tree of ``/opt/venv``.

    ``python`` is the minor version it was installed for, ``interpreter`` the base's own executable.
    Raises ImageError where the result would not be the same everywhere: two packages that bring one file with
    different content, or a link that points to the host.
    """
    site = f"lib/python{python}/site-packages"
    files: dict[str, StagedFile] = {}
    links: list[Entry] = []
    for found in scan(os.fsencode(staging), PREFIX):
        if isinstance(found, StagedLink):
            links.append(_inside(found))
        elif not _is_trace(found.path, site):
            files[found.path] = found
    records = {info: _Record.read(info, site, files) for info in _dist_infos(files, site)}
    _refuse_clashes(records)
    replaced = _scripts(files, records, site)
    for info in records:
        replaced[f"{site}/{info}/INSTALLER"] = _INSTALLER
    for info, record in records.items():
        replaced[f"{site}/{info}/RECORD"] = record.rewritten(site, files, replaced)
    entries = [file.entry(replaced.get(path)) for path, file in files.items()]
    entries += links + _interpreter(python, interpreter)
    known = {entry.path for entry in entries}
    entries += [
        Entry.file(f"{PREFIX[1:]}/{path}", data)
        for path, data in replaced.items()
        if f"{PREFIX[1:]}/{path}" not in known
    ]
    entries += map(Entry.directory, with_parents(entry.path for entry in entries))
    return Tree(tuple(entries), tuple(_wheels(records, site, files)))


def _inside(link: StagedLink) -> Entry:
    """Return a link's entry; one that leads out of the prefix would lead to a place of the host."""
    if link.target.startswith("/"):
        raise ImageError(f"{link.path}: a package brings a link to {link.target}, a place outside itself")
    return link.entry()


def _is_trace(path: str, site: str) -> bool:
    """Tell what says who installed, where or when: dropped, as are compiled files (they have a layer)."""
    if path == ".lock" or "/__pycache__/" in path:
        return True
    directory, _, name = path.rpartition("/")
    return name in _TRACES and directory.startswith(f"{site}/") and directory.endswith(".dist-info")


def _dist_infos(files: Mapping[str, StagedFile], site: str) -> list[str]:
    """Return the names of the dist-info directories in site-packages, sorted."""
    found = set()
    for path in files:
        if path.startswith(f"{site}/") and path.endswith(".dist-info/RECORD"):
            info = path[len(site) + 1 : -len("/RECORD")]
            if "/" not in info:
                found.add(info)
    return sorted(found)


class _Record:
    """The files of one package as its RECORD lists them: path relative to the prefix → (hash, size)."""

    def __init__(self, info: str, rows: dict[str, tuple[str, str]]) -> None:
        self.info = info
        self.rows = rows

    @staticmethod
    def read(info: str, site: str, files: Mapping[str, StagedFile]) -> _Record:
        """Read a RECORD; rows of files that are not there (traces, compiled files) are dropped."""
        text = files[f"{site}/{info}/RECORD"].read().decode("utf-8", "surrogateescape")
        rows: dict[str, tuple[str, str]] = {}
        for row in csv.reader(io.StringIO(text, newline="")):
            if row and (path := os.path.normpath(f"{site}/{row[0]}")) in files:
                rows[path] = (row[1], row[2]) if len(row) > 2 else ("", "")
        return _Record(info, rows)

    def rewritten(self, site: str, files: Mapping[str, StagedFile], replaced: Mapping[str, bytes]) -> bytes:
        """Return RECORD sorted, with true hashes for what we replaced and for what had none."""
        own = f"{site}/{self.info}/RECORD"
        listed = self.rows.keys() | {f"{site}/{self.info}/INSTALLER"}
        rows = []
        for path in listed:
            digest, size = self.rows.get(path, ("", ""))
            if path == own:
                digest, size = "", ""
            elif path in replaced or not digest:
                data = replaced[path] if path in replaced else files[path].read()
                digest, size = _record_hash(data), str(len(data))
            rows.append((os.path.relpath(path, site), digest, size))
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(sorted(rows))
        return text.getvalue().encode("utf-8", "surrogateescape")


def _record_hash(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
    return f"sha256={digest.decode('ascii')}"


def _refuse_clashes(records: Mapping[str, _Record]) -> None:
    """Refuse two packages with one file of different content: installers race, and either could win."""
    owners: dict[str, str] = {}
    for info in sorted(records):
        for path, (digest, _) in records[info].rows.items():
            other = owners.setdefault(path, info)
            if other != info and records[other].rows[path][0] != digest:
                first, second = other.removesuffix(".dist-info"), info.removesuffix(".dist-info")
                raise ImageError(
                    f"packages {first} and {second} both bring {path} with different content",
                    remedy="keep one of the two: which of them wins is a matter of chance",
                )


def _scripts(files: Mapping[str, StagedFile], records: Mapping[str, _Record], site: str) -> dict[str, bytes]:
    """Return the new content of everything in ``bin`` that names an interpreter.

    Entry points get a text of ours, so that the layer does not depend on the installer's version; a
    script that a package brought as a file keeps all but its first line.
    """
    replaced: dict[str, bytes] = {}
    for path, file in files.items():
        if path.startswith("bin/") and "/" not in path[4:]:
            text = file.read()
            if (changed := with_interpreter(text, PYTHON)) != text:
                replaced[path] = changed
    for info in sorted(records):
        listing = files.get(f"{site}/{info}/entry_points.txt")
        for name, target in entry_points(listing.read()).items() if listing else ():
            path = f"bin/{name}"
            if path in files and (script := entry_point_script(target, PYTHON)):
                replaced[path] = script
    return replaced


def _interpreter(python: str, interpreter: str) -> list[Entry]:
    """Return the links and the file that make the prefix a virtual environment of the base's interpreter.

    That of a conda environment brings packages that the lock counted on; those of any other base, it did not.
    """
    home = interpreter.rpartition("/")[0] or "/"
    inherited = "true" if interpreter.startswith(f"{CONDA_PREFIX}/") else "false"
    text = f"home = {home}\ninclude-system-site-packages = {inherited}\nversion = {python}\n"
    root = PREFIX[1:]
    return [
        Entry.file(f"{root}/pyvenv.cfg", text.encode()),
        Entry.symlink(f"{root}/bin/python", interpreter),
        Entry.symlink(f"{root}/bin/python3", "python"),
        Entry.symlink(f"{root}/bin/python{python}", "python"),
    ]


def _wheels(records: Mapping[str, _Record], site: str, files: Mapping[str, StagedFile]) -> Iterator[Wheel]:
    """Yield the packages with their sources to be compiled; tests are rarely imported and half of the time.

    A source that several packages bring (the ``__init__.py`` of a name they share) is compiled with the
    first: a layer has each path once.
    """
    start = len(site) + 1
    taken: set[str] = set()
    for info, record in sorted(records.items()):
        sources = sorted(
            path[start:]
            for path in record.rows.keys() - taken
            if path.startswith(f"{site}/") and path.endswith(".py") and "tests" not in path.split("/")
        )
        taken.update(record.rows)
        yield Wheel(info, tuple(sources), sources_digest(files, f"{site}/", sources))


def sources_digest(files: Mapping[str, StagedFile], start: str, sources: Sequence[str]) -> str:
    """Return the SHA-256 over the names and the bytes of sources below ``start``."""
    digest = hashlib.sha256()
    for source in sources:
        content = hashlib.sha256(files[f"{start}{source}"].read()).hexdigest()
        digest.update(f"{content} {source}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
