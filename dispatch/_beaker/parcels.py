"""Directories as parts of datasets: sent and fetched, as files or as one tar, and every byte checked.

Owns when a directory travels as a tar: many small files would cost a request each, and Beaker keeps no
links, no modes, no empty directories, and not every name. Refuses to know what the directories are.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from dispatch._beaker.archive import PIECE, archive_of, blocks_of, inner, is_executable, unpack
from dispatch._beaker.door import BeakerDoor
from dispatch._beaker.model import CreatedDataset
from dispatch._beaker.problems import BeakerDamagedError, BeakerNotFoundError
from dispatch._beaker.work import Work
from dispatch.workspace.manifest import Content, survey

if TYPE_CHECKING:
    from dispatch._beaker.sending import Sender

T = TypeVar("T")

SUFFIX = ".tar"
# A request costs about as much as so many bytes.
MANY, SMALL = 16, 1 << 20
# What arrives damaged may have been damaged on its way.
TRIES = 3
_PLAIN = re.compile(r"[A-Za-z0-9_.+=@,/ -]+")


@dataclass(frozen=True)
class Parcel:
    """A directory in a dataset: its content, and where it lies there, as files or (packed) as one tar."""

    content: Content
    subpath: str
    packed: bool


def upload(door: BeakerDoor, created: CreatedDataset, directory: Path, target: str) -> Parcel:
    """Write a directory below ``target`` of a dataset, or as ``target`` + ``.tar``, and say what was written.

    :raises FormatError: something of it cannot be in a result
    :raises WorkspaceError: a file changed meanwhile
    :raises BeakerConflictError: the dataset is committed; BeakerNotFoundError: it is gone
    """
    from dispatch._beaker.sending import Sender

    content = survey(directory, _size)
    sender = Sender(door.account, created)
    packed = travels_packed(directory, content)
    if packed:
        subpath, archive = f"{target}{SUFFIX}", archive_of(directory, content)
        sent = {subpath: (archive.size, sender.send(subpath, archive.size, archive.blocks))}
    else:
        subpath, sent = target, _send_files(sender, directory, content, f"{target}/" if target else "")
    _again(lambda: _compare(created.dataset.id, sent, _listed(door, created.dataset.id, target)))
    return Parcel(content, subpath, packed)


def _send_files(sender: Sender, directory: Path, content: Content, prefix: str) -> dict[str, tuple[int, str]]:
    """Send each file by itself; ``content`` gets their digests."""

    work = Work()

    def send(path: str) -> tuple[int, str]:
        size = content.files[path][0]

        def blocks() -> Iterator[bytes]:
            return work.going_on(blocks_of(directory / path, size, PIECE))

        return size, sender.send(f"{prefix}{path}", size, blocks)

    content.files.update(zip(content.files, work.each(send, [*content.files]), strict=True))
    return {f"{prefix}{path}": facts for path, facts in content.files.items()}


def _size(path: str) -> tuple[int, str]:
    return Path(path).lstat().st_size, ""


def travels_packed(directory: Path, content: Content) -> bool:
    """Whether a directory is better sent as a tar, or cannot be sent otherwise."""
    files = content.files
    if content.links or not files or not all(size for size, _ in files.values()):
        return True
    if len(files) > MANY and sum(size for size, _ in files.values()) < SMALL * len(files):
        return True
    filled = {parent.as_posix() for path in files for parent in PurePosixPath(path).parents}
    if not filled.issuperset(content.directories):
        return True
    return not all(_PLAIN.fullmatch(path) and not is_executable(directory / path) for path in files)


def download(
    door: BeakerDoor,
    dataset_id: str,
    subpath: str,
    packed: bool,
    target: Path,
    expected: Content | None = None,
) -> Content:
    """Fetch a directory of a dataset to ``target``, and say what it holds.

    ``target`` is made, or holds what an earlier download left: whole files are kept. With ``expected`` it
    must come out as exactly that (for a packed one also: the tar, as the only file), without it as the
    digests say that Beaker has.

    :raises BeakerNotFoundError: there is no such thing in the dataset
    :raises BeakerDamagedError: other bytes came than were expected, several times
    """
    if packed:
        return _fetch_packed(door, dataset_id, subpath, target, expected)
    return _fetch_files(door, dataset_id, subpath, target, expected)


def _fetch_packed(
    door: BeakerDoor, dataset_id: str, subpath: str, target: Path, expected: Content | None
) -> Content:
    from dispatch._beaker.receiving import Checked, received

    wanted = None
    if expected is None:
        wanted = _listed(door, dataset_id, subpath).get(subpath)
        if wanted is None:
            raise BeakerNotFoundError(f"dataset {dataset_id}: {subpath}: is not on Beaker")

    def fetch() -> Content:
        if target.exists():
            shutil.rmtree(target)
        target.mkdir(parents=True)
        source = Checked(received(door.datasets, dataset_id, subpath))
        content = unpack(source, target)
        facts = source.to_end()
        if expected is None:
            right = _agrees(facts, wanted)
        else:
            right = content == expected or list(expected.files.values()) == [facts]
        if not right:
            raise _other_bytes(dataset_id, subpath)
        return content

    return _again(fetch)


def _fetch_files(
    door: BeakerDoor, dataset_id: str, subpath: str, target: Path, expected: Content | None
) -> Content:
    from dispatch._beaker.receiving import Checked, received

    prefix = f"{subpath}/" if subpath else ""
    if expected is None:
        listed = _listed(door, dataset_id, subpath)
        wanted = {
            name.removeprefix(prefix): facts for name, facts in listed.items() if name.startswith(prefix)
        }
        if not wanted:
            raise BeakerNotFoundError(f"dataset {dataset_id}: {subpath or 'it'}: has no files on Beaker")
    else:
        wanted = expected.files
    # What Beaker lists are files: the directories that they are in are part of it, too.
    told = expected.directories if expected else ()
    content = Content({}, {}, tuple(sorted({*told, *_parents(wanted)})))
    target.mkdir(parents=True, exist_ok=True)
    for path in content.directories:
        (target / inner(path)).mkdir(parents=True, exist_ok=True)

    work = Work()

    def fetch(path: str) -> tuple[int, str]:
        place = target / inner(path)
        if place.is_file() and _agrees(_facts(place), wanted[path]):
            return _facts(place)

        def once() -> tuple[int, str]:
            source = Checked(received(door.datasets, dataset_id, f"{prefix}{path}"))
            with place.open("wb", buffering=0) as file:
                for block in work.going_on(source.blocks()):
                    file.write(block)
            if not _agrees(source.facts, wanted[path]):
                raise _other_bytes(dataset_id, f"{prefix}{path}")
            return source.facts

        return _again(once)

    content.files.update(zip(wanted, work.each(fetch, [*wanted]), strict=True))
    return content


def _again(fetch: Callable[[], T]) -> T:
    for left in reversed(range(TRIES)):
        try:
            return fetch()
        except BeakerDamagedError:
            if not left:
                raise
    raise AssertionError


def _agrees(found: tuple[int, str], wanted: tuple[int, str] | None) -> bool:
    """Whether size and digest are as wanted; of a file whose digest nobody knows, the size."""
    return wanted is not None and found[0] == wanted[0] and wanted[1] in ("", found[1])


def _compare(dataset_id: str, sent: dict[str, tuple[int, str]], found: dict[str, tuple[int, str]]) -> None:
    for name, facts in sent.items():
        if not _agrees(facts, found.get(name)):
            raise _other_bytes(dataset_id, name)


def _listed(door: BeakerDoor, dataset_id: str, subpath: str) -> dict[str, tuple[int, str]]:
    return {each.path: (each.size, each.sha256) for each in door.datasets.files(dataset_id, subpath)}


def _parents(paths: Iterable[str]) -> tuple[str, ...]:
    found = {parent.as_posix() for path in paths for parent in PurePosixPath(path).parents}
    return tuple(sorted(found - {"."}))


def _facts(path: Path) -> tuple[int, str]:
    size, digest = path.stat().st_size, hashlib.sha256()
    for block in blocks_of(path, size):
        digest.update(block)
    return size, digest.hexdigest()


def _other_bytes(dataset_id: str, path: str) -> BeakerDamagedError:
    return BeakerDamagedError(
        f"dataset {dataset_id}: {path}: Beaker holds other bytes than it should", "run the step again"
    )
