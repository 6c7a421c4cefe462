"""Routes of this server's own, under ``/local/``, for ``dispatch beaker``: all but health for administrators.

Owns what the server says of itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from beaker import beaker_pb2 as pb2
from werkzeug.wrappers import Request, Response

from dispatch.beakerd.access import Principal, Purpose, may_administer
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.problems import forbidden
from dispatch.beakerd.process import VERSION, uptime
from dispatch.beakerd.rest.app import Route, reply
from dispatch.beakerd.store.clusters import Node, clusters
from dispatch.beakerd.store.database import Transaction
from dispatch.beakerd.store.lifecycle import Code
from dispatch.errors import EngineError

USER = (Purpose.USER,)


def health(_backend: Backend, _who: Principal | None, _request: Request) -> Response:
    """Say that the server answers."""
    return reply({"status": "ok"})


def status(backend: Backend, who: Principal, _request: Request) -> Response:
    """What the server is, has and does."""
    with backend.database.read() as tx:
        administer(tx, who)
        document: dict[str, Any] = {
            "version": VERSION,
            "pid": os.getpid(),
            "uptime": uptime(os.getpid()),
            "addresses": vars(backend.addresses),
            "users": [row["name"] for row in tx.execute("SELECT name FROM users ORDER BY created")],
            "workspaces": _workspaces(tx),
            "clusters": [*_clusters(tx)],
            "jobs": _jobs(tx),
            "datasets": tx.execute("SELECT count(*) FROM datasets").fetchone()[0],
            "images": [
                {"name": f"{row['owner']}/{row['name']}", "source": row["source"]}
                for row in tx.execute(
                    "SELECT i.name, i.source, coalesce(nullif(i.namespace, ''), u.name) AS owner"
                    " FROM images i JOIN users u ON u.id = i.author_id WHERE i.name != '' ORDER BY i.created"
                )
            ],
        }
    document["control"] = backend.config.control
    document["engine"] = _engine(backend)
    document["disk"] = disk_used(backend.layout.root)
    return reply(document)


def stop_jobs(backend: Backend, who: Principal, _request: Request) -> Response:
    """Write down the wish to stop for every job that has not ended, and say how many there are."""
    with backend.database.write() as tx:
        administer(tx, who)
        rows = tx.execute("SELECT id FROM jobs WHERE finalized IS NULL").fetchall()
        for row in rows:
            backend.lifecycle.stop(tx, row["id"], Code.MANUAL, "the server was told to end with its jobs")
    for row in rows:
        backend.jobs.stop(row["id"])
    return reply({"jobs": len(rows)})


def administer(tx: Transaction, who: Principal) -> None:
    """Refuse whoever may not look after the server itself."""
    if not may_administer(tx, who):
        raise forbidden("only an administrator of this server may do that")


def disk_used(root: Path) -> int:
    """How many bytes of disk the files below a directory take; what goes meanwhile does not count."""
    total, waiting = 0, [os.fspath(root)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue
    return total


def _workspaces(tx: Transaction) -> list[str]:
    rows = tx.execute(
        "SELECT o.name || '/' || w.name AS name FROM workspaces w JOIN organizations o"
        " ON o.id = w.organization_id ORDER BY w.created"
    )
    return [row["name"] for row in rows]


def _jobs(tx: Transaction) -> dict[str, int]:
    rows = tx.execute("SELECT status, count(*) AS number FROM jobs GROUP BY status").fetchall()
    name = pb2.WorkloadStatus.Name
    return {name(row["status"]).removeprefix("STATUS_").lower(): row["number"] for row in rows}


def _clusters(tx: Transaction) -> Iterator[dict[str, Any]]:
    """Clusters with their nodes, and what of them jobs hold."""
    for cluster in sorted(clusters(tx, None), key=lambda each: each.row["created"]):
        ordered = sorted(cluster.nodes, key=lambda each: each.row["created"])
        name = f"{cluster.row['organization']}/{cluster.row['name']}"
        yield {"name": name, "nodes": [_node(node) for node in ordered]}


def _node(node: Node) -> dict[str, Any]:
    row = node.row
    return {
        "name": row["hostname"],
        "cpus": row["cpus"] / 1000,
        "memory": row["memory"],
        "gpus": row["gpus"],
        "gpu_type": pb2.GpuType.Name(row["gpu_type"] or 0).removeprefix("GPU_TYPE_") if row["gpus"] else None,
        "jobs": node.jobs,
        "slots": node.slots.total,
        "free": node.slots.available,
        "simulated": row["simulated"],
        "cordoned": (row["cordon_reason"] or "by hand") if row["cordoned"] else "",
        "lost": bool(row["lost"]),
    }


def _engine(backend: Backend) -> dict[str, Any]:
    try:
        return {"address": str(backend.door.address), "answers": bool(backend.door.ping()), "problem": ""}
    except EngineError as error:
        return {"address": str(backend.door.address), "answers": False, "problem": error.message}


ROUTES = [
    Route("GET", "/local/health", health, purposes=()),
    Route("GET", "/local/status", status, purposes=USER),
    Route("POST", "/local/stop-jobs", stop_jobs, purposes=USER),
]
