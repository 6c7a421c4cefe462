"""What the registry knows of the images' repositories: manifests, blobs, and uploads that go on.

Owns their rows. A blob's file counts only with a row here; ``beakerd.blobs`` has the files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dispatch.beakerd.access import Principal
from dispatch.beakerd.store.database import Transaction
from dispatch.beakerd.store.images import VISIBLE, caller


@dataclass(frozen=True)
class StoredManifest:
    """A manifest as it was pushed."""

    digest: str
    media_type: str
    body: bytes


def manifest(tx: Transaction, image: str, reference: str) -> StoredManifest | None:
    """The manifest under a tag or digest, or None."""
    row = tx.execute(
        "SELECT digest, media_type, body FROM manifests WHERE image_id = ? AND reference = ?",
        (image, reference),
    ).fetchone()
    return None if row is None else StoredManifest(*row)


def manifests(tx: Transaction, image: str) -> dict[str, StoredManifest]:
    """All manifests of a repository by tag and by digest, in the order in which they came."""
    rows = tx.execute(
        "SELECT reference, digest, media_type, body FROM manifests WHERE image_id = ? ORDER BY created",
        (image,),
    ).fetchall()
    return {row[0]: StoredManifest(*row[1:]) for row in rows}


def add_manifest(tx: Transaction, image: str, reference: str, new: StoredManifest, now: int) -> None:
    """Keep a manifest under its digest, and under a tag if ``reference`` is one: a tag moves over."""
    tx.executemany(
        "INSERT OR REPLACE INTO manifests (image_id, reference, digest, media_type, body, created)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [(image, each, new.digest, new.media_type, new.body, now) for each in {reference, new.digest}],
    )


def tags(tx: Transaction, image: str, after: str, count: int) -> list[str]:
    """The tags of a repository, in order, after one; digests have a colon, tags have none."""
    rows = tx.execute(
        "SELECT reference FROM manifests WHERE image_id = ? AND reference > ? AND instr(reference, ':') = 0"
        " ORDER BY reference LIMIT ?",
        (image, after, count),
    )
    return [row[0] for row in rows.fetchall()]


def blob_size(tx: Transaction, image: str, digest: str) -> int | None:
    """The size of a blob of the repository, or None if it has none of this digest."""
    row = tx.execute(
        "SELECT size FROM image_blobs WHERE image_id = ? AND digest = ?", (image, digest)
    ).fetchone()
    return None if row is None else int(row[0])


def blob_size_elsewhere(tx: Transaction, who: Principal, digest: str) -> int | None:
    """The size of a blob of any repository that the caller may see: who cannot see one of its images
    learns nothing of a blob by its digest."""
    row = tx.execute(
        "SELECT b.size FROM image_blobs b JOIN images i ON i.id = b.image_id"
        f" WHERE b.digest = ? AND {VISIBLE} LIMIT 1",
        (digest, *caller(who)),
    ).fetchone()
    return None if row is None else int(row[0])


def add_blob(tx: Transaction, image: str, digest: str, size: int) -> None:
    """Give a repository a blob whose file is there."""
    tx.execute(
        "INSERT OR REPLACE INTO image_blobs (image_id, digest, size) VALUES (?, ?, ?)", (image, digest, size)
    )


def keep_blobs(tx: Transaction, image: str, digests: Iterable[str]) -> list[str]:
    """Take all other blobs from a repository, and return them."""
    kept = set(digests)
    gone = [digest for digest in blobs_of(tx, image) if digest not in kept]
    tx.executemany(
        "DELETE FROM image_blobs WHERE image_id = ? AND digest = ?", [(image, digest) for digest in gone]
    )
    return gone


def blobs_of(tx: Transaction, image: str) -> list[str]:
    """The digests of a repository's blobs."""
    rows = tx.execute("SELECT digest FROM image_blobs WHERE image_id = ?", (image,))
    return [row[0] for row in rows.fetchall()]


def unused(tx: Transaction, digests: Iterable[str]) -> list[str]:
    """Those of the digests that no repository has a blob of."""
    return [
        digest
        for digest in digests
        if tx.execute("SELECT 1 FROM image_blobs WHERE digest = ? LIMIT 1", (digest,)).fetchone() is None
    ]


def begin_push(tx: Transaction, push: str, image: str, now: int) -> None:
    """Make an upload."""
    tx.execute("INSERT INTO pushes (id, image_id, created) VALUES (?, ?, ?)", (push, image, now))


@dataclass(frozen=True)
class Push:
    """An upload: the digest of its first ``size`` bytes. There may be more by now."""

    size: int
    digest: str


def push(tx: Transaction, push: str, image: str) -> Push | None:
    """An upload into a repository, or None if there is no such one."""
    row = tx.execute(
        "SELECT size, digest FROM pushes WHERE id = ? AND image_id = ?", (push, image)
    ).fetchone()
    return None if row is None else Push(*row)


def set_push(tx: Transaction, push: str, known: Push) -> None:
    """Write down what is known of an upload."""
    tx.execute("UPDATE pushes SET size = ?, digest = ? WHERE id = ?", (known.size, known.digest, push))


def end_push(tx: Transaction, push: str) -> None:
    """Forget an upload."""
    tx.execute("DELETE FROM pushes WHERE id = ?", (push,))


def forget_pushes(tx: Transaction, before: int) -> set[str]:
    """Forget uploads that were begun before a time, and return those that go on."""
    tx.execute("DELETE FROM pushes WHERE created < ?", (before,))
    return {row[0] for row in tx.execute("SELECT id FROM pushes").fetchall()}
