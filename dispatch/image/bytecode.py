"""The bytecode layer: every package compiled once for a base, by the base's own interpreter.

Owns the cache of compiled packages: one file for each, named by the package's sources, the image ID of
the base and the rules of compiling; a first line of JSON, then the compiled files as the piece of a tar
archive. Refuses to compile on the host: another patch release writes other bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dispatch._docker.containers import Bind
from dispatch._docker.helper import OneShot
from dispatch.errors import ImageError
from dispatch.image.pip import Wheel
from dispatch.image.ports import HelperRunner
from dispatch.image.recipes import BYTECODE
from dispatch.image.spec import canonical_digest
from dispatch.image.tar import CHUNK, END, Entry, TarStream, header, padded, with_parents

_TAG = re.compile(r"[a-z0-9]+-[a-z0-9]+")

_WORKER = Path(__file__).with_name("compile_wheel.py")
_TIMEOUT = 1800.0
_JOB, _SITE, _OUTPUT = "/dispatch/job", "/dispatch/site", "/dispatch/output"


@dataclass(frozen=True)
class Compiler:
    """One helper container for all packages that are missing, on the base they are for.

    ``image`` is the base's image ID, ``interpreter`` its Python, ``sources`` the host's directory that
    holds what will be ``site`` in the image, ``user`` the ``uid:gid`` that owns what the caller may remove;
    ``binds`` are what the interpreter needs beside the image, where it is not part of that.
    """

    runner: HelperRunner
    image: str
    interpreter: str
    sources: Path
    site: str
    user: str
    binds: tuple[Bind, ...] = ()

    def compile(self, wheels: Mapping[str, Sequence[str]], work: Path) -> None:
        """Compile the sources of packages by key, leaving ``KEY.bin`` and ``KEY.json`` in ``work``."""
        job = work / "job"
        job.mkdir()
        (job / _WORKER.name).write_bytes(_WORKER.read_bytes())
        request = {"site": _SITE, "prefix": self.site, "output": _OUTPUT, "wheels": wheels}
        (job / "jobs.json").write_text(json.dumps(request), "ascii")
        shot = OneShot(
            image=self.image,
            command=(self.interpreter, "-I", "-S", "-B", f"{_JOB}/{_WORKER.name}", f"{_JOB}/jobs.json"),
            binds=(
                *self.binds,
                Bind(str(job), _JOB),
                Bind(str(self.sources), _SITE),
                Bind(str(work), _OUTPUT, read_only=False),
            ),
            user=self.user,
            timeout=_TIMEOUT,
        )
        finished = self.runner.run_once(shot)
        if finished.exit_code != 0:
            last = finished.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise ImageError(
                f"bytecode: the helper container ended with {finished.exit_code}"
                f"{': ' + last[0] if last else ''}",
                remedy="see whether the engine can mount this machine's files (`dispatch doctor`)",
            )


@dataclass(frozen=True)
class Piece:
    """The compiled files of one package, as blocks of a tar archive inside the file ``path``."""

    path: Path
    offset: int
    size: int
    directories: tuple[str, ...]


class BytecodeStream:
    """A layer of pieces: first the directories of all, then the packages in the order of their names."""

    def __init__(self, pieces: Sequence[Piece], mtime: int) -> None:
        directories = with_parents(f"{name}/" for piece in pieces for name in piece.directories)
        listing = TarStream(map(Entry.directory, directories), mtime)
        self._head = b"".join(listing.chunks())[: -len(END)]
        self._pieces = pieces
        self.size = len(self._head) + sum(piece.size for piece in pieces) + len(END)

    def chunks(self) -> Iterator[bytes]:
        """Yield the layer."""
        if self._head:
            yield self._head
        for piece in self._pieces:
            with piece.path.open("rb", buffering=0) as file:
                file.seek(piece.offset)
                while chunk := file.read(CHUNK):
                    yield chunk
        yield END


class BytecodeCache:
    """Compiled packages under one directory, for one base and one place of site-packages.

    ``site`` is that place inside the image, as an absolute path. Two processes that compile the same write
    the same file; the later rename wins.
    """

    def __init__(self, root: Path, base: str, site: str) -> None:
        self._root = root
        self._base = base
        self._site = site

    def pieces(self, wheels: Sequence[Wheel], mtime: int, compiler: Compiler, work: Path) -> list[Piece]:
        """Return the pieces of all packages, compiling in ``work`` those that are not in the cache."""
        keys = {wheel.name: self._key(wheel, mtime) for wheel in wheels}
        found = {name: self._find(key) for name, key in keys.items()}
        missing = [wheel for wheel in wheels if found[wheel.name] is None]
        # The longest first, so that no CPU waits at the end.
        missing.sort(key=lambda wheel: -len(wheel.sources))
        if missing:
            self._root.mkdir(parents=True, exist_ok=True)
            compiler.compile({keys[wheel.name]: wheel.sources for wheel in missing}, work)
            for wheel in missing:
                self._keep(keys[wheel.name], wheel, mtime, work)
                found[wheel.name] = self._find(keys[wheel.name])
        pieces = [piece for _, piece in sorted(found.items()) if piece is not None]
        if len(pieces) < len(keys):
            raise ImageError(f"bytecode: a compiled package vanished from the cache {self._root}")
        return pieces

    def _key(self, wheel: Wheel, mtime: int) -> str:
        return canonical_digest(["bytecode", BYTECODE, self._base, self._site, mtime, wheel.digest])

    def _find(self, key: str) -> Piece | None:
        """Return a piece whose bytes are still what was written; a damaged one counts as missing."""
        path = self._root / f"{key}.pyc"
        try:
            with path.open("rb") as file:
                facts = json.loads(file.readline())
                offset = file.tell()
                content = file.read()
            if hashlib.sha256(content).hexdigest() != facts["sha256"]:
                return None
            return Piece(path, offset, len(content), tuple(facts["directories"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _keep(self, key: str, wheel: Wheel, mtime: int, work: Path) -> None:
        """Turn what the helper left for a package into its piece of the cache."""
        blocks = []
        directories = set()
        for path, data in _compiled(key, wheel, work):
            place = f"{self._site[1:]}/{path}"
            directories.add(place.rpartition("/")[0])
            blocks += [header(Entry.file(place, data), mtime), data, bytes(padded(len(data)) - len(data))]
        content = b"".join(blocks)
        facts = {"directories": sorted(directories), "sha256": hashlib.sha256(content).hexdigest()}
        partial = work / f"{key}.piece"
        partial.write_bytes(json.dumps(facts, sort_keys=True).encode("ascii") + b"\n" + content)
        partial.replace(self._root / f"{key}.pyc")


def _compiled(key: str, wheel: Wheel, work: Path) -> Iterator[tuple[str, bytes]]:
    """Yield path (below site-packages) and bytes of a package's compiled files.

    What comes from the container is not trusted with names: they follow from the sources that were asked for.
    """
    try:
        facts: dict[str, Any] = json.loads((work / f"{key}.json").read_text("ascii"))
        data = (work / f"{key}.bin").read_bytes()
        tag, sizes = str(facts["tag"]), [None if size is None else int(size) for size in facts["sizes"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImageError(f"bytecode: the helper container left nothing for {wheel.name}") from error
    if not _TAG.fullmatch(tag) or len(sizes) != len(wheel.sources) or sum(filter(None, sizes)) != len(data):
        raise ImageError(
            f"bytecode: what the helper container left for {wheel.name} does not fit its sources"
        )
    start = 0
    for source, size in zip(wheel.sources, sizes, strict=True):
        if size is not None:
            directory, _, name = source.rpartition("/")
            compiled = f"__pycache__/{name.removesuffix('.py')}.{tag}.pyc"
            yield (f"{directory}/{compiled}" if directory else compiled), data[start : start + size]
            start += size
