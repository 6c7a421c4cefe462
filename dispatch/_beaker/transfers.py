"""One file to a dataset or from it: in pieces, each repeated by itself, and gone on with where it broke off.

Owns the wire protocol of storage. Refuses to believe in digests: whoever calls compares them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import requests
import urllib3
from beaker import exceptions as theirs

from dispatch._beaker.account import Account
from dispatch._beaker.calls import words
from dispatch._beaker.datasets import Datasets
from dispatch._beaker.model import CreatedDataset
from dispatch._beaker.problems import BeakerUnreachableError

# The most that storage takes as one body; what is larger goes as an upload of pieces.
BODY = 32 << 20
PIECE = 16 << 20
TRIES = 5


class Sender:
    """Writes files of one dataset. May be used from several threads."""

    def __init__(self, account: Account, created: CreatedDataset) -> None:
        self._account = account
        self._created = created
        self._service = account.client.dataset

    def send(self, path: str, size: int, blocks: Iterator[bytes]) -> str:
        """Write a file of ``size`` bytes that come in blocks, and return their SHA-256."""
        digest = hashlib.sha256()
        if size <= BODY:
            body = b"".join(blocks)
            digest.update(body)
            self._put(path, body, {})
            return digest.hexdigest()
        upload = self._request(path, "uploads", "POST").headers["Upload-ID"]
        offset, answer = 0, None
        for piece in _joined(blocks, PIECE):
            digest.update(piece)
            headers = {"Upload-Length": str(size), "Upload-Offset": str(offset)}
            answer = self._request(path, f"uploads/{upload}", "PATCH", piece, headers)
            offset += len(piece)
        assert answer is not None
        self._put(path, b"", {"Digest": answer.headers["Digest"]})
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
    """The same bytes in pieces of one size, the last may be shorter."""
    waiting: list[bytes] = []
    length = 0
    for block in blocks:
        waiting.append(block)
        length += len(block)
        while length >= size:
            whole = b"".join(waiting)
            yield whole[:size]
            rest = whole[size:]
            waiting, length = [rest], len(rest)
    if length:
        yield b"".join(waiting)


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
