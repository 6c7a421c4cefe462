"""Jobs of a local Beaker that nobody runs: rows as an experiment makes them, moved on by hand."""

from __future__ import annotations

from dispatch.beakerd.spec import ImageSource, Resources, TaskSpec, dump_task
from dispatch.beakerd.store.lifecycle import Assignment, NewJob
from dispatch.testing.beaker import LocalBeaker


class HandJobs:
    """Jobs of one server, made and moved on through its lifecycle."""

    def __init__(self, beaker: LocalBeaker):
        assert beaker.server.backend is not None
        self._backend = beaker.server.backend

    def queue(
        self, workspace: str = "ai2/my-workspace", author: str = "me", resources: Resources | None = None
    ) -> str:
        """Make an experiment of one task, and return its job, which waits."""
        backend = self._backend
        organization, _, name = workspace.partition("/")
        experiment, task = backend.ids.new(), backend.ids.new()
        spec = TaskSpec(ImageSource(docker="busybox"), resources=resources or Resources())
        with backend.database.write() as tx:
            place, owner = tx.execute(
                "SELECT w.id, u.id FROM workspaces w JOIN organizations o ON o.id = w.organization_id"
                " JOIN users u WHERE o.name = ? AND w.name = ? AND u.name = ?",
                (organization, name, author),
            ).fetchone()
            tx.execute(
                "INSERT INTO experiments (id, author_id, workspace_id, spec, created)"
                " VALUES (?, ?, ?, '{}', ?)",
                (experiment, owner, place, backend.clock.now()),
            )
            tx.execute(
                "INSERT INTO tasks (id, experiment_id, position, spec, status, created)"
                " VALUES (?, ?, 0, ?, 2, ?)",
                (task, experiment, dump_task(spec), backend.clock.now()),
            )
            job = backend.lifecycle.queue(tx, NewJob(task, experiment, place, owner, "", 2))
        backend.layout.job(job).mkdir(parents=True)
        return job

    def start(self, job: str, node: str, gpus: tuple[str, ...] = ()) -> None:
        """Assign a job to a node, and let it run."""
        with self._backend.database.write() as tx:
            assert self._backend.lifecycle.assign(tx, job, Assignment(node, gpus))
            self._backend.lifecycle.start(tx, job, self._backend.clock.now())

    def end(self, job: str, code: int = 0) -> None:
        """Let a job exit, and finalize it."""
        with self._backend.database.write() as tx:
            self._backend.lifecycle.exit(tx, job, self._backend.clock.now(), code)
            self._backend.lifecycle.finalize(tx, job)
