"""The registry's blobs: looked for, sent, and received, in one request or in many.

Owns uploads as the specification has them. An upload may be gone on from after the client, or this server,
was away. A blob that another image of the caller's has is taken from there.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from typing import NoReturn

from werkzeug.wrappers import Response

from dispatch.beakerd.blobs import PUSH, BusyPush, CorruptBlob
from dispatch.beakerd.rest.bodies import pieces
from dispatch.beakerd.rest.distribution import Call, Code, Refusal
from dispatch.beakerd.store import registry
from dispatch.beakerd.store.registry import Push

_RANGE = re.compile(r"(?:bytes[ =])?([0-9]{1,18})-([0-9]{1,18})(?:/.*)?")


def get(call: Call, digest: str) -> Response:
    """A blob, whole or a range of it, or with HEAD only whether it is there."""
    digest = call.digest(digest)
    size = _find(call, digest)
    if size is None:
        raise Refusal(Code.BLOB_UNKNOWN, f"blob {digest} is not in repository {call.name}")
    start, stop, status = 0, size, 200
    wanted = call.request.range
    if wanted is not None and wanted.units == "bytes" and len(wanted.ranges) == 1:
        part = wanted.range_for_length(size)
        if part is None:
            raise Refusal(
                Code.RANGE_INVALID, f"the blob has {size} bytes", {"Content-Range": f"bytes */{size}"}
            )
        (start, stop), status = part, 206
    response = Response(status=status, mimetype="application/octet-stream")
    if call.request.method != "HEAD":
        response.response = _sent(call, digest, start, stop - start)
    if status == 206:
        response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    response.headers["Content-Length"] = str(stop - start)
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Docker-Content-Digest"] = digest
    response.headers["ETag"] = f'"{digest}"'
    return response


def begin(call: Call) -> Response:
    """An upload: begun, or done in this one request, or spared because the blob is here already."""
    call.must_push()
    mount, digest = call.request.args.get("mount"), call.request.args.get("digest")
    if mount is not None and _find(call, call.digest(mount)) is not None:
        return _created(call, mount)
    if digest is not None:
        call.digest(digest)
    push = call.backend.ids.new()
    with call.backend.database.write() as tx:
        registry.begin_push(tx, push, call.image.id, call.backend.clock.now())
    call.blobs.begin(push)
    return _accepted(call, push, 0, 202) if digest is None else _finish(call, push, digest)


def status(call: Call, push: str) -> Response:
    """How much of an upload is there."""
    call.must_push()
    _known(call, push)
    return _accepted(call, push, call.blobs.received(push), 204)


def append(call: Call, push: str) -> Response:
    """More of an upload."""
    call.must_push()
    _known(call, push)
    return _accepted(call, push, _receive(call, push), 202)


def finish(call: Call, push: str) -> Response:
    """The end of an upload, maybe with its last part."""
    call.must_push()
    _known(call, push)
    return _finish(call, push, call.digest(call.request.args.get("digest", "")))


def cancel(call: Call, push: str) -> Response:
    """An upload that nobody wants any more."""
    call.must_push()
    _known(call, push)
    _end(call, push)
    return Response(status=204)


def _find(call: Call, digest: str) -> int | None:
    """The size of a blob that the repository has, or, for one who pushes, that it may have from another."""
    blobs, database = call.blobs, call.backend.database
    with database.read() as tx:
        size = registry.blob_size(tx, call.image.id, digest)
        other = registry.blob_size_elsewhere(tx, call.who, digest) if call.pushes else None
    if size is not None and blobs.size(digest) == size:
        return size
    if other is None:
        return None
    with database.write() as tx:
        # Within the transaction nobody removes it: see blobs.
        if registry.blob_size_elsewhere(tx, call.who, digest) is None or blobs.size(digest) != other:
            return None
        registry.add_blob(tx, call.image.id, digest, other)
    return other


def _sent(call: Call, digest: str, start: int, length: int) -> Iterator[bytes]:
    try:
        yield from call.blobs.read(digest, start, length)
    except (CorruptBlob, OSError) as error:
        if isinstance(error, CorruptBlob):
            call.backend.say(f"registry: blob {digest} was damaged on the disk: removed; push it again")
            with call.backend.database.write():
                call.blobs.remove(digest)
        # The status is sent: a broken connection is what is left to say that this is not the blob.
        raise ConnectionResetError(errno.ECONNRESET, f"blob {digest}: {error}") from error


def _known(call: Call, push: str) -> Push:
    if PUSH.fullmatch(push):
        with call.backend.database.read() as tx:
            known = registry.push(tx, push, call.image.id)
        if known is not None:
            return known
    raise Refusal(Code.BLOB_UPLOAD_UNKNOWN, f"upload {push[:64]!r} is not known in repository {call.name}")


def _receive(call: Call, push: str) -> int:
    """Take the request's body, and return how much of the upload is there."""
    offset = _offset(call, push)
    try:
        received = call.blobs.append(push, pieces(call.request), call.backend.config.limits.upload, offset)
    except FileNotFoundError as error:
        raise Refusal(Code.BLOB_UPLOAD_UNKNOWN, f"upload {push} has ended") from error
    except BusyPush:
        _refuse_range(call, push, "it is being written to, or was meanwhile")
    if received.digest:
        with call.backend.database.write() as tx:
            registry.set_push(tx, push, Push(received.size, received.digest))
    return received.size


