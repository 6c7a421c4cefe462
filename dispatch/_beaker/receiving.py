"""One file from a dataset: gone on with where the line broke off, counted and hashed.

Refuses to know what the digest should be.
"""

from __future__ import annotations

from dispatch._beaker import _quiet  # noqa: F401  # isort: skip

import hashlib
from collections.abc import Iterator

import requests
import urllib3

from dispatch._beaker.calls import words
from dispatch._beaker.datasets import Datasets
from dispatch._beaker.problems import BeakerUnreachableError

TRIES = 5


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


class Checked:
    """A stream of blocks as a file to read, which counts and hashes what goes through."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._source = blocks
        self._rest = b""
        self._size = 0
        self._digest = hashlib.sha256()

    def blocks(self) -> Iterator[bytes]:
        """Yield what was not read yet, as it comes."""
        for block in self._source:
            self._size += len(block)
            self._digest.update(block)
            yield block

    def read(self, count: int, /) -> bytes:
        """Return so many bytes, fewer only at the end."""
        parts, left = [self._rest[:count]], count - min(count, len(self._rest))
        self._rest = self._rest[count:]
        while left:
            block = next(self.blocks(), b"")
            if not block:
                break
            parts.append(block[:left])
            self._rest = block[left:]
            left -= len(parts[-1])
        return b"".join(parts)

    def to_end(self) -> tuple[int, str]:
        """Read the rest, and return the size and SHA-256 of the whole."""
        for _ in self.blocks():
            pass
        return self.facts

    @property
    def facts(self) -> tuple[int, str]:
        """Size and SHA-256 of what came until now."""
        return self._size, self._digest.hexdigest()
