"""The control endpoint: faults on demand, for administrators of a server that has ``control`` on.

Owns what can be asked for. Without ``control`` none of it is there, for anyone: to clients such a server is
one that knows no such paths.
"""

from __future__ import annotations

from typing import Any

from werkzeug.wrappers import Request, Response

from dispatch.beakerd.access import Purpose, may_administer
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.faults import parse_rule
from dispatch.beakerd.problems import forbidden, invalid, not_found
from dispatch.beakerd.rest.app import Route, bearer, json_body, reply
from dispatch.beakerd.store import nodes, tokens
from dispatch.beakerd.store.database import Transaction
from dispatch.beakerd.store.lifecycle import Code
from dispatch.beakerd.store.queue import being_stopped

BODY = 64 * 1024


def add_fault(backend: Backend, _who: None, request: Request) -> Response:
    """Let a rule hold; see :class:`dispatch.beakerd.faults.Rule`."""
    _administrator(backend, request)
    name = backend.faults.add(parse_rule(json_body(request, BODY)))
    return reply({"id": name}, 201)


def list_faults(backend: Backend, _who: None, request: Request) -> Response:
    """The rules that hold, and how many requests each fitted and struck."""
    _administrator(backend, request)
    return reply({"faults": backend.faults.report()})


def end_fault(backend: Backend, _who: None, request: Request, fault: str) -> Response:
    """End one rule."""
    _administrator(backend, request)
    if not backend.faults.remove(fault):
        raise not_found("fault", fault)
    return reply({})


def end_faults(backend: Backend, _who: None, request: Request) -> Response:
    """End all rules."""
    _administrator(backend, request)
    backend.faults.clear()
    return reply({})


def revoke_tokens(backend: Backend, _who: None, request: Request) -> Response:
    """Let a user's tokens open nothing more, but for the one that asks."""
    own = _administrator(backend, request)
    user = json_body(request, BODY).get("user")
    with backend.database.write() as tx:
        return reply({"tokens": tokens.revoke(tx, _user(tx, user), but=own)})


def restore_tokens(backend: Backend, _who: None, request: Request) -> Response:
    """Let the tokens that were revoked open again what they did."""
    _administrator(backend, request)
    user = json_body(request, BODY).get("user")
    with backend.database.write() as tx:
        return reply({"tokens": tokens.restore(tx, _user(tx, user))})


def preempt_job(backend: Backend, _who: None, request: Request, job: str) -> Response:
    """Preempt a job as the system would, whatever its priority and minimum run time."""
    _administrator(backend, request)
    with backend.database.write() as tx:
        row = tx.execute("SELECT node_id FROM jobs WHERE id = ?", (job,)).fetchone()
        if row is None:
            raise not_found("job", job)
        if row["node_id"] is None:
            raise invalid(f"job {job!r} has no place to be preempted from")
        done = backend.lifecycle.stop(tx, job, Code.SYSTEM_PREEMPTION, "preempted, as was asked for")
        if not done:
            raise invalid(f"job {job!r} has ended")
        stopped = being_stopped(tx)
    _carry_out(backend, stopped)
    return reply({"job": job})


def lose_node(backend: Backend, _who: None, request: Request, node: str) -> Response:
    """Take a node away, and with it the jobs that run there; it gets no more until it is restored."""
    _administrator(backend, request)
    with backend.database.write() as tx:
        found = nodes.named(tx, node)
        nodes.lose(tx, found.id, backend.clock.now())
        jobs = nodes.jobs_on(tx, found.id)
        for job in jobs:
            backend.lifecycle.stop(tx, job, Code.NODE_UNAVAILABLE, f"node {found.hostname} is lost")
        stopped = being_stopped(tx)
    _carry_out(backend, stopped)
    return reply({"node": found.id, "hostname": found.hostname, "jobs": jobs})


def restore_node(backend: Backend, _who: None, request: Request, node: str) -> Response:
    """Let a lost node take jobs again."""
    _administrator(backend, request)
    with backend.database.write() as tx:
        found = nodes.named(tx, node)
        nodes.restore(tx, found.id)
    backend.jobs.changed()
    return reply({"node": found.id, "hostname": found.hostname})


def _administrator(backend: Backend, request: Request) -> str:
    """Refuse everyone without ``control``, and with it all but administrators; return the token."""
    if not backend.config.control:
        raise not_found("path", request.path)
    token = bearer(request.headers.get("Authorization", ""))
    with backend.database.read() as tx:
        if not may_administer(tx, backend.access.principal(tx, token, Purpose.USER)):
            raise forbidden("only an administrator of this server may do that")
    return token


def _user(tx: Transaction, name: Any) -> str:
    row = tx.execute("SELECT id FROM users WHERE name = ?", (str(name),)).fetchone()
    if row is None:
        raise not_found("user", str(name))
    return str(row["id"])


def _carry_out(backend: Backend, stopped: list[str]) -> None:
    for job in stopped:
        backend.jobs.stop(job)
    backend.jobs.changed()


# Nobody is asked for a token before it is said that there is nothing here.
ROUTES = [
    Route("POST", "/local/faults", add_fault, purposes=()),
    Route("GET", "/local/faults", list_faults, purposes=()),
    Route("DELETE", "/local/faults", end_faults, purposes=()),
    Route("DELETE", "/local/faults/<fault>", end_fault, purposes=()),
    Route("POST", "/local/tokens/revoke", revoke_tokens, purposes=()),
    Route("POST", "/local/tokens/restore", restore_tokens, purposes=()),
    Route("POST", "/local/jobs/<job>/preempt", preempt_job, purposes=()),
    Route("POST", "/local/nodes/<node>/lose", lose_node, purposes=()),
    Route("POST", "/local/nodes/<node>/restore", restore_node, purposes=()),
]
