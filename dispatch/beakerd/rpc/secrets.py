"""Secrets by name; values are read over REST alone."""

from __future__ import annotations

from typing import Any

from beaker import beaker_pb2 as pb2

from dispatch.beakerd.access import Principal
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.rpc.paging import SORT_ASCENDING, keyset, next_token, open_page
from dispatch.beakerd.rpc.server import Method
from dispatch.beakerd.store import secrets as store


def get_secret(backend: Backend, who: Principal, request: Any) -> Any:
    """A secret by name."""
    with backend.database.read() as tx:
        store.enter(tx, who, request.workspace_id)
        row = store.find(tx, request.workspace_id, request.secret_name)
    return pb2.GetSecretResponse(secret=_secret(row))


def list_secrets(backend: Backend, who: Principal, request: Any) -> Any:
    """A workspace's secrets, page by page."""
    options, place = open_page(request, backend.config.limits.page)
    clause = options.sort_clause
    by_name = clause.WhichOneof("sort_by") != "created"
    descending = not by_name if clause.sort_order == 0 else clause.sort_order != SORT_ASCENDING
    condition, order, values = keyset("s.name" if by_name else "s.created", descending, place)
    with backend.database.read() as tx:
        store.enter(tx, who, options.workspace_id)
        rows = store.select(tx, options.workspace_id, condition, values, order)
    page = rows[: place.size]
    response = pb2.ListSecretsResponse(secrets=[_secret(row) for row in page])
    if len(rows) > len(page):
        last = page[-1]
        response.next_page_token = next_token(options, last["name" if by_name else "created"], last["id"])
    return response


def _secret(row: Any) -> Any:
    secret = pb2.Secret(name=row["name"], author_id=row["author_id"])
    secret.created.FromNanoseconds(row["created"])
    secret.updated.FromNanoseconds(row["updated"])
    return secret


METHODS: dict[str, Method] = {"GetSecret": get_secret, "ListSecrets": list_secrets}
