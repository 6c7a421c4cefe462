"""Datasets and what is known of their files."""

from __future__ import annotations

from collections.abc import Iterable

from dispatch.beakerd.store.database import Transaction

FileRow = tuple[str, int, bytes, int]


def add_files(tx: Transaction, dataset: str, rows: Iterable[FileRow]) -> None:
    """Record files (path, size, SHA-256, when) of a dataset; one of the same path is replaced."""
    tx.executemany(
        "INSERT OR REPLACE INTO dataset_files (dataset_id, path, size, sha256, updated)"
        " VALUES (?, ?, ?, ?, ?)",
        ((dataset, *row) for row in rows),
    )
