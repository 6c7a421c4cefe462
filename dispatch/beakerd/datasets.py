"""What is done with datasets, for both protocols: made, kept files in, committed, deleted, swept.

Owns the order of disk and database. A file is put in its place inside the transaction that records it; a
dataset is committed with exactly the files that are recorded; a deleted dataset's files go once no job has
them mounted. Whatever a killed server left behind between the two is set right here.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dispatch.beakerd import objects
from dispatch.beakerd.access import Principal, Purpose, require
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.problems import Kind, Problem, not_found
from dispatch.beakerd.store import datasets as store
from dispatch.beakerd.transfers import sha256

PIECE = 1024 * 1024
# A file in uploads/ that no row names is being written, or was when a server was killed.
STRAY = 3600.0


@dataclass(frozen=True)
class Asked:
    """A dataset that is asked for. ``budget`` None is its workspace's."""

    workspace: str
    name: str = ""
    description: str = ""
    budget: str | None = None


@dataclass(frozen=True)
class Staged:
    """A file that was received whole, beside the trees; ``upload`` is the upload that it comes from."""

    path: Path
    size: int
    sha256: bytes
    upload: str | None = None


@dataclass(frozen=True)
class Storage:
    """How a dataset's files are reached: the token, when it ends, bytes and number of files."""

    token: str
    expires: int
    size: int
    count: int


def create(backend: Backend, who: Principal, asked: Asked) -> str:
    """Make a dataset, and return its id.

    :raises Problem: INVALID, NOT_FOUND, FORBIDDEN; CONFLICT when the name is taken
    """
    with backend.database.write() as tx:
        workspace = tx.execute(
            "SELECT id, budget_id FROM workspaces WHERE id = ?", (asked.workspace,)
        ).fetchone()
        if workspace is None:
            raise not_found("workspace", asked.workspace)
        require(tx, who, workspace["id"], f"workspace {asked.workspace!r}")
        if asked.budget is not None:
            known = tx.execute("SELECT 1 FROM budgets WHERE id = ?", (asked.budget,)).fetchone()
            if known is None:
                raise not_found("budget", asked.budget)
        new = store.NewDataset(
            id=backend.ids.new(),
            author_id=who.user_id,
            workspace_id=workspace["id"],
            created=backend.clock.now(),
            name=store.checked_name(asked.name) if asked.name else "",
            description=asked.description,
            budget_id=asked.budget or workspace["budget_id"],
        )
        store.create(tx, new, backend.config.assume.names)
    return new.id


def storage(backend: Backend, who: Principal, dataset: str) -> Storage:
    """A token for one dataset's files; the one that was made before, while half of its life is left.

    A job's ends with the job.
    """
    now, life = backend.clock.now(), backend.config.limits.storage_token
    with backend.database.read() as tx:
        workspace = store.find(tx, who, dataset)["workspace_id"]
        size, count = store.totals(tx, dataset)
        known = backend.transfers.token(dataset, who.user_id, who.job_id)
        if known is not None and known[1] - now > life * 5e8:
            with suppress(Problem):
                backend.access.principal(tx, known[0], Purpose.STORAGE)
                return Storage(*known, size, count)
    bound = Principal(
        who.user_id, Purpose.STORAGE, who.workspace_id and workspace, job_id=who.job_id, subject=dataset
    )
    with backend.database.write() as tx:
        store.find(tx, who, dataset)
        tx.execute("DELETE FROM tokens WHERE subject = ? AND expires <= ?", (dataset, now))
        token = backend.access.issue(tx, bound, life)
    expires = now + round(life * 1e9)
    backend.transfers.keep_token(dataset, who.user_id, who.job_id, (token, expires))
    return Storage(token, expires, size, count)


def keep(backend: Backend, who: Principal, dataset: str, path: str, staged: Staged) -> None:
    """Put a received file at a path of a dataset; it is there whole, or all is as it was.

    :raises Problem: FORBIDDEN, when the dataset is committed by now; INVALID, when the path is barred;
        NOT_FOUND, when another request has taken the upload
    """
    tree = objects.Tree(backend.layout.files(dataset))
    spare = backend.layout.uploads / f"{backend.ids.new()}.old"
    with (
        backend.transfers.turn(dataset),
        objects.Placing(tree, spare) as placing,
        backend.database.write() as tx,
    ):
        store.writable(tx, who, dataset)
        if staged.upload is not None:
            # First: where another request has taken it, its file is gone, too.
            store.end_upload(tx, staged.upload)
        now = backend.clock.now()
        # The file's own time says later that it is the one in the row.
        os.utime(staged.path, ns=(now, now))
        staged.path.chmod(0o644)
        store.add_files(tx, dataset, [(path, staged.size, staged.sha256, now)])
        placing.place(staged.path, path)
    backend.transfers.kept(dataset, path)


def remove_file(backend: Backend, who: Principal, dataset: str, path: str) -> None:
    """Remove a file of a dataset that is not committed."""
    with backend.transfers.turn(dataset):
        with backend.database.write() as tx:
            store.writable(tx, who, dataset)
            store.file(tx, dataset, path)
            store.remove_file(tx, dataset, path)
        objects.Tree(backend.layout.files(dataset)).remove(path)


def commit(backend: Backend, who: Principal, dataset: str) -> None:
    """Commit a dataset with exactly the files that are recorded; nothing happens to one that is committed.

    :raises Problem: TROUBLE, when a file is gone from the disk
    """
    with backend.transfers.turn(dataset):
        with backend.database.read() as tx:
            committed = store.find(tx, who, dataset)["committed"] is not None
            if not committed:
                store.writable(tx, who, dataset)
        if not committed:
            _settle(backend, dataset)
            with backend.database.write() as tx:
                store.commit(tx, who, dataset, backend.clock.now())


