"""Routes of datasets and their files: making, committing, reading."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, BinaryIO

from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.http import http_date
from werkzeug.wrappers import Request, Response
from werkzeug.wsgi import FileWrapper

from dispatch.beakerd import datasets
from dispatch.beakerd.access import Principal, Purpose
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.objects import Tree, checked
from dispatch.beakerd.problems import forbidden, invalid, not_found
from dispatch.beakerd.rest.app import Route, json_body, message, reply
from dispatch.beakerd.rest.bodies import behind
from dispatch.beakerd.store import datasets as store

_HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
PIECE = 256 * 1024


def address(backend: Backend, request: Request) -> str:
    """Where this caller reaches the server: containers know it by another name than this machine does."""
    host = request.environ.get("HTTP_HOST", "")
    return f"{request.scheme}://{host if _HOST.fullmatch(host) else backend.addresses.rest}"


def create(backend: Backend, who: Principal, request: Request) -> Response:
    """Make a dataset."""
    body = json_body(request, backend.config.limits.json_body)
    asked = datasets.Asked(
        workspace=_text(body, "workspace") or "",
        name=request.args.get("name", ""),
        description=_text(body, "description") or "",
        budget=_text(body, "budget"),
    )
    dataset = datasets.create(backend, who, asked)
    return _shown(backend, who, request, dataset)


def get(backend: Backend, who: Principal, request: Request, dataset: str) -> Response:
    """A dataset, and how its files are reached."""
    return _shown(backend, who, request, dataset)


def patch(backend: Backend, who: Principal, request: Request, dataset: str) -> Response:
    """Change name and description, and commit."""
    body = json_body(request, backend.config.limits.json_body)
    committed = body.get("commit")
    if not isinstance(committed, bool | None):
        raise invalid("commit: is not true or false")
    datasets.change(backend, who, dataset, _text(body, "name"), _text(body, "description"))
    if committed:
        datasets.commit(backend, who, dataset)
    return _shown(backend, who, request, dataset)


def read(backend: Backend, who: Principal, request: Request, dataset: str, _path: str) -> Response:
    """A file, or a range of it."""
    if who.subject is not None and who.subject != dataset:
        raise forbidden(f"dataset {dataset!r}: this token is for another")
    return _file(backend, who, request, dataset, checked(behind(request, "files")))


def linked(backend: Backend, _who: Principal | None, request: Request, token: str, path: str) -> Response:
    """A file by a link, which has a token of its own in it."""
    with backend.database.read() as tx:
        who = backend.access.principal(tx, token, Purpose.STORAGE)
    dataset, _, linked_path = (who.subject or "").partition("/")
    if not linked_path or path != linked_path:
        raise not_found("link", path)
    return _file(backend, who, request, dataset, linked_path)


def _file(backend: Backend, who: Principal, request: Request, dataset: str, path: str) -> Response:
    with backend.database.read() as tx:
        store.find(tx, who, dataset)
        row = store.file(tx, dataset, path)
    file = None if request.method == "HEAD" else _open(backend, row)
    response = Response(
        FileWrapper(file, PIECE) if file else (),
        mimetype="application/octet-stream",
        headers={
            "Content-Length": str(row["size"]),
            "Digest": f"SHA-256={base64.b64encode(row['sha256']).decode()}",
            "Last-Modified": http_date(row["updated"] / 1e9),
        },
        direct_passthrough=True,
    )
    if file:
        response.call_on_close(file.close)
    response.set_etag(row["sha256"].hex())
    _mend_range(request, row["size"])
    try:
        return response.make_conditional(request, accept_ranges=True, complete_length=row["size"])
    except RequestedRangeNotSatisfiable:
        response.close()
        refused = message(416, f"file {path!r}: has {row['size']} bytes, and the range is not in it")
        refused.headers["Content-Range"] = f"bytes */{row['size']}"
        return refused


def _mend_range(request: Request, size: int) -> None:
    """Have a range read as RFC 9110 does where the library refuses: one of no meaning here, or several, are
    none; the last bytes of which there are fewer are all."""
    asked = request.range
    if asked is None or asked.units != "bytes" or len(asked.ranges) != 1:
        request.environ.pop("HTTP_RANGE", None)
    elif 0 < size < -asked.ranges[0][0]:
        request.environ["HTTP_RANGE"] = "bytes=0-"


def _open(backend: Backend, row: Any) -> BinaryIO:
    """The file of a row; not found, when it was replaced or removed just now, or is no longer on the disk."""
    try:
        file = Tree(backend.layout.files(row["dataset_id"])).open(row["path"])
    except FileNotFoundError as error:
        raise not_found("file", row["path"]) from error
    if os.fstat(file.fileno()).st_size != row["size"]:
        file.close()
        raise not_found("file", row["path"])
    return file


def _shown(backend: Backend, who: Principal, request: Request, dataset: str) -> Response:
    place = datasets.storage(backend, who, dataset)
    with backend.database.read() as tx:
        row = store.find(tx, who, dataset)
    value: dict[str, Any] = {
        "id": row["id"],
        "name": row["name"],
        "fullName": f"{row['author']}/{row['name']}" if row["name"] else row["id"],
        "author": {"id": row["author_id"], "name": row["author"]},
        "workspace": row["workspace_id"],
        "description": row["description"],
        "created": _when(row["created"]),
        # The public client takes no further keys, and another scheme of storage for one named urlv2.
        "storage": {
            "id": row["id"],
            "token": place.token,
            "tokenExpires": _when(place.expires),
            "address": address(backend, request),
            "totalSize": place.size,
            "numFiles": place.count,
        },
    }
    if row["committed"] is not None:
        value["committed"] = _when(row["committed"])
    return reply(value)


def _when(nanoseconds: int) -> str:
    moment = datetime.fromtimestamp(nanoseconds / 1e9, timezone.utc)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if not isinstance(value, str | None):
        raise invalid(f"{name}: is not text")
    return value


_API = "/api/v3/datasets"
_ANY = (Purpose.USER, Purpose.JOB, Purpose.STORAGE)
ROUTES = [
    Route("POST", _API, create, largest=None),
    Route("GET", f"{_API}/<dataset>", get),
    Route("PATCH", f"{_API}/<dataset>", patch, largest=None),
    Route("GET", f"{_API}/<dataset>/files/<path:_path>", read),
    Route("GET", "/datasets/<dataset>/files/<path:_path>", read, purposes=_ANY),
    Route("GET", "/links/<token>/<path:path>", linked, purposes=()),
]
