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

from dispatch._beaker import BeakerConflictError, BeakerDoor, CreatedDataset, Dataset
from dispatch._beaker.archive import archive_of
from dispatch._beaker.parcels import SUFFIX, travels_packed
from dispatch._beaker.transfers import Sender
from dispatch.engine.beaker.names import BUNDLE, VERSION
from dispatch.errors import EngineError
from dispatch.location import BeakerDataset
from dispatch.workspace.manifest import Content, survey

_BLOCK = 1 << 20


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

    ``nonce`` gives a few characters that make a name unique where the plain one is taken.
    """

    def __init__(self, door: BeakerDoor, nonce: Callable[[], str] = lambda: secrets.token_hex(4)) -> None:
        self._door = door
        self._nonce = nonce
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._known: dict[str, BeakerDataset] = {}

    def provide(
        self, source: Path, name: str, *, packed: bool | None = None, content: str = ""
    ) -> BeakerDataset:
        """Have a directory, or a file, on Beaker, and say where it is there.

        ``name`` is what it is called in its dataset, and tells people what it is. ``packed`` says whether a
        directory travels as a tar (None: as suits it best); a file whose name ends with ``.tar`` is one.
        ``content`` names what is in it for ever, so that this process need not look again.

        :raises EngineError: it cannot be read, or Beaker refuses
        """
        memo = f"{content}\0{name}\0{packed}" if content else ""
        with self._lock_of(memo or str(source)):
            if memo in self._known:
                return self._known[memo]
            parcel = self._parcel(source, name, packed)
            with self._lock_of(parcel.digest):
                found = self._known.get(parcel.digest)
                if found is None:
                    dataset = self._found(parcel) or self._made(parcel, name)
                    found = BeakerDataset(dataset.id, parcel.location, parcel.packed)
                self._known[parcel.digest] = found
            if memo:
                self._known[memo] = found
            return found

    def forget(self, dataset_id: str) -> None:
        """Believe no longer that a dataset is there: somebody removed it."""
        with self._lock:
            self._known = {key: each for key, each in self._known.items() if each.id != dataset_id}

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
            Sender(self._door.account, created).send(place, archive.size, archive.blocks())

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

    def _made(self, parcel: _Parcel, name: str) -> Dataset:
        plain = f"{BUNDLE}{parcel.digest[:16]}"
        nonce = self._nonce()
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
                raise EngineError(f"bundle {name!r}: what Beaker keeps is not what it was sent", "run again")
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