def change(backend: Backend, who: Principal, dataset: str, name: str | None, description: str | None) -> None:
    """Give a dataset another name or description; None leaves it. Both may change after the commit.

    :raises Problem: CONFLICT, when the name is taken
    """
    if name is None and description is None:
        return
    with backend.database.write() as tx:
        row = store.find(tx, who, dataset)
        if name is not None:
            store.rename(tx, row, name, backend.config.assume.names)
        if description is not None:
            store.describe(tx, dataset, description)


def delete(backend: Backend, who: Principal, wanted: list[str]) -> None:
    """Delete datasets, all or none: names are free at once. Files that a running job may have mounted stay
    until a sweep finds that it has ended.
    """
    freed, uploads = [], []
    with backend.database.write() as tx:
        for dataset in dict.fromkeys(wanted):
            source = store.find(tx, who, dataset)["source_job_id"]
            uploads += store.delete(tx, who, dataset)
            if not store.mounted(tx, dataset, source):
                freed.append(dataset)
    for upload in uploads:
        backend.transfers.drop_hash(upload)
        (backend.layout.uploads / upload).unlink(missing_ok=True)
    for dataset in freed:
        with backend.transfers.turn(dataset):
            _discard(backend, dataset)
    sweep(backend)


def sweep(backend: Backend, starting: bool = False) -> None:
    """Remove what nobody will ask for again: old uploads, what a killed server was writing, files of
    datasets that are deleted, tokens that ended. Cheap to call: it does so once in a while. A server that is
    ``starting`` does, and knows that nobody writes.
    """
    now = backend.clock.now()
    if not backend.transfers.time_to_sweep(now) and not starting:
        return
    _sweep_uploads(backend, now, 0.0 if starting else STRAY)
    folders = backend.layout.root / "datasets"
    with backend.database.read() as tx:
        known = {row[0] for row in tx.execute("SELECT id FROM datasets")}
        gone = [entry.name for entry in os.scandir(folders) if entry.name not in known]
        # Those that are made meanwhile are no business of this sweep: their rows come first.
        unused = [name for name in gone if not store.mounted(tx, name, store.made_by(tx, name))]
    for dataset in unused:
        if not _known(backend, dataset):
            _discard(backend, dataset)


def _sweep_uploads(backend: Backend, now: int, patience: float) -> None:
    oldest = now - round(backend.config.limits.unfinished_upload * 1e9)
    with backend.database.write() as tx:
        tx.execute("DELETE FROM tokens WHERE kind = ? AND expires <= ?", (Purpose.STORAGE.value, now))
        for row in tx.execute("SELECT id, created FROM uploads WHERE created < ?", (oldest,)).fetchall():
            path = backend.layout.uploads / row["id"]
            with suppress(FileNotFoundError):
                if path.stat().st_mtime_ns >= oldest:
                    continue
            tx.execute("DELETE FROM uploads WHERE id = ?", (row["id"],))
    with backend.database.read() as tx:
        known = {row[0] for row in tx.execute("SELECT id FROM uploads")}
    stray = now - round(patience * 1e9)
    for entry in os.scandir(backend.layout.uploads):
        with suppress(FileNotFoundError):
            fresh = patience and entry.stat(follow_symlinks=False).st_ctime_ns >= stray
            if entry.name in known or fresh:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                Path(entry.path).unlink()


def _known(backend: Backend, dataset: str) -> bool:
    with backend.database.read() as tx:
        return tx.execute("SELECT 1 FROM datasets WHERE id = ?", (dataset,)).fetchone() is not None


def _discard(backend: Backend, dataset: str) -> None:
    aside = backend.layout.uploads / f"{backend.ids.new()}.gone"
    objects.discard_tree(backend.layout.dataset(dataset), aside)


def _settle(backend: Backend, dataset: str) -> None:
    """Make tree and rows agree: a killed server may have put a file in its place and not have recorded it.

    Nobody was told that such a file is kept: a new one goes; one that took another's place is recorded.
    """
    tree = objects.Tree(backend.layout.files(dataset))
    with backend.database.read() as tx:
        rows = {row["path"]: (row["size"], row["updated"]) for row in store.files(tx, dataset, "", "", -1)}
    strays, changed = [], []
    for path, found in tree.files():
        row = rows.pop(path, None)
        if row is None:
            strays.append(path)
        elif row != (found.st_size, found.st_mtime_ns):
            changed.append(path)
    if rows:
        lost = min(rows)
        raise Problem(Kind.TROUBLE, f"dataset {dataset!r}: file {lost!r} is no longer on the server's disk")
    for path in strays:
        tree.remove(path)
    again = [(path, *measured(tree, path), backend.clock.now()) for path in changed]
    if again:
        with backend.database.write() as tx:
            store.add_files(tx, dataset, again)


def measured(tree: objects.Tree, path: str) -> tuple[int, bytes]:
    """Size and SHA-256 of a file in a tree."""
    with tree.open(path) as file:
        return hashed(file, sha256())


def hashed(file: Any, digest: Any) -> tuple[int, bytes]:
    """Read a file to its end; return the number of bytes, and the digest."""
    size, piece = 0, bytearray(PIECE)
    while count := file.readinto(piece):
        digest.update(memoryview(piece)[:count])
        size += count
    return size, digest.digest()