def _offset(call: Call, push: str) -> int | None:
    """Where the body says it begins."""
    header = call.request.headers.get("Content-Range")
    if header is None:
        return None
    found = _RANGE.fullmatch(header.strip())
    if found is None:
        raise Refusal(Code.BLOB_UPLOAD_INVALID, f"Content-Range {header[:64]!r}: write START-END")
    start, end = int(found[1]), int(found[2])
    length = call.request.content_length
    if end < start or (length is not None and length != end - start + 1):
        raise Refusal(Code.BLOB_UPLOAD_INVALID, f"Content-Range {header[:64]!r}: the body has another size")
    if start != call.blobs.received(push):
        _refuse_range(call, push, f"it does not go on at {start}")
    return start


def _refuse_range(call: Call, push: str, why: str) -> NoReturn:
    size = call.blobs.received(push)
    headers = {"Location": _location(call, push), "Range": _range(size), "Docker-Upload-UUID": push}
    raise Refusal(Code.RANGE_INVALID, f"upload {push}: {why}; {size} bytes are there", headers)


def _finish(call: Call, push: str, digest: str) -> Response:
    size = _receive(call, push)
    known = _known(call, push)
    found = known.digest if known.digest and known.size == size else call.blobs.hash(push)
    if found != digest:
        _end(call, push)
        raise Refusal(Code.DIGEST_INVALID, f"what was sent has the digest {found}, not {digest}")
    with call.backend.database.write() as tx:
        registry.end_push(tx, push)
        registry.add_blob(tx, call.image.id, digest, size)
        call.blobs.take(push, digest)
    return _created(call, digest)


def _end(call: Call, push: str) -> None:
    with call.backend.database.write() as tx:
        registry.end_push(tx, push)
    call.blobs.drop(push)


def _created(call: Call, digest: str) -> Response:
    response = Response(status=201)
    response.headers["Location"] = f"/v2/{call.name}/blobs/{digest}"
    response.headers["Docker-Content-Digest"] = digest
    return response


def _accepted(call: Call, push: str, size: int, status: int) -> Response:
    response = Response(status=status)
    response.headers["Location"] = _location(call, push)
    response.headers["Range"] = _range(size)
    response.headers["Docker-Upload-UUID"] = push
    return response


def _location(call: Call, push: str) -> str:
    return f"/v2/{call.name}/blobs/uploads/{push}"


def _range(size: int) -> str:
    return f"0-{max(0, size - 1)}"
