"""What ``dispatch beaker`` asks a running local Beaker, and what it answers, as values.

Owns the calls to the routes under ``/local/``. The server is another program, which may hang: each call has a
limit, and an answer that makes no sense is an error.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dispatch.errors import EngineError

CALL_LIMIT = 30.0
ENDED = ("canceled", "succeeded", "failed")


@dataclass(frozen=True)
class Endpoint:
    """How to reach a server, and which process it is: what it writes into ``endpoint.json``."""

    pid: int
    started: int
    boot: str
    rpc: str
    rest: str
    bridge: str | None
    ca: str
    admin_token: str
    control: bool
    rest_tls: bool
    proxy: str | None

    @property
    def url(self) -> str:
        """Where REST is."""
        return f"{'https' if self.rest_tls else 'http'}://{self.rest}"


@dataclass(frozen=True)
class Node:
    """One node: what it has, how many jobs it holds; ``simulated`` says what of it this machine lacks.

    A slot is a GPU where it has any, else a place for a job.
    """

    name: str
    cpus: float
    memory: int
    gpus: int
    gpu_type: str | None
    jobs: int
    slots: int
    free: int
    simulated: str
    cordoned: str
    lost: bool


@dataclass(frozen=True)
class Cluster:
    """One cluster."""

    name: str
    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Status:
    """What a running server says of itself. ``images`` are names; ``jobs`` are counted by their state."""

    version: str
    uptime: float
    users: tuple[str, ...]
    workspaces: tuple[str, ...]
    clusters: tuple[Cluster, ...]
    jobs: Mapping[str, int]
    datasets: int
    images: tuple[str, ...]
    disk: int
    control: bool
    engine: str
    engine_problem: str

    @property
    def unfinished(self) -> int:
        """How many jobs have not ended."""
        return sum(number for state, number in self.jobs.items() if state not in ENDED)


def read_endpoint(path: Path) -> Endpoint | None:
    """Read what a server wrote; None where there is none, or none that makes sense."""
    try:
        document = json.loads(path.read_text("utf-8"))
        return Endpoint(**{name: document[name] for name in Endpoint.__dataclass_fields__})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def ask_status(endpoint: Endpoint) -> Status:
    """Ask a server what it is, has and does. Raises EngineError."""
    document = call(endpoint, "GET", "/local/status")
    try:
        return Status(
            version=document["version"],
            uptime=document["uptime"],
            users=tuple(document["users"]),
            workspaces=tuple(document["workspaces"]),
            clusters=tuple(
                Cluster(each["name"], tuple(Node(**node) for node in each["nodes"]))
                for each in document["clusters"]
            ),
            jobs=dict(document["jobs"]),
            datasets=document["datasets"],
            images=tuple(each["name"] for each in document["images"]),
            disk=document["disk"],
            control=document["control"],
            engine=document["engine"]["address"],
            engine_problem=document["engine"]["problem"],
        )
    except (KeyError, TypeError) as error:
        raise _senseless(endpoint) from error


def stop_jobs(endpoint: Endpoint) -> int:
    """Have a server stop every job that has not ended, and return how many there were."""
    return int(call(endpoint, "POST", "/local/stop-jobs")["jobs"])


def call(endpoint: Endpoint, method: str, path: str) -> Mapping[str, Any]:
    """Make one call as the administrator of the server. Raises EngineError."""
    host, _, port = endpoint.rest.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=CALL_LIMIT)
    if endpoint.rest_tls:
        context = ssl.create_default_context(cafile=endpoint.ca)
        connection = http.client.HTTPSConnection(host, int(port), timeout=CALL_LIMIT, context=context)
    try:
        connection.request(method, path, headers={"Authorization": f"Bearer {endpoint.admin_token}"})
        reply = connection.getresponse()
        document = json.loads(reply.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise EngineError(
            f"the local Beaker at {endpoint.url} (process {endpoint.pid}) does not answer: {error}",
            "look into `dispatch beaker logs`, or `dispatch beaker down` and `up`",
        ) from error
    finally:
        connection.close()
    if reply.status != http.client.OK or not isinstance(document, dict):
        raise _senseless(endpoint)
    return document


def _senseless(endpoint: Endpoint) -> EngineError:
    return EngineError(
        f"what answers at {endpoint.url} is no local Beaker of this version of dispatch",
        "`dispatch beaker down`, then `up`, starts this one",
    )
