"""Datasets and what is known of their files.

Owns whose names are unique (see NameScope), who may change a dataset, and that none changes once committed.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dispatch.beakerd.access import Principal, may_use, require
from dispatch.beakerd.config import NameScope
from dispatch.beakerd.problems import Kind, Problem, forbidden, in_use, invalid, not_found
from dispatch.beakerd.spec import load_task
from dispatch.beakerd.store.database import Transaction

FileRow = tuple[str, int, bytes, int]
Row = sqlite3.Row

NAME = re.compile(r"(?!-)(?=.*[^\W_])[\w.-]{1,255}")
_QUEUED = 2
_SELECT = "SELECT d.*, u.name AS author FROM datasets d JOIN users u ON u.id = d.author_id"


@dataclass(frozen=True)
class NewDataset:
    """What a dataset is made of."""

    id: str
    author_id: str
    workspace_id: str
    created: int
    name: str = ""
    description: str = ""
    budget_id: str | None = None


def checked_name(name: str) -> str:
    """Return a name as it is.

    :raises Problem: INVALID, unless it is of letters, digits, periods, dashes and underscores
    """
    if not NAME.fullmatch(name):
        raise invalid(
            f"dataset name {name[:300]!a}: may have letters, digits, periods, dashes and underscores,"
            " 255 at most, and does not begin with a dash"
        )
    return name


def create(tx: Transaction, new: NewDataset, scope: NameScope) -> None:
    """Make a dataset.

    :raises Problem: CONFLICT, when the name is taken
    """
    try:
        tx.execute(
            "INSERT INTO datasets (id, name, name_key, author_id, workspace_id, budget_id, description,"
            " created) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                new.id,
                new.name,
                name_key(scope, new.author_id, new.workspace_id, new.name),
                new.author_id,
                new.workspace_id,
                new.budget_id,
                new.description,
                new.created,
            ),
        )
    except sqlite3.IntegrityError as error:
        raise in_use("dataset", new.name) from error


def name_key(scope: NameScope, author_id: str, workspace_id: str, name: str) -> str | None:
    """What is unique of a name."""
    if not name:
        return None
    return f"{author_id if scope is NameScope.AUTHOR else workspace_id}/{name}"


def find(tx: Transaction, who: Principal, dataset: str) -> Row:
    """A dataset by its id, with its author's name.

    :raises Problem: NOT_FOUND, or FORBIDDEN to this caller
    """
    row: Row | None = tx.execute(f"{_SELECT} WHERE d.id = ?", (dataset,)).fetchone()
    if row is None:
        raise not_found("dataset", dataset)
    require(tx, who, row["workspace_id"], f"dataset {dataset!r}")
    return row


def resolve(tx: Transaction, who: Principal, author: str, name: str) -> str:
    """The id of a dataset by its author's name and its own; of several (in workspaces) the newest.

    :raises Problem: NOT_FOUND, also where the caller may not see it
    """
    rows = tx.execute(
        "SELECT d.id, d.workspace_id FROM datasets d JOIN users u ON u.id = d.author_id"
        " WHERE d.name = ? AND u.name = ? AND d.name != '' ORDER BY d.created DESC",
        (name, author),
    ).fetchall()
    for row in rows:
        if may_use(tx, who, row["workspace_id"]):
            return str(row["id"])
    raise not_found("dataset", f"{author}/{name}")


def writable(tx: Transaction, who: Principal, dataset: str) -> Row:
    """A dataset whose files the caller may change.

    :raises Problem: FORBIDDEN, when it is committed, or a running job's result
    """
    row = find(tx, who, dataset)
    if row["committed"] is not None:
        raise forbidden(f"dataset {dataset!r} is committed: its files do not change any more")
    _not_a_live_result(tx, row)
    return row


def commit(tx: Transaction, who: Principal, dataset: str, when: int) -> None:
    """Commit a dataset; nothing happens to one that is committed."""
    if find(tx, who, dataset)["committed"] is None:
        writable(tx, who, dataset)
        tx.execute("UPDATE datasets SET committed = ? WHERE id = ?", (when, dataset))


def rename(tx: Transaction, row: Row, name: str, scope: NameScope) -> None:
    """Give a dataset another name.

    :raises Problem: CONFLICT, when it is taken
    """
    key = name_key(scope, row["author_id"], row["workspace_id"], checked_name(name))
    try:
        tx.execute("UPDATE datasets SET name = ?, name_key = ? WHERE id = ?", (name, key, row["id"]))
    except sqlite3.IntegrityError as error:
        raise in_use("dataset", name) from error


def describe(tx: Transaction, dataset: str, description: str) -> None:
    """Set the description."""
    tx.execute("UPDATE datasets SET description = ? WHERE id = ?", (description, dataset))


def delete(tx: Transaction, who: Principal, dataset: str) -> list[str]:
    """Remove a dataset, its files' rows, uploads and tokens; return the ids of its uploads.

    :raises Problem: FORBIDDEN, for the result of a job that has not ended
    """
    _not_a_live_result(tx, find(tx, who, dataset))
    uploads = [row[0] for row in tx.execute("SELECT id FROM uploads WHERE dataset_id = ?", (dataset,))]
    tx.execute("DELETE FROM datasets WHERE id = ?", (dataset,))
    # A link's token has the file's path behind the id.
    tx.execute(
        "DELETE FROM tokens WHERE subject = ? OR (subject > ? AND subject < ?)",
        (dataset, f"{dataset}/", f"{dataset}0"),
    )
    return uploads


def mounted(tx: Transaction, dataset: str, source_job: str | None = None) -> bool:
    """Whether a job that has its place, and has not ended, may have the dataset's files mounted."""
    rows = tx.execute(
        "SELECT t.spec FROM jobs j JOIN tasks t ON t.id = j.task_id"
        " WHERE j.finalized IS NULL AND j.status != ? AND (instr(t.spec, ?) OR j.experiment_id ="
        " (SELECT experiment_id FROM jobs WHERE id = ?))",
        (_QUEUED, dataset, source_job),
    )
    for row in rows:
        mounts = load_task(row["spec"]).mounts
        if any(mount.beaker == dataset or (source_job and mount.result) for mount in mounts):
            return True
    return False


