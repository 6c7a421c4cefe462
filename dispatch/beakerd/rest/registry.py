"""The registry of images: OCI distribution (Docker Registry v2), as engines push to it and pull from it.

Owns its paths, its errors and its tokens; ``registry_blobs`` and ``registry_manifests`` answer. A repository
is an image. What is refused is refused in the specification's form, whatever was asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from werkzeug.wrappers import Request, Response

from dispatch.beakerd.access import Principal, Purpose
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.problems import Problem
from dispatch.beakerd.rest import registry_blobs, registry_manifests
from dispatch.beakerd.rest.app import Route, bearer, reply
from dispatch.beakerd.rest.bodies import BrokenBody
from dispatch.beakerd.rest.distribution import Call, Code, Refusal, refusal_of
from dispatch.beakerd.store import images

Handler = Callable[..., Response]

_LONGEST = 1024
_NAME = re.compile(r"[0-9a-hjkmnp-tv-z]{26}")
# More special ones first: a part of a path has no slash in it.
_PATHS: tuple[tuple[re.Pattern[str], dict[str, Handler]], ...] = (
    (re.compile(r"(.+)/tags/list"), {"GET": registry_manifests.tags}),
    (
        re.compile(r"(.+)/manifests/([^/]+)"),
        {"GET": registry_manifests.get, "HEAD": registry_manifests.get, "PUT": registry_manifests.put},
    ),
    (re.compile(r"(.+)/blobs/uploads/?"), {"POST": registry_blobs.begin}),
    (
        re.compile(r"(.+)/blobs/uploads/([^/]+)"),
        {
            "GET": registry_blobs.status,
            "PATCH": registry_blobs.append,
            "PUT": registry_blobs.finish,
            "DELETE": registry_blobs.cancel,
        },
    ),
    (re.compile(r"(.+)/blobs/([^/]+)"), {"GET": registry_blobs.get, "HEAD": registry_blobs.get}),
)


def answer(backend: Backend, _who: Principal | None, request: Request, rest: str = "") -> Response:
    """Answer whatever is asked of the registry."""
    try:
        response = _answer(backend, request, rest)
    except Refusal as refusal:
        response = refusal.response()
    except Problem as problem:
        response = refusal_of(problem).response()
    except BrokenBody as error:
        response = Refusal(Code.BLOB_UPLOAD_INVALID, f"the body broke off: {error}").response()
    response.headers["Docker-Distribution-API-Version"] = "registry/2.0"
    return response


def _answer(backend: Backend, request: Request, rest: str) -> Response:
    who = _caller(backend, request)
    if not rest:
        if request.method not in ("GET", "HEAD"):
            raise Refusal(Code.UNSUPPORTED, f"/v2/: {request.method} is nothing here")
        return reply({})
    if len(rest) > _LONGEST:
        raise Refusal(Code.NAME_INVALID, f"the path is longer than {_LONGEST} characters")
    for pattern, methods in _PATHS:
        found = pattern.fullmatch(rest)
        if found is not None:
            name, *parts = found.groups()
            if request.method not in methods:
                raise Refusal(Code.UNSUPPORTED, f"/v2/{rest}: {request.method} is nothing here")
            return methods[request.method](_call(backend, who, request, name), *parts)
    raise Refusal(Code.NAME_UNKNOWN, f"/v2/{rest}: there is nothing here")


def _caller(backend: Backend, request: Request) -> Principal:
    token = bearer(request.headers.get("Authorization", ""))
    with backend.database.read() as tx:
        return backend.access.principal(tx, token, Purpose.USER, Purpose.JOB, Purpose.REGISTRY)


def _call(backend: Backend, who: Principal, request: Request, name: str) -> Call:
    if not _NAME.fullmatch(name):
        raise Refusal(Code.NAME_UNKNOWN, f"repository {name!r}: repositories here are ids of images")
    with backend.database.read() as tx:
        image = images.visible(tx, who, name.upper())
    if image.source != images.REGISTRY:
        raise Refusal(Code.NAME_UNKNOWN, f"image {image.full_name}: it is in the engine, not in the registry")
    if who.purpose is Purpose.REGISTRY and who.subject != image.id:
        raise Refusal(Code.DENIED, f"repository {name}: the token is for another image")
    if who.purpose is not Purpose.REGISTRY and image.committed is None:
        raise Refusal(Code.DENIED, f"repository {name}: the image is not committed")
    return Call(backend, who, request, image, name)


ROUTES = [
    Route(method, path, answer, purposes=(), largest=None)
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
    for path in ("/v2/", "/v2/<path:rest>")
]
