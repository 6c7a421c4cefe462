"""The registry's manifests and tags.

Owns what a repository needs to have before it takes a manifest: all that this refers to.
"""

from __future__ import annotations

import hashlib
import re

from werkzeug.wrappers import Response

from dispatch.beakerd.blobs import DIGEST
from dispatch.beakerd.manifests import LARGEST, InvalidManifest, Manifest, parse
from dispatch.beakerd.rest.app import reply
from dispatch.beakerd.rest.bodies import pieces
from dispatch.beakerd.rest.distribution import Call, Code, Refusal
from dispatch.beakerd.store import registry
from dispatch.beakerd.store.database import Transaction
from dispatch.beakerd.store.registry import StoredManifest

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_PAGE = 1000


def get(call: Call, reference: str) -> Response:
    """A manifest, or with HEAD what is known of it."""
    _check(reference)
    with call.backend.database.read() as tx:
        found = registry.manifest(tx, call.image.id, reference)
    if found is None:
        raise Refusal(Code.MANIFEST_UNKNOWN, f"repository {call.name} has no manifest {reference}")
    response = Response(found.body, content_type=found.media_type)
    response.headers["Docker-Content-Digest"] = found.digest
    response.headers["ETag"] = f'"{found.digest}"'
    return response


def put(call: Call, reference: str) -> Response:
    """Take a manifest under a tag or its digest; once the image is committed, only what is there anyway."""
    _check(reference)
    body = _body(call)
    new = StoredManifest(f"sha256:{hashlib.sha256(body).hexdigest()}", "", body)
    if DIGEST.fullmatch(reference) and reference != new.digest:
        raise Refusal(Code.DIGEST_INVALID, f"the manifest has the digest {new.digest}, not {reference}")
    with call.backend.database.read() as tx:
        old = registry.manifest(tx, call.image.id, reference)
    if old is None or old.digest != new.digest:
        call.must_push()
        try:
            manifest = parse(body, call.request.headers.get("Content-Type", ""))
        except InvalidManifest as error:
            raise Refusal(Code.MANIFEST_INVALID, f"manifest {reference}: {error}") from error
        new = StoredManifest(new.digest, manifest.media_type, body)
        with call.backend.database.write() as tx:
            _refuse_missing(call, tx, manifest)
            registry.add_manifest(tx, call.image.id, reference, new, call.backend.clock.now())
    response = Response(status=201)
    response.headers["Location"] = f"/v2/{call.name}/manifests/{new.digest}"
    response.headers["Docker-Content-Digest"] = new.digest
    return response


def tags(call: Call) -> Response:
    """The repository's tags, by pages of ``n`` after ``last``."""
    count = call.request.args.get("n", str(_PAGE))
    if not re.fullmatch(r"[0-9]{1,9}", count):
        raise Refusal(Code.UNSUPPORTED, f"n: {count[:64]!r} is no number")
    size = min(int(count), _PAGE)
    with call.backend.database.read() as tx:
        found = registry.tags(tx, call.image.id, call.request.args.get("last", ""), size + 1)
    response = reply({"name": call.name, "tags": found[:size]})
    if size and len(found) > size:
        response.headers["Link"] = f'</v2/{call.name}/tags/list?n={size}&last={found[size - 1]}>; rel="next"'
    return response


def _check(reference: str) -> None:
    if not DIGEST.fullmatch(reference) and not _TAG.fullmatch(reference):
        code = Code.DIGEST_INVALID if ":" in reference else Code.MANIFEST_UNKNOWN
        raise Refusal(code, f"{reference[:200]!r} is neither a tag nor a digest of SHA-256")


def _body(call: Call) -> bytes:
    parts, size = [], 0
    for piece in pieces(call.request):
        size += len(piece)
        if size > LARGEST:
            raise Refusal(Code.SIZE_INVALID, f"the manifest is larger than {LARGEST} bytes")
        parts.append(piece)
    return b"".join(parts)


def _refuse_missing(call: Call, tx: Transaction, manifest: Manifest) -> None:
    for blob in manifest.blobs:
        size = registry.blob_size(tx, call.image.id, blob.digest)
        if size is None or call.blobs.size(blob.digest) != size:
            raise Refusal(Code.MANIFEST_BLOB_UNKNOWN, f"blob {blob.digest} is not in repository {call.name}")
        if size != blob.size:
            raise Refusal(
                Code.MANIFEST_INVALID, f"blob {blob.digest} has {size} bytes, not {blob.size} as it says"
            )
    for child in manifest.children:
        if registry.manifest(tx, call.image.id, child.digest) is None:
            raise Refusal(Code.MANIFEST_BLOB_UNKNOWN, f"manifest {child.digest} is not in the repository")
