"""One file to a dataset or from it: in pieces, each repeated by itself, and gone on with where it broke off.

Owns the wire protocol of storage. Refuses to believe in digests: whoever calls compares them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests
import urllib3
from beaker import exceptions as theirs

from dispatch._beaker.account import Account
from dispatch._beaker.calls import words
from dispatch._beaker.datasets import Datasets
from dispatch._beaker.model import CreatedDataset
from dispatch._beaker.problems import BeakerError, BeakerUnreachableError

# What is larger goes as an upload of pieces; storage takes up to 32 MiB as one body.
PIECE = 16 << 20
TRIES = 5


class Sender:
    """Writes files of one dataset. May be used from several threads."""

    def __init__(self, account: Account, created: CreatedDataset) -> None:
        self._account = account
        self._created = created
        self._service = account.client.dataset

    def send(self, path: str, size: int, blocks: Iterator[bytes]) -> str:
        """Write a file of ``size`` bytes that come in blocks, and return their SHA-256.

        Blocks are made and hashed while the one before is on its way.
        """
        digest = hashlib.sha256()
        if size <= PIECE:
            body = b"".join(blocks)
            digest.update(body)
            self._put(path, body, {})
            return digest.hexdigest()
        upload = self._request(path, "uploads", "POST").headers["Upload-ID"]
        offset = 0
        for piece in _ahead(_hashed(_joined(blocks, PIECE), digest)):
            headers = {"Upload-Length": str(size), "Upload-Offset": str(offset)}
            answer = self._request(path, f"uploads/{upload}", "PATCH", piece, headers)
            offset += len(piece)
        told = answer.headers.get("Digest")
        if told is None:
            raise BeakerError(f"dataset {self._created.dataset.name}: {path}: Beaker keeps waiting for more")
        self._put(path, b"", {"Digest": told})
        return digest.hexdigest()

    def _put(self, path: str, body: bytes, headers: dict[str, str]) -> None:
        self._request(path, f"datasets/{self._created.storage.id}/files/{path}", "PUT", body, headers)

    def _request(
        self, path: str, resource: str, method: str, body: bytes | None = None, headers: Any = None
    ) -> Any:
        dataset, storage = self._created.dataset, self._created.storage
        return self._account.call(
            f"dataset {dataset.name}: {path}",
            lambda: self._service.http_request(
                resource,
                method=method,
                data=body,
                headers=headers,
                token=storage.token,
                base_url=storage.base_url,
                exceptions_for_status={
                    403: theirs.BeakerDatasetWriteError(dataset.id),
                    404: theirs.BeakerDatasetNotFound(dataset.id),
                },
            ),
        )


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


def received(datasets: Datasets, dataset_id: str, path: str) -> Iterator[bytes]:
    """Yield a file's bytes; a line that breaks off is taken up where it broke.

    :raises BeakerUnreachableError: it breaks off again and again, and nothing comes between
    """
    offset = idle = 0
    while True:
        before = offset
        try:
            for block in datasets.stream(dataset_id, path, offset):
                offset += len(block)
                yield block
            return
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            idle = 0 if offset > before else idle + 1
            if idle == TRIES:
                raise BeakerUnreachableError(
                    f"dataset {dataset_id}: {path}: breaks off at byte {offset}: {words(error)}",
                    "repeat the command; what has arrived is kept",
                ) from error
