"""Routes of storage: files of datasets as bodies, and large ones as uploads in pieces.

Owns the protocol: an upload is a row and a file in ``uploads/``; a piece either follows what was received,
or repeats some of it, which is fine; a piece that breaks off leaves nothing. Its digest is told when it is
whole, and with that the file is put in its place. Everything here takes the token of one dataset's storage.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from werkzeug.wrappers import Request, Response

from dispatch.beakerd import datasets
from dispatch.beakerd.access import Principal, Purpose
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.objects import checked, no_room
from dispatch.beakerd.problems import Kind, Problem, forbidden, invalid, not_found
from dispatch.beakerd.rest.app import Route
from dispatch.beakerd.rest.bodies import PIECE, BoundedBody, behind
from dispatch.beakerd.rest.receiving import receive
from dispatch.beakerd.store import datasets as store
from dispatch.beakerd.transfers import sha256

_PREFIX = "sha-256="


def put(backend: Backend, who: Principal, request: Request, dataset: str, _path: str) -> Response:
    """Keep a file: the body, or a finished upload that has the digest."""
    _bound(who, dataset)
    path = checked(behind(request, "files", query=True))
    with backend.database.read() as tx:
        store.writable(tx, who, dataset)
    try:
        with _trouble():
            _put(backend, who, request, dataset, path)
    except Problem as problem:
        backend.transfers.failed(dataset, path, problem.message)
        raise
    return Response(status=200)


def _put(backend: Backend, who: Principal, request: Request, dataset: str, path: str) -> None:
    body = BoundedBody(request, backend.config.limits.file_body)
    wanted = _digest(request)
    if wanted is not None and body.length == 0:
        _keep_finished(backend, who, dataset, path, wanted)
        return
    target = backend.layout.uploads / f"{backend.ids.new()}.part"
    try:
        with target.open("xb", buffering=0) as file:
            size, digest = receive(body, file, sha256())
        if wanted is not None and digest.digest() != wanted:
            raise invalid(f"file {path!r}: the body is not what `Digest` says")
        if body.chunked and not size:
            raise invalid(_spent(backend, dataset, path))
        staged = datasets.Staged(target, size, digest.digest())
        datasets.keep(backend, who, dataset, path, staged)
    finally:
        target.unlink(missing_ok=True)


def _spent(backend: Backend, dataset: str, path: str) -> str:
    """Why a body without bytes and without a length is no empty file.

    The public client repeats an upload that failed with the same open file, which is at its end by then; it
    sends real empty files with a length. What was the matter at first is what its user wants to know.
    """
    first = backend.transfers.why_failed(dataset, path)
    why = f"; before, it was refused: {first}" if first else ""
    return f"file {path!r}: this repeats an upload without its bytes, send the file anew{why}"


def delete(backend: Backend, who: Principal, request: Request, dataset: str, _path: str) -> Response:
    """Remove a file."""
    _bound(who, dataset)
    datasets.remove_file(backend, who, dataset, checked(behind(request, "files", query=True)))
    return Response(status=204)


def begin(backend: Backend, who: Principal, _request: Request) -> Response:
    """Begin an upload."""
    datasets.sweep(backend)
    dataset, upload = who.subject or "", backend.ids.new()
    with _trouble(), backend.database.write() as tx:
        _bound(who, dataset)
        store.writable(tx, who, dataset)
        store.begin_upload(tx, upload, dataset, backend.clock.now())
        (backend.layout.uploads / upload).touch(mode=0o644)
    return Response(status=200, headers={"Upload-ID": upload})


@dataclass(frozen=True)
class _Piece:
    """One piece of an upload: where it begins, and how long the whole is."""

    offset: int
    total: int
    body: BoundedBody


def piece(backend: Backend, who: Principal, request: Request, upload: str) -> Response:
    """Take the next piece of an upload, or one again that is there already."""
    limits = backend.config.limits
    part = _Piece(
        _number(request, "Upload-Offset"),
        _number(request, "Upload-Length"),
        BoundedBody(request, min(limits.file_body, limits.upload)),
    )
    if part.total > limits.upload:
        raise Problem(Kind.TOO_LARGE, f"Upload-Length: is more than {limits.upload} bytes")
    if part.body.length is None:
        raise invalid("a piece of an upload needs a Content-Length")
    if part.offset + part.body.length > part.total:
        raise invalid("the piece ends behind Upload-Length")
    with backend.transfers.turn(upload), _trouble():
        digest = _take(backend, who, upload, part)
    headers = {"Upload-Offset": str(part.offset + part.body.length)}
    if digest is not None:
        headers["Digest"] = f"SHA-256={base64.b64encode(digest).decode()}"
    return Response(status=200, headers=headers)


def _take(backend: Backend, who: Principal, upload: str, part: _Piece) -> bytes | None:
    """Add a piece, and return the digest when it was the last."""
    with backend.database.read() as tx:
        row = store.upload(tx, upload)
        _bound(who, row["dataset_id"])
        store.writable(tx, who, row["dataset_id"])
    received, length = row["received"], part.body.length or 0
    if row["length"] not in (None, part.total):
        raise invalid(f"Upload-Length: was {row['length']} before")
    if part.offset + length <= received:
        for _ in part.body.pieces():
            pass
        last = part.offset + length == part.total
        return bytes(row["sha256"]) if last and row["sha256"] is not None else None
    if part.offset != received:
        raise invalid(f"Upload-Offset: {received} bytes are here, the next piece begins there")
    path = backend.layout.uploads / upload
    with path.open("r+b", buffering=0) as file:
        digest = backend.transfers.hash_of(upload, received) or _hash_again(file, received)
        file.truncate(received)
        file.seek(received)
        try:
            _, digest = receive(part.body, file, digest)
        except BaseException:
            file.truncate(received)
            raise
    received += length
    whole = digest.digest() if received == part.total else None
    with backend.database.write() as tx:
        store.extend_upload(tx, upload, part.total, received, whole)
    if whole is None:
        backend.transfers.keep_hash(upload, received, digest)
    else:
        backend.transfers.drop_hash(upload)
    return whole


def _hash_again(file: BinaryIO, received: int) -> Any:
    """The hash of what an upload has, from its file: the server was started anew since."""
    digest, left, room = sha256(), received, bytearray(PIECE)
    file.seek(0)
    while left:
        count = file.readinto(memoryview(room)[: min(left, len(room))])  # type: ignore[attr-defined]
        if not count:
            raise Problem(Kind.TROUBLE, "the upload is no longer on the server's disk: begin it anew")
        digest.update(memoryview(room)[:count])
        left -= count
    return digest


def _keep_finished(backend: Backend, who: Principal, dataset: str, path: str, wanted: bytes) -> None:
    while True:
        staged = _finished(backend, dataset, path, wanted)
        if staged is None:
            return
        try:
            datasets.keep(backend, who, dataset, path, staged)
        except Problem as problem:
            # Of two files with the same bytes each has an upload; both requests may have chosen this one.
            if problem.kind is not Kind.NOT_FOUND:
                raise
            with backend.database.read() as tx:
                store.find(tx, who, dataset)
        else:
            return


def _finished(backend: Backend, dataset: str, path: str, wanted: bytes) -> datasets.Staged | None:
    """The finished upload with a digest; None when the path has just that file already (a repeated request).

    :raises Problem: INVALID, when there is no such upload
    """
    if wanted == sha256().digest():
        raise invalid(f"file {path!r}: the digest is that of an empty file, which is sent as a body")
    with backend.database.read() as tx:
        row = store.finished_upload(tx, dataset, wanted)
        if row is not None:
            return datasets.Staged(
                backend.layout.uploads / row["id"], row["length"], row["sha256"], upload=row["id"]
            )
        with suppress(Problem):
            if store.file(tx, dataset, path)["sha256"] == wanted:
                return None
    raise invalid(f"file {path!r}: no finished upload of this dataset has this digest")


def _digest(request: Request) -> bytes | None:
    text = request.headers.get("Digest")
    if text is None:
        return None
    try:
        value = base64.b64decode(text[len(_PREFIX) :], validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if not text.lower().startswith(_PREFIX) or len(value) != sha256().digest_size:
        raise invalid("Digest: is none of the form SHA-256=<base64>")
    return value


def _number(request: Request, name: str) -> int:
    text = request.headers.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise invalid(f"{name}: is not a number of bytes")
    return int(text)


def _bound(who: Principal, dataset: str) -> None:
    """Hold that a token is for this dataset's storage: not another's, and no link to one file."""
    if who.subject != dataset:
        raise forbidden(f"dataset {dataset!r}: this token is for another")


@contextmanager
def _trouble() -> Iterator[None]:
    """Say it where the disk is full."""
    try:
        yield
    except FileNotFoundError as error:
        raise not_found("upload", Path(error.filename or "").name) from error
    except OSError as error:
        problem = no_room(error)
        if problem is None:
            raise
        raise problem from error


_STORAGE = (Purpose.STORAGE,)
_FILE = "/datasets/<dataset>/files/<path:_path>"
ROUTES = [
    Route("PUT", _FILE, put, purposes=_STORAGE, largest=None),
    Route("DELETE", _FILE, delete, purposes=_STORAGE),
    Route("POST", "/uploads", begin, purposes=_STORAGE),
    Route("PATCH", "/uploads/<upload>", piece, purposes=_STORAGE, largest=None),
]
