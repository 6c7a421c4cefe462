"""A local Beaker's scheduler and runner, by hand: jobs are moved on as a test says, without containers.

Owns nothing but transactions on the server's own lifecycle, and rows of what specs name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dispatch.beakerd.backend import Backend
from dispatch.beakerd.store.lifecycle import Assignment
from dispatch.beakerd.store.states import Code
from dispatch.beakerd.supervisor import Supervisor
from dispatch.testing.beaker import LocalBeaker


@dataclass
class Told:
    """Carries out nothing, and remembers what it was told; see ``dispatch.beakerd.backend.Jobs``."""

    stopped: list[str] = field(default_factory=list)
    changes: int = 0

    def changed(self) -> None:
        """Count."""
        self.changes += 1

    def start(self, job: str) -> None:
        """Nothing: the test does that."""

    def stop(self, job: str) -> None:
        """Remember."""
        self.stopped.append(job)


class Hand:
    """Moves the jobs of a server on."""

    def __init__(self, beaker: LocalBeaker):
        assert beaker.server.backend is not None
        self.backend: Backend = beaker.server.backend
        # The real ones would be faster than any test's next line.
        assert isinstance(self.backend.jobs, Supervisor)
        self.backend.jobs.close()
        self.told = Told()
        self.backend.jobs = self.told

    def one(self, sql: str, *values: Any) -> Any:
        """The first value of a query's first row, None without one."""
        with self.backend.database.read() as tx:
            row = tx.execute(sql, values).fetchone()
        return None if row is None else row[0]

    def do(self, sql: str, *values: Any) -> None:
        """Change rows."""
        with self.backend.database.write() as tx:
            tx.execute(sql, values)

    def workspace(self, name: str = "my-workspace") -> str:
        """A workspace's id."""
        return str(self.one("SELECT id FROM workspaces WHERE name = ?", name))

    def image(self, name: str, user: str = "me", committed: bool = True) -> str:
        """Make an image, and return its id."""
        return self._owned("images", name, user, committed)

    def dataset(self, name: str, user: str = "me", committed: bool = True) -> str:
        """Make a dataset, and return its id."""
        return self._owned("datasets", name, user, committed)

    def secret(self, name: str) -> None:
        """Make a secret."""
        now = self.backend.clock.now()
        self.do(
            "INSERT INTO secrets (workspace_id, name, value, author_id, created, updated)"
            " SELECT ?, ?, x'00', id, ?, ? FROM users WHERE name = 'me'",
            self.workspace(),
            name,
            now,
            now,
        )

    def assign(self, job: str, gpus: tuple[str, ...] = ()) -> bool:
        """Give a job the first node."""
        node = self.one("SELECT id FROM nodes WHERE NOT retired ORDER BY created LIMIT 1")
        with self.backend.database.write() as tx:
            return self.backend.lifecycle.assign(tx, job, Assignment(node, gpus))

    def start(self, job: str) -> None:
        """A job's container runs."""
        with self.backend.database.write() as tx:
            self.backend.lifecycle.start(tx, job, self.backend.clock.now())

    def exit(self, job: str, code: int = 0) -> None:
        """A job's container has ended."""
        with self.backend.database.write() as tx:
            self.backend.lifecycle.exit(tx, job, self.backend.clock.now(), code)

    def finalize(self, job: str, failure: str | None = None, metrics: str | None = None) -> str | None:
        """A job's results are captured."""
        with self.backend.database.write() as tx:
            return self.backend.lifecycle.finalize(tx, job, failure, metrics)

    def stop(self, job: str, code: Code, reason: str = "a test says so") -> bool:
        """Wish that a job stops."""
        with self.backend.database.write() as tx:
            return self.backend.lifecycle.stop(tx, job, code, reason)

    def begin(self, job: str) -> None:
        """A waiting job runs."""
        assert self.assign(job)
        self.start(job)

    def run(self, job: str, code: int = 0) -> str | None:
        """A waiting job runs to its end; return its successor's id."""
        self.begin(job)
        return self.end(job, code)

    def end(self, job: str, code: int = 0) -> str | None:
        """A running job ends; return its successor's id."""
        self.exit(job, code)
        return self.finalize(job)

    def _owned(self, table: str, name: str, user: str, committed: bool) -> str:
        new, now = self.backend.ids.new(), self.backend.clock.now()
        self.do(
            f"INSERT INTO {table} (id, name, name_key, author_id, workspace_id, created, committed)"
            " SELECT ?, ?, id || '/' || ?, id, ?, ?, ? FROM users WHERE name = ?",
            new,
            name,
            name,
            self.workspace(),
            now,
            now if committed else None,
            user,
        )
        return new
