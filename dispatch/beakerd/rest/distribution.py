"""What all parts of the registry share: a call, its refusal, and who may do what.

Owns the registry's form of errors and its rights. A registry token opens one image: to push while that is not
committed, to pull always. Users and jobs pull what they may see.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from werkzeug.wrappers import Request, Response

from dispatch.beakerd.access import Principal, Purpose
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.blobs import DIGEST, Blobs
from dispatch.beakerd.problems import Kind, Problem
from dispatch.beakerd.store.images import Image


class Code(Enum):
    """The specification's errors, each with its HTTP status."""

    BLOB_UNKNOWN = ("BLOB_UNKNOWN", 404)
    BLOB_UPLOAD_INVALID = ("BLOB_UPLOAD_INVALID", 400)
    BLOB_UPLOAD_UNKNOWN = ("BLOB_UPLOAD_UNKNOWN", 404)
    DENIED = ("DENIED", 403)
    DIGEST_INVALID = ("DIGEST_INVALID", 400)
    MANIFEST_BLOB_UNKNOWN = ("MANIFEST_BLOB_UNKNOWN", 404)
    MANIFEST_INVALID = ("MANIFEST_INVALID", 400)
    MANIFEST_UNKNOWN = ("MANIFEST_UNKNOWN", 404)
    NAME_INVALID = ("NAME_INVALID", 400)
    NAME_UNKNOWN = ("NAME_UNKNOWN", 404)
    RANGE_INVALID = ("RANGE_INVALID", 416)
    SIZE_INVALID = ("SIZE_INVALID", 413)
    TROUBLE = ("UNKNOWN", 507)
    UNAUTHORIZED = ("UNAUTHORIZED", 401)
    UNSUPPORTED = ("UNSUPPORTED", 405)


_CODES = {
    Kind.UNAUTHENTICATED: Code.UNAUTHORIZED,
    Kind.FORBIDDEN: Code.DENIED,
    Kind.NOT_FOUND: Code.NAME_UNKNOWN,
    Kind.TOO_LARGE: Code.SIZE_INVALID,
    Kind.RANGE: Code.RANGE_INVALID,
    Kind.TROUBLE: Code.TROUBLE,
}


class Refusal(Exception):
    """A request that the registry refuses."""

    def __init__(self, code: Code, message: str, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.code = code
        self.message = message
        self.headers = headers or {}

    def response(self) -> Response:
        """What the client gets."""
        name, status = self.code.value
        body = json.dumps({"errors": [{"code": name, "message": self.message, "detail": None}]})
        answer = Response(body, status=status, mimetype="application/json")
        answer.headers.update(self.headers)
        if self.code is Code.UNAUTHORIZED:
            answer.headers["WWW-Authenticate"] = 'Basic realm="beaker", charset="UTF-8"'
        return answer


def refusal_of(problem: Problem) -> Refusal:
    """What a refusal of the other parts of the server is here."""
    return Refusal(_CODES.get(problem.kind, Code.BLOB_UPLOAD_INVALID), problem.message)


@dataclass(frozen=True)
class Call:
    """A request to one image's repository, whose ``name`` is the image's id in small letters."""

    backend: Backend
    who: Principal
    request: Request
    image: Image
    name: str
    blobs: Blobs = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "blobs", Blobs(self.backend.layout.blobs))

    @property
    def pushes(self) -> bool:
        """Whether the caller may add to the repository."""
        return self.who.purpose is Purpose.REGISTRY and self.image.committed is None

    def must_push(self) -> None:
        """Refuse a caller who may not add to the repository."""
        if self.image.committed is not None:
            raise Refusal(Code.DENIED, f"image {self.image.id} is committed: its content stays as it is")
        if not self.pushes:
            raise Refusal(Code.DENIED, "only a token made for pushing this image opens it")

    def digest(self, text: str) -> str:
        """A digest out of the request."""
        if not DIGEST.fullmatch(text):
            raise Refusal(Code.DIGEST_INVALID, f"{text!r} is no digest: sha256: and 64 small hex digits")
        return text
