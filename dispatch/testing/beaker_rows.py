"""Jobs of a local Beaker that nobody runs: rows as an experiment makes them, moved on by hand."""

from __future__ import annotations

from dispatch.beakerd.config import ClusterConfig, Config, NodeConfig
from dispatch.beakerd.spec import ImageSource, TaskSpec, dump_task
from dispatch.beakerd.store.database import Transaction
from dispatch.beakerd.store.lifecycle import Assignment, NewJob
from dispatch.testing.beaker import LocalBeaker

BY_HAND = Config(
    clusters=(ClusterConfig("ai2/general-cirrascale", (NodeConfig("local-1", cordoned="jobs by hand"),)),)
)


class HandJobs:
    """Jobs of one server, made and moved on through its lifecycle.

    Those that wait need a server whose nodes are all cordoned (BY_HAND), or its scheduler gives them a place.
    """

    def __init__(self, beaker: LocalBeaker):
        assert beaker.server.backend is not None
        self._backend = beaker.server.backend

    def queue(self, workspace: str = "ai2/my-workspace", author: str = "me") -> str:
        """Make an experiment of one task, and return its job, which waits."""
        with self._backend.database.write() as tx:
            job = self._queue(tx, workspace, author)
        self._backend.layout.job(job).mkdir(parents=True)
        return job

    def run(self, node: str, gpus: tuple[str, ...] = (), author: str = "me") -> str:
        """Make a job that runs on a node, and return it; at no moment it waits."""
        with self._backend.database.write() as tx:
            job = self._queue(tx, "ai2/my-workspace", author)
            assert self._backend.lifecycle.assign(tx, job, Assignment(node, gpus))
            self._backend.lifecycle.start(tx, job, self._backend.clock.now())
        return job

    def end(self, job: str, code: int = 0) -> None:
        """Let a job exit, and finalize it."""
        with self._backend.database.write() as tx:
            self._backend.lifecycle.exit(tx, job, self._backend.clock.now(), code)
            self._backend.lifecycle.finalize(tx, job)

    def _queue(self, tx: Transaction, workspace: str, author: str) -> str:
        backend = self._backend
        organization, _, name = workspace.partition("/")
        experiment, task = backend.ids.new(), backend.ids.new()
        place, owner = tx.execute(
            "SELECT w.id, u.id FROM workspaces w JOIN organizations o ON o.id = w.organization_id"
            " JOIN users u WHERE o.name = ? AND w.name = ? AND u.name = ?",
            (organization, name, author),
        ).fetchone()
        tx.execute(
            "INSERT INTO experiments (id, author_id, workspace_id, spec, created) VALUES (?, ?, ?, '{}', ?)",
            (experiment, owner, place, backend.clock.now()),
        )
        tx.execute(
            "INSERT INTO tasks (id, experiment_id, position, spec, status, created)"
            " VALUES (?, ?, 0, ?, 2, ?)",
            (task, experiment, dump_task(TaskSpec(ImageSource(docker="busybox"))), backend.clock.now()),
        )
        return backend.lifecycle.queue(tx, NewJob(task, experiment, place, owner, "", 2))
