"""Images over REST: made, given a place in the registry, and committed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from werkzeug.wrappers import Request, Response

from dispatch.beakerd import repositories
from dispatch.beakerd.access import Principal, Purpose, require
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.images import REGISTRY_USER, repository
from dispatch.beakerd.problems import forbidden, invalid, not_found
from dispatch.beakerd.repositories import TAG
from dispatch.beakerd.rest.app import Route, json_body, reply
from dispatch.beakerd.store import images
from dispatch.beakerd.store.database import Transaction
from dispatch.beakerd.store.images import NewImage

_LONGEST = 64 * 1024


def create(backend: Backend, who: Principal, request: Request) -> Response:
    """Make an image whose content is pushed next."""
    body = json_body(request, _LONGEST)
    name, workspace = request.args.get("name", ""), _text(body, "workspace")
    with backend.database.write() as tx:
        found = tx.execute("SELECT id, budget_id FROM workspaces WHERE id = ?", (workspace,)).fetchone()
        if found is None:
            raise not_found("workspace", workspace)
        require(tx, who, workspace, f"workspace {workspace}")
        budget = _text(body, "budget") or found["budget_id"]
        _refuse_unknown_budget(tx, budget)
        new = NewImage(
            author_id=who.user_id,
            workspace_id=workspace,
            name=name,
            budget_id=budget,
            description=_text(body, "description"),
            docker_id=_text(body, "imageId"),
            original_tag=_text(body, "imageTag"),
        )
        image = backend.ids.new()
        images.create(tx, new, backend.config.assume.names, image, backend.clock.now())
    return reply({"id": image})


def place(backend: Backend, who: Principal, request: Request, image: str) -> Response:
    """Where the registry has an image, with a token: to push (``upload``), or to pull it."""
    upload = request.args.get("upload", "").lower() in ("true", "1")
    with backend.database.write() as tx:
        found = images.changeable(tx, who, image) if upload else images.visible(tx, who, image)
        if upload and found.committed is not None:
            raise forbidden(f"image {image} is committed: its content stays as it is")
        if not upload and (found.committed is None or found.source != images.REGISTRY):
            raise invalid(f"image {image}: the registry has no committed image of it")
        key = Principal(who.user_id, Purpose.REGISTRY, who.workspace_id, who.job_id, found.id)
        token = backend.access.issue(tx, key, backend.config.limits.storage_token)
    address = repository(backend, found.id)
    auth = {"user": REGISTRY_USER, "password": token, "server_address": address.partition("/")[0]}
    return reply({"imageTag": f"{address}:{TAG}", "auth": auth})


def change(backend: Backend, who: Principal, request: Request, image: str) -> Response:
    """Commit an image."""
    if json_body(request, _LONGEST).get("commit") is not True:
        raise invalid('the body asks for nothing that is known here: {"commit": true}')
    return reply({"id": repositories.commit(backend, who, image).id})


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise invalid(f"{name}: this is no text")
    return value or ""


def _refuse_unknown_budget(tx: Transaction, budget: str | None) -> None:
    if budget and tx.execute("SELECT 1 FROM budgets WHERE id = ?", (budget,)).fetchone() is None:
        raise not_found("budget", budget)


ROUTES = [
    Route("POST", "/api/v3/images", create),
    Route("GET", "/api/v3/images/<image>/repository", place),
    Route("PATCH", "/api/v3/images/<image>", change),
]
