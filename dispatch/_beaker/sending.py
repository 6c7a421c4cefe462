"""One file to a dataset: as a body or in pieces, each repeated by itself, and held against its digest.

Owns the wire protocol of storage on the way in. What is made and hashed is always the piece behind the one
that is on its way.
"""

from __future__ import annotations

from dispatch._beaker import _quiet  # noqa: F401  # isort: skip

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from beaker import exceptions as theirs

from dispatch._beaker.account import Account
from dispatch._beaker.archive import PIECE
from dispatch._beaker.model import CreatedDataset, Dataset
from dispatch._beaker.problems import BeakerDamagedError, BeakerDeniedError, BeakerError, BeakerNotFoundError
from dispatch._beaker.values import storage_of

TRIES = 3
_ALGORITHM = "sha-256="


class Sender:
    """Writes files of one dataset. May be used from several threads."""

    def __init__(self, account: Account, created: CreatedDataset) -> None:
        self._account = account
        self._dataset = created.dataset
        self._storage = created.storage
        self._service = account.client.dataset

    def send(self, path: str, size: int, blocks: Callable[[], Iterator[bytes]]) -> str:
        """Write a file of ``size`` bytes, which come in blocks, and return their SHA-256.

        ``blocks`` is called again where what arrived is not what was sent.
        """
        renewed = False
        left = TRIES
        while True:
            try:
                return self._send_once(path, size, blocks())
            except BeakerDeniedError:
                # A dataset's own token has a lifetime, which ours need not share.
                if renewed:
                    raise
                renewed = True
                self._storage = opened(self._account, self._dataset)
            except BeakerError as error:
                left -= 1
                if not left or size <= PIECE or type(error) not in (BeakerError, BeakerDamagedError):
                    raise

    def _send_once(self, path: str, size: int, blocks: Iterator[bytes]) -> str:
        digest = hashlib.sha256()
        if size <= PIECE:
            body = b"".join(blocks)
            digest.update(body)
            self._put(path, body, {})
            return digest.hexdigest()
        upload = self._request(path, "uploads", "POST").headers["Upload-ID"]
        offset, told = 0, None
        for piece in _ahead(_hashed(_joined(blocks, PIECE), digest)):
            told = self._piece(path, upload, piece, (offset, size))
            offset += len(piece)
        if told is None or not _is_of(told, digest.digest()):
            raise BeakerDamagedError(
                f"dataset {self._dataset.name}: {path}: other bytes arrived at Beaker than were sent",
                "repeat the command",
            )
        self._put(path, b"", {"Digest": told})
        return digest.hexdigest()

    def _piece(self, path: str, upload: str, piece: bytes, place: tuple[int, int]) -> str | None:
        """Send a piece, and return the digest that Beaker tells with the last one."""
        headers = {"Upload-Offset": str(place[0]), "Upload-Length": str(place[1])}
        try:
            answer = self._request(path, f"uploads/{upload}", "PATCH", piece, headers)
        except BeakerNotFoundError as error:
            # The upload is gone. Whether the dataset is, too, shows when it is begun anew.
            raise BeakerDamagedError(error.message, "repeat the command") from error
        told: str | None = answer.headers.get("Digest")
        return told

    def _put(self, path: str, body: bytes, headers: dict[str, str]) -> None:
        self._request(path, f"datasets/{self._storage.id}/files/{path}", "PUT", body, headers)

    def _request(
        self, path: str, resource: str, method: str, body: bytes | None = None, headers: Any = None
    ) -> Any:
        storage = self._storage
        return self._account.call(
            f"dataset {self._dataset.name}: {path}",
            lambda: self._service.http_request(
                resource,
                method=method,
                data=body,
                headers=headers,
                token=storage.token,
                base_url=storage.base_url,
                exceptions_for_status={
                    403: theirs.BeakerDatasetWriteError("it is committed, or not ours to write"),
                    404: theirs.BeakerDatasetNotFound(self._dataset.id),
                },
            ),
        )


def opened(account: Account, dataset: Dataset) -> Any:
    """How a dataset that is not committed is written, asked anew."""
    what, service = f"dataset {dataset.name}", account.client.dataset
    made = account.call(
        what,
        lambda: service.http_request(
            f"datasets/{dataset.id}",
            exceptions_for_status={404: theirs.BeakerDatasetNotFound(dataset.id)},
        ).json(),
    )
    return storage_of(what, made)


def _is_of(told: str, digest: bytes) -> bool:
    """Whether Beaker tells this SHA-256, or a digest of a kind that we do not make."""
    if not told.lower().startswith(_ALGORITHM):
        return True
    try:
        return base64.b64decode(told[len(_ALGORITHM) :], validate=True) == digest
    except (binascii.Error, ValueError):
        return False


def _joined(blocks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of one size, the last may be shorter; what has that size is not copied."""
    waiting: list[bytes] = []
    length = 0
    for block in blocks:
        waiting.append(block)
        length += len(block)
        while length >= size:
            whole = waiting[0] if len(waiting) == 1 else b"".join(waiting)
            yield whole[:size]
            waiting, length = [whole[size:]], length - size
    if length:
        yield b"".join(waiting)


def _hashed(blocks: Iterator[bytes], digest: Any) -> Iterator[bytes]:
    for block in blocks:
        digest.update(block)
        yield block


def _ahead(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same blocks, each made in another thread while the one before is being used."""
    with ThreadPoolExecutor(1, "beaker-ahead") as pool:
        coming = pool.submit(next, blocks, None)
        while (block := coming.result()) is not None:
            coming = pool.submit(next, blocks, None)
            yield block