def made_by(tx: Transaction, result: str) -> str | None:
    """The job whose result a dataset is, or was before it was deleted."""
    row = tx.execute("SELECT id FROM jobs WHERE result_dataset_id = ?", (result,)).fetchone()
    return None if row is None else str(row["id"])


def _not_a_live_result(tx: Transaction, row: Row) -> None:
    job = row["source_job_id"]
    if job is None:
        return
    live = tx.execute("SELECT 1 FROM jobs WHERE id = ? AND finalized IS NULL", (job,)).fetchone()
    if live is not None:
        raise Problem(
            Kind.FORBIDDEN, f"dataset {row['id']!r} is the result of job {job!r}, which has not ended"
        )


def select(tx: Transaction, conditions: Iterable[tuple[str, Sequence[Any]]], order: str) -> list[Row]:
    """Datasets for which all conditions hold (SQL over ``d``, and its values), with their authors' names."""
    parts = list(conditions)
    where = " AND ".join(f"({sql})" for sql, _ in parts) or "1"
    values = [value for _, each in parts for value in each]
    return tx.execute(f"{_SELECT} WHERE {where} {order}", values).fetchall()


def add_files(tx: Transaction, dataset: str, rows: Iterable[FileRow]) -> None:
    """Record files (path, size, SHA-256, when) of a dataset; one of the same path is replaced."""
    tx.executemany(
        "INSERT OR REPLACE INTO dataset_files (dataset_id, path, size, sha256, updated)"
        " VALUES (?, ?, ?, ?, ?)",
        ((dataset, *row) for row in rows),
    )


def file(tx: Transaction, dataset: str, path: str) -> Row:
    """What is known of a file.

    :raises Problem: NOT_FOUND
    """
    row: Row | None = tx.execute(
        "SELECT * FROM dataset_files WHERE dataset_id = ? AND path = ?", (dataset, path)
    ).fetchone()
    if row is None:
        raise not_found("file", path)
    return row


def remove_file(tx: Transaction, dataset: str, path: str) -> None:
    """Forget a file."""
    tx.execute("DELETE FROM dataset_files WHERE dataset_id = ? AND path = ?", (dataset, path))


def files(tx: Transaction, dataset: str, prefix: str, after: str, limit: int) -> list[Row]:
    """Files by path, from behind ``after``, whose paths begin with ``prefix``."""
    span, values = _span(prefix)
    return tx.execute(
        f"SELECT * FROM dataset_files WHERE dataset_id = ? AND path > ? AND {span} ORDER BY path LIMIT ?",
        (dataset, after, *values, limit),
    ).fetchall()


def totals(tx: Transaction, dataset: str, prefix: str = "") -> tuple[int, int]:
    """Bytes and number of the files whose paths begin with ``prefix``."""
    span, values = _span(prefix)
    row = tx.execute(
        f"SELECT coalesce(sum(size), 0), count(*) FROM dataset_files WHERE dataset_id = ? AND {span}",
        (dataset, *values),
    ).fetchone()
    return row[0], row[1]


def _span(prefix: str) -> tuple[str, Sequence[str]]:
    """The condition that a path begins with a prefix, such that the table's order finds them."""
    if not prefix:
        return "1", ()
    last = ord(prefix[-1])
    if last == 0x10FFFF:
        return "path >= ?", (prefix,)
    following = 0xE000 if last == 0xD7FF else last + 1
    return "path >= ? AND path < ?", (prefix, prefix[:-1] + chr(following))


def begin_upload(tx: Transaction, upload: str, dataset: str, when: int) -> None:
    """Record an upload of which nothing is there."""
    tx.execute("INSERT INTO uploads (id, dataset_id, created) VALUES (?, ?, ?)", (upload, dataset, when))


def upload(tx: Transaction, wanted: str) -> Row:
    """What is known of an upload.

    :raises Problem: NOT_FOUND
    """
    row: Row | None = tx.execute("SELECT * FROM uploads WHERE id = ?", (wanted,)).fetchone()
    if row is None:
        raise not_found("upload", wanted)
    return row


def end_upload(tx: Transaction, wanted: str) -> None:
    """Forget an upload.

    :raises Problem: NOT_FOUND, when somebody else did
    """
    if not tx.execute("DELETE FROM uploads WHERE id = ?", (wanted,)).rowcount:
        raise not_found("upload", wanted)


def extend_upload(tx: Transaction, upload: str, length: int, received: int, sha256: bytes | None) -> None:
    """Record how much of an upload is there; ``sha256`` of the whole, when it is.

    :raises Problem: NOT_FOUND, when it was removed meanwhile
    """
    changed = tx.execute(
        "UPDATE uploads SET length = ?, received = ?, sha256 = ? WHERE id = ?",
        (length, received, sha256, upload),
    ).rowcount
    if not changed:
        raise not_found("upload", upload)


def finished_upload(tx: Transaction, dataset: str, sha256: bytes) -> Row | None:
    """A finished upload of a dataset by its digest; the oldest of several."""
    row: Row | None = tx.execute(
        "SELECT * FROM uploads WHERE dataset_id = ? AND sha256 = ? AND received = length ORDER BY id LIMIT 1",
        (dataset, sha256),
    ).fetchone()
    return row
