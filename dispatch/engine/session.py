"""A job as a container for a person: what the job would get, with a terminal or a pipe at its stdin.

Owns how such a container differs from a job's: it is removed by the engine when it ends, by its guard when
its client does, and by the next session's sweep when both were killed. It carries no label of a run, so that
nobody takes it for a job; its GPUs are labelled as a job's are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from dispatch._docker import Door
from dispatch._docker.containers import ContainerSpec, exit_code
from dispatch._docker.guard import Guard
from dispatch._docker.terminal import Connection, Descriptors, raw, resized
from dispatch.engine.base import STEP_LABEL, Capabilities, JobSpec
from dispatch.engine.container import GPUS_LABEL, container_of
from dispatch.engine.sandbox import Sandbox

SESSION_LABEL = "dispatch.shell"


@dataclass(frozen=True)
class Session:
    """A session to be: ``name`` is its container's, ``owner`` tells its client from every other process."""

    job: JobSpec
    name: str
    owner: str
    user: Descriptors


def run_session(door: Door, capabilities: Capabilities, session: Session) -> int:
    """Let a person work in a job's container, and return the exit code. Nothing of it stays.

    :raises HungUpError: when the terminal goes away
    :raises EngineError: when the engine refuses, or goes away
    """
    containers, job, user = door.containers, session.job, session.user
    sandbox = Sandbox.of(job.attempt_dir, capabilities.uid, capabilities.gid)
    spec = _container(session, sandbox)
    with Guard(door.address, session.name, job.attempt_dir), contextlib.ExitStack() as held:
        containers.create(spec)
        sandbox.fill_source(job)
        attached = containers.attach(session.name)
        held.callback(attached.close)
        waiting = containers.next_exit(session.name)
        held.callback(waiting.close)
        containers.start(session.name)
        if spec.terminal:
            held.enter_context(resized(containers, session.name, user.stdout))()
            held.enter_context(raw(user.stdin))
        Connection(attached, user, terminal=spec.terminal).run()
        return exit_code(waiting)


def sweep(door: Door, alive: Callable[[str], bool]) -> None:
    """Remove sessions whose clients, and whose guards, were killed. ``alive`` judges an owner."""
    for row in door.containers.labelled(SESSION_LABEL):
        if not alive(row.labels[SESSION_LABEL]):
            door.containers.remove(row.name)


def _container(session: Session, sandbox: Sandbox) -> ContainerSpec:
    job = session.job
    places = sandbox.prepare(job)
    spec = container_of(job, session.name, f"{sandbox.uid}:{sandbox.gid}", places)
    labels = {SESSION_LABEL: session.owner, STEP_LABEL: job.step, GPUS_LABEL: spec.labels[GPUS_LABEL]}
    return replace(spec, labels=labels, stdin=True, terminal=session.user.terminal, auto_remove=True)
