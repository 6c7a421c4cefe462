"""Blobs on their way to a registry and from there, whole or not at all.

Owns uploads (in pieces, gone on with where they broke off), downloads (likewise), and that what arrives has
the digest that was asked for. Blobs are files; none is held in memory.

Source: the OCI distribution specification.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urljoin

from dispatch._registry.calls import Calls, missing, unintelligible
from dispatch._registry.line import PIECE, Answer, Body
from dispatch._registry.manifest import Descriptor
from dispatch._registry.patience import Patience
from dispatch._registry.problems import (
    GivenUpError,
    RegistryBusyError,
    RegistryDamagedError,
    RegistryDeniedError,
    RegistryError,
    RegistryFullError,
    RegistryUnreachableError,
)

# What one request of an upload sends: all of the blob. Not every registry takes pieces, while this is what
# Docker's own client does; what breaks off is gone on with where the registry can tell how much has come.
UPLOAD_PIECE = 1 << 60
# How often a blob that arrives damaged is fetched or sent anew.
_DAMAGES = 3
_OCTETS = {"Content-Type": "application/octet-stream"}

Advance = Callable[[int], None]
Wanted = Callable[[], bool]


def always() -> bool:
    """For transfers that nobody gives up."""
    return True


def pull_scope(repository: str) -> str:
    """Return what reading a repository needs."""
    return f"repository:{repository}:pull"


def push_scope(repository: str) -> str:
    """Return what writing to a repository needs."""
    return f"repository:{repository}:pull,push"


@dataclass(frozen=True)
class Transfer:
    """One blob and its file. ``advance`` is told of bytes as they go; ``wanted`` says whether to go on."""

    repository: str
    blob: Descriptor
    file: Path
    advance: Advance = lambda _: None
    wanted: Wanted = always

    def watched(self, chunks: Iterator[bytes], tell: Advance) -> Iterator[bytes]:
        """Yield chunks until they are not wanted any more, telling of each once the reader is back."""
        for chunk in chunks:
            if not self.wanted():
                raise GivenUpError("interrupted")
            yield chunk
            tell(len(chunk))


class Upload:
    """One blob on its way to a registry; :meth:`send` it."""

    def __init__(self, calls: Calls, patience: Patience, transfer: Transfer, piece: int) -> None:
        self._calls = calls
        self._patience = patience
        self._transfer = transfer
        self._length = piece
        self._scopes = (push_scope(transfer.repository),)
        self._path = f"/v2/{transfer.repository}/blobs/"
        self._place = ""
        self._offset = 0
        self._furthest = 0
        self._told = 0
        self._refused = 0

    def send(self) -> bool:
        """Bring the blob there and return True; False if it was there."""
        return self._patience.until_done(self._attempt, lambda: self._furthest)

    def _attempt(self) -> bool:
        self._resume()
        if not self._place:
            if self._there():
                return False
            self._begin()
        self._tell(self._offset - self._told)
        size = self._transfer.blob.size
        while self._offset < size:
            self._piece(min(self._length, size - self._offset))
        self._finish()
        return True

    def _tell(self, amount: int) -> None:
        """Say how far it has come; less than before where something has to be sent again."""
        self._told += amount
        if amount:
            self._transfer.advance(amount)

    def _there(self) -> bool:
        answer = self._calls.ask("HEAD", self._path + self._transfer.blob.digest, self._scopes)
        return answer.status == 200

    def _begin(self) -> None:
        """Open an upload."""
        answer = self._calls.ask("POST", f"{self._path}uploads/", self._scopes, body=b"")
        if answer.status == 404:
            raise missing(f"{self._calls.host}/{self._transfer.repository}", answer.detail)
        self._follow(answer)
        if not self._place:
            raise unintelligible(self._calls.host, "it opens an upload and does not say where")
        self._offset = 0

    def _follow(self, answer: Answer) -> None:
        location = answer.headers.get("location")
        if location:
            self._place = urljoin(answer.url, location)

    def _resume(self) -> None:
        """After a break, ask how much has come; where nobody can tell, the upload begins anew."""
        if not self._place:
            return
        place, self._place = self._place, ""
        try:
            answer = self._calls.ask("GET", place, self._scopes)
        except RegistryBusyError:
            self._place = place
            raise
        except RegistryError:
            return
        first, dash, last = answer.headers.get("range", "").partition("-")
        # "0-0" may be one byte or none.
        if answer.status == 204 and first == "0" and dash and last.isdigit() and last != "0":
            self._place = place
            self._follow(answer)
            self._offset = min(int(last) + 1, self._transfer.blob.size)
            self._furthest = max(self._furthest, self._offset)

    def _piece(self, length: int) -> None:
        """Send the next piece."""
        start, end = self._offset, self._offset + length - 1
        transfer = self._transfer
        whole = start == 0 and length == transfer.blob.size
        headers = _OCTETS if whole else {**_OCTETS, "Content-Range": f"{start}-{end}"}

        def body() -> Body:
            return Body(transfer.watched(_part(transfer.file, start, length), self._tell), length)

        self._follow(self._accepted("PATCH", self._place, headers, body))
        self._offset = end + 1
        self._furthest = max(self._furthest, self._offset)

    def _finish(self) -> None:
        mark = "&" if "?" in self._place else "?"
        place = f"{self._place}{mark}digest={quote(self._transfer.blob.digest)}"
        self._accepted("PUT", place, _OCTETS, b"")

    def _accepted(
        self, method: str, place: str, headers: Mapping[str, str], body: Callable[[], Body] | bytes
    ) -> Answer:
        """Send a part of the upload; one that the registry cannot use makes it begin anew."""
        try:
            answer = self._calls.ask(method, place, self._scopes, headers, body)
        except (RegistryUnreachableError, RegistryDeniedError, RegistryFullError, GivenUpError):
            raise
        except RegistryError as error:
            # Something on the way has changed the bytes, or it has come to hold others than it thinks.
            raise self._lost(f"it did not take the blob ({error.message})") from error
        if answer.status >= 300:
            raise self._lost("it has lost the upload")
        return answer

    def _lost(self, fact: str) -> RegistryError:
        """Begin the upload anew, but not for ever."""
        self._place = ""
        self._refused += 1
        message = f"registry {self._calls.host}: {fact}"
        if self._refused > _DAMAGES:
            return RegistryDamagedError(
                message, "see what is between here and there, then repeat the command"
            )
        return RegistryBusyError(message)


class Download:
    """One blob on its way from a registry into a file; :meth:`fetch` it.

    What an earlier download left in the file is gone on with.
    """

    def __init__(self, calls: Calls, patience: Patience, transfer: Transfer) -> None:
        self._calls = calls
        self._patience = patience
        self._transfer = transfer
        self._scopes = (pull_scope(transfer.repository),)
        self._digest = hashlib.sha256()
        self._have = 0
        self._damaged = 0

    def fetch(self) -> None:
        """Fill the file with the blob."""
        self._take_up()
        self._patience.until_done(self._attempt, lambda: self._have)

    def _take_up(self) -> None:
        """Count what is in the file already."""
        transfer = self._transfer
        if not transfer.file.exists():
            return
        size = transfer.file.stat().st_size
        if size > transfer.blob.size:
            transfer.file.unlink()
            return
        for piece in _part(transfer.file, 0, size):
            self._digest.update(piece)
        self._have = size
        transfer.advance(size)

    def _attempt(self) -> None:
        size = self._transfer.blob.size
        if self._have < size or size == 0:
            self._more()
        if self._have < size:
            raise RegistryBusyError(f"registry {self._calls.host}: the line to it broke off")
        if f"sha256:{self._digest.hexdigest()}" == self._transfer.blob.digest:
            return
        self._again()
        self._damaged += 1
        fact = f"{self._what}: what the registry sends does not have this digest"
        if self._damaged > _DAMAGES:
            raise RegistryDamagedError(fact, "the registry's copy is damaged: push the image anew")
        raise RegistryBusyError(fact)

    @property
    def _what(self) -> str:
        return f"blob {self._transfer.blob.digest[:19]} of {self._calls.host}/{self._transfer.repository}"

    def _more(self) -> None:
        transfer = self._transfer
        headers = {"Range": f"bytes={self._have}-"} if self._have else {}
        path = f"/v2/{transfer.repository}/blobs/{transfer.blob.digest}"
        answer = self._calls.ask("GET", path, self._scopes, headers, stream=True)
        if answer.status == 404:
            raise missing(self._what)
        resumed = answer.status == 206 and answer.headers.get("content-range", "").startswith(
            f"bytes {self._have}-"
        )
        if self._have and not resumed:
            self._again()
            if answer.status != 200:
                answer.close()
                raise RegistryBusyError(f"{self._what}: the registry does not send the rest of it")
        with transfer.file.open("ab") as file:
            for piece in transfer.watched(answer.pieces(f"registry {self._calls.host}"), transfer.advance):
                if self._have + len(piece) > transfer.blob.size:
                    answer.close()
                    self._have += len(piece)
                    raise self._too_long()
                file.write(piece)
                self._digest.update(piece)
                self._have += len(piece)

    def _too_long(self) -> RegistryDamagedError:
        return RegistryDamagedError(f"{self._what}: it is longer than its image says")

    def _again(self) -> None:
        """Forget what has come."""
        self._transfer.file.unlink(missing_ok=True)
        self._transfer.advance(-self._have)
        self._digest = hashlib.sha256()
        self._have = 0


def _part(path: Path, start: int, length: int) -> Iterator[bytes]:
    """Yield a part of a file."""
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while length > 0 and (piece := file.read(min(PIECE, length))):
            length -= len(piece)
            yield piece
