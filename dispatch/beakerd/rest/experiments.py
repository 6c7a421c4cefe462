"""Experiments made over HTTP: the one thing of them that gRPC has no method for."""

from __future__ import annotations

import json
from typing import Any

from werkzeug.wrappers import Request, Response

from dispatch.beakerd.access import Principal
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.rest.app import Route, json_body, reply
from dispatch.beakerd.spec_reader import read_spec
from dispatch.beakerd.store import workloads
from dispatch.beakerd.store.references import References
from dispatch.beakerd.store.workloads import NewExperiment, Workloads


def create(backend: Backend, who: Principal, request: Request, workspace: str) -> Response:
    """Make an experiment of the body's spec, under the name in the query, and say its id."""
    body = json_body(request, backend.config.limits.json_body)
    spec = read_spec(body)
    text = json.dumps(body)
    with backend.database.write() as tx:
        row = workloads.workspace(tx, who, workspace)
        references = References(tx, who, row, backend.config.assume, backend.config.host_paths)
        experiment = changes(backend).create(
            tx,
            NewExperiment(
                name=request.args.get("name", ""),
                author_id=who.user_id,
                workspace_id=row["id"],
                text=text,
                spec=references.resolve(spec),
            ),
        )
    backend.jobs.changed()
    return reply(_answer(experiment, request.args.get("name", ""), who, row["id"]))


def changes(backend: Backend) -> Workloads:
    """What changes experiments, of this server's parts."""
    return Workloads(backend.clock, backend.ids, backend.lifecycle, backend.config.assume.names)


def _answer(experiment: str, name: str, who: Principal, workspace: str) -> dict[str, Any]:
    return {"id": experiment, "name": name or experiment, "author": who.user_id, "workspace": workspace}


ROUTES = [Route("POST", "/api/v3/workspaces/<workspace>/experiments", create, largest=None)]
