"""What the server remembers, in memory alone, of files on their way in.

Owns turns (who may change a dataset or an upload now), the running hashes of uploads, and why an upload of a
file failed. All of it may be lost at any moment: hashes are made again from the file.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

REMEMBERED = 1024
SWEEP_EVERY = 600 * 10**9


class Transfers:
    """See the module's docstring. Threads share it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._turns: dict[str, tuple[threading.Lock, list[None]]] = {}
        self._hashes: OrderedDict[str, tuple[int, Any]] = OrderedDict()
        self._failures: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._tokens: OrderedDict[tuple[str, str, str | None], tuple[str, int]] = OrderedDict()
        self._swept: int | None = None

    @contextmanager
    def turn(self, key: str) -> Iterator[None]:
        """Be the only one with this key. Take it before the database, never inside a transaction."""
        with self._guard:
            lock, waiting = self._turns.setdefault(key, (threading.Lock(), []))
            waiting.append(None)
        try:
            with lock:
                yield
        finally:
            with self._guard:
                waiting.pop()
                if not waiting:
                    del self._turns[key]

    def hash_of(self, upload: str, received: int) -> Any | None:
        """A copy of an upload's hash over so many bytes, if it is known."""
        with self._guard:
            known, digest = self._hashes.get(upload, (-1, None))
            return digest.copy() if digest is not None and known == received else None

    def keep_hash(self, upload: str, received: int, digest: Any) -> None:
        """Remember an upload's hash over so many bytes."""
        with self._guard:
            self._hashes[upload] = (received, digest)
            _forget(self._hashes)

    def drop_hash(self, upload: str) -> None:
        """Forget an upload."""
        with self._guard:
            self._hashes.pop(upload, None)

    def failed(self, dataset: str, path: str, why: str) -> None:
        """Remember why a file could not be kept."""
        with self._guard:
            self._failures[dataset, path] = why
            _forget(self._failures)

    def why_failed(self, dataset: str, path: str) -> str | None:
        """Why the last upload of a file failed."""
        with self._guard:
            return self._failures.get((dataset, path))

    def kept(self, dataset: str, path: str) -> None:
        """Forget that a file could not be kept."""
        with self._guard:
            self._failures.pop((dataset, path), None)

    def token(self, dataset: str, user: str, job: str | None) -> tuple[str, int] | None:
        """The storage token that was last made for this caller, and when it ends; it may be revoked."""
        with self._guard:
            return self._tokens.get((dataset, user, job))

    def keep_token(self, dataset: str, user: str, job: str | None, token: tuple[str, int]) -> None:
        """Remember a storage token and when it ends."""
        with self._guard:
            self._tokens[dataset, user, job] = token
            _forget(self._tokens)

    def time_to_sweep(self, now: int) -> bool:
        """Whether nobody has swept for a while; who is told so does it."""
        with self._guard:
            due = self._swept is None or now - self._swept > SWEEP_EVERY
            if due:
                self._swept = now
            return due


def sha256() -> Any:
    """A new hash."""
    return hashlib.sha256()


def _forget(known: OrderedDict[Any, Any]) -> None:
    while len(known) > REMEMBERED:
        known.popitem(last=False)
