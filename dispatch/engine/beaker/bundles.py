"""Bundles: directories and archives that many jobs read, as datasets named after their content.

Owns that each is sent once, whoever needs it: a bundle is found again over all authors of the workspace, but
only one that is committed and holds, by Beaker's own digests, what it should. Bundles are kept. Refuses to
know what is in them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dispatch._beaker import BeakerConflictError, BeakerDoor, BeakerNotFoundError, CreatedDataset, Dataset
from dispatch._beaker.archive import archive_of
from dispatch._beaker.parcels import SUFFIX, travels_packed
from dispatch._beaker.sending import Sender
from dispatch.engine.beaker.names import BUNDLE, VERSION
from dispatch.errors import EngineError
from dispatch.location import BeakerDataset
from dispatch.workspace.manifest import Content, survey

_BLOCK = 1 << 20
_TRIES = 4


class _SpoiledError(EngineError):
    """What is on Beaker is not what was sent."""


@dataclass(frozen=True)
class _Parcel:
    """What a bundle's dataset holds: each file's size and SHA-256, and how it is sent."""

    location: str
    packed: bool
    files: dict[str, tuple[int, str]]
    send: Callable[[CreatedDataset], None]

    @property
    def digest(self) -> str:
        """What the bundle is named after."""
        text = json.dumps([self.location, self.packed, sorted(self.files.items())])
        return hashlib.sha256(text.encode()).hexdigest()


class Bundles:
    """Provides bundles of one workspace. May be used from several threads.

    ``cache`` is a directory in which is remembered what was named by its content, and where it is on Beaker.
    ``nonce`` gives a few characters that make a name unique where the plain one is taken.
    """

    def __init__(
        self,
        door: BeakerDoor,
        cache: Path | None = None,
        nonce: Callable[[], str] = lambda: secrets.token_hex(4),
    ) -> None:
        self._door = door
        self._cache = cache
        self.nonce = nonce
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._known: dict[str, BeakerDataset] = {}

    def provide(
        self, source: Path, name: str, *, packed: bool | None = None, content: str = ""
    ) -> BeakerDataset:
        """Have a directory, or a file, on Beaker, and say where it is there.

        ``name`` is what it is called in its dataset, and tells people what it is. ``packed`` says whether a
        directory travels as a tar (None: as suits it best); a file whose name ends with ``.tar`` is one.
        ``content`` names what is in it for ever, so that nobody need look again.

        :raises EngineError: it cannot be read, or Beaker refuses
        """
        memo = json.dumps([content, name, packed]) if content else ""
        with self._lock_of(memo or str(source)):
            found = self._remembered(memo) if memo else None
            if found is None:
                found = self._provided(source, name, packed)
                if memo:
                    self._remember(memo, found)
            return found

    def _provided(self, source: Path, name: str, packed: bool | None) -> BeakerDataset:
        parcel = self._parcel(source, name, packed)
        with self._lock_of(parcel.digest):
            found = self._known.get(parcel.digest)
            if found is None:
                dataset = self._found(parcel) or self._made_well(parcel, name)
                found = self._known[parcel.digest] = BeakerDataset(dataset.id, parcel.location, parcel.packed)
            return found

    def _remembered(self, memo: str) -> BeakerDataset | None:
        """What we provided under this name, in this process or another, if it is still there."""
        if memo in self._known:
            return self._known[memo]
        path = self._memory(memo)
        if path is None:
            return None
        try:
            kept = json.loads(path.read_bytes())
            found = BeakerDataset(str(kept["dataset"]), str(kept["subpath"]), kept["packed"] is True)
            if not self._door.datasets.get(found.id).committed:
                return None
        except (OSError, ValueError, KeyError, TypeError, BeakerNotFoundError):
            return None
        self._known[memo] = found
        return found

    def _remember(self, memo: str, found: BeakerDataset) -> None:
        """A disk that is full costs the next process a look, and nothing else."""
        self._known[memo] = found
        path = self._memory(memo)
        if path is None:
            return
        text = json.dumps({"dataset": found.id, "subpath": found.subpath, "packed": found.packed})
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"{path.name}.{self.nonce()}")
            partial.write_text(text)
            partial.replace(path)

    def _memory(self, memo: str) -> Path | None:
        if self._cache is None:
            return None
        account = self._door.account
        digest = hashlib.sha256(f"{self._door.address} {account.workspace_id} {memo}".encode()).hexdigest()
        return self._cache / "bundles" / digest

    def _lock_of(self, key: str) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(key, threading.Lock())

    def _parcel(self, source: Path, name: str, packed: bool | None) -> _Parcel:
        try:
            if not source.is_dir():
                return self._file(source, name)
            content = survey(source)
            if travels_packed(source, content) if packed is None else packed:
                return self._archive(source, name, content)
            if content.links:
                raise EngineError(
                    f"{source}: {next(iter(content.links))} is a link, of which a dataset keeps none",
                    "mount what it leads to, or a directory without links",
                )
            return self._directory(source, name, content)
        except OSError as error:
            raise EngineError(f"{source}: cannot be sent to Beaker: {error.strerror}") from error

    def _file(self, source: Path, name: str) -> _Parcel:
        def send(created: CreatedDataset) -> None:
            self._door.datasets.write(created, name, source)

        return _Parcel(name, name.endswith(SUFFIX), {name: _facts(source)}, send)

    def _directory(self, source: Path, name: str, content: Content) -> _Parcel:
        def send(created: CreatedDataset) -> None:
            for path in content.files:
                place = source / path
                # Beaker's own client sends no empty file.
                whole = place.read_bytes() if not content.files[path][0] else place
                self._door.datasets.write(created, f"{name}/{path}", whole)

        return _Parcel(name, False, {f"{name}/{path}": each for path, each in content.files.items()}, send)

    def _archive(self, source: Path, name: str, content: Content) -> _Parcel:
        archive = archive_of(source, content)
        digest = hashlib.sha256()
        for block in archive.blocks():
            digest.update(block)
        place = f"{name}{SUFFIX}"

        def send(created: CreatedDataset) -> None:
            Sender(self._door.account, created).send(place, archive.size, archive.blocks)

        return _Parcel(place, True, {place: (archive.size, digest.hexdigest())}, send)

    def _found(self, parcel: _Parcel) -> Dataset | None:
        """The bundle, where somebody has made it: the description only says where to look."""
        for dataset in self._door.datasets.search(f"{BUNDLE}{parcel.digest[:16]}", committed=True):
            if self._holds(dataset, parcel):
                return dataset
        return None

    def _holds(self, dataset: Dataset, parcel: _Parcel) -> bool:
        files = {each.path: (each.size, each.sha256) for each in self._door.datasets.files(dataset.id)}
        return files == parcel.files

    def _made_well(self, parcel: _Parcel, name: str) -> Dataset:
        """Make it, and again where Beaker tells of other bytes than it was sent."""
        for _ in range(_TRIES - 1):
            with contextlib.suppress(_SpoiledError):
                return self._made(parcel, name)
        return self._made(parcel, name)

    def _made(self, parcel: _Parcel, name: str) -> Dataset:
        plain = f"{BUNDLE}{parcel.digest[:16]}"
        nonce = self.nonce()
        # One of a kind, so that the door knows its own where the answer was lost.
        told = json.dumps({"dispatch": VERSION, "bundle": parcel.digest, "name": name, "by": nonce})
        try:
            created = self._door.datasets.create(plain, told)
        except BeakerConflictError:
            # Somebody is just making it, was killed while making it, or made something else of this name.
            created = self._door.datasets.create(f"{plain}.{nonce}", told)
        dataset = created.dataset
        try:
            parcel.send(created)
            if not self._holds(dataset, parcel):
                fact = f"bundle {name!r}: what Beaker keeps is not what it was sent"
                raise _SpoiledError(fact, "run again")
            self._door.datasets.commit(dataset.id)
        except BaseException:
            with contextlib.suppress(EngineError):
                self._door.datasets.delete([dataset.id])
            raise
        return dataset


def _facts(path: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()
