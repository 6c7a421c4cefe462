"""Jobs of a local Beaker that runs them, written straight into its tables, without the API."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dispatch._docker import Door
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.config import Config
from dispatch.beakerd.joblog import LogReader
from dispatch.beakerd.runner.containers import OWNER_LABEL, name_of, owner_of
from dispatch.beakerd.spec import ImageSource, TaskSpec, dump_task
from dispatch.beakerd.store.lifecycle import Assignment, Code, NewJob, Status
from dispatch.errors import ImageError
from dispatch.testing.beaker import Beakers
from dispatch.testing.busybox import REFERENCE
from dispatch.testing.processes import until

LIMIT = 60.0


class HeldImages:
    """Provides what the engine holds already."""

    def __init__(self, door: Door):
        self._door = door

    def provide(self, image: ImageSource, job_id: str) -> str:  # noqa: ARG002
        """The image ID of a reference."""
        record = self._door.inspect_image(image.docker or "")
        if record is None:
            raise ImageError(f"image {image.docker!r}: there is no such image")
        return record.id


def task(shell: str | None = None, **more: Any) -> TaskSpec:
    """A task of busybox' shell with a result at ``/results``."""
    given: dict[str, Any] = {
        "image": ImageSource(docker=REFERENCE),
        "command": None if shell is None else ("/bin/sh", "-c", shell),
        "result_path": "/results",
        **more,
    }
    return TaskSpec(**given)


@dataclass
class Jobs:
    """Makes and reads jobs of one server."""

    backend: Backend

    def queue(self, spec: TaskSpec, retries: int = 0) -> str:
        """Write down an experiment of one task, and return its job, which waits."""
        backend = self.backend
        experiment, task_id, now = backend.ids.new(), backend.ids.new(), backend.clock.now()
        with backend.database.write() as tx:
            workspace, author = tx.execute("SELECT w.id, u.id FROM workspaces w, users u LIMIT 1").fetchone()
            tx.execute(
                "INSERT INTO experiments (id, author_id, workspace_id, spec, created, allowed_retries)"
                " VALUES (?, ?, ?, '{}', ?, ?)",
                (experiment, author, workspace, now, retries),
            )
            tx.execute(
                "INSERT INTO tasks (id, experiment_id, position, name, spec, status, created)"
                " VALUES (?, ?, 0, ?, ?, 1, ?)",
                (task_id, experiment, spec.name, dump_task(spec), now),
            )
            new = NewJob(task_id, experiment, workspace, author, spec.name, spec.priority)
            return backend.lifecycle.queue(tx, new)

    def assign(self, job: str, gpus: tuple[str, ...] = ()) -> str:
        """Give a waiting job its place."""
        with self.backend.database.write() as tx:
            node = tx.execute("SELECT id FROM nodes LIMIT 1").fetchone()[0]
            assert self.backend.lifecycle.assign(tx, job, Assignment(node, gpus))
        return job

    def ready(self, spec: TaskSpec, **more: Any) -> str:
        """A job that was assigned."""
        return self.assign(self.queue(spec, **more))

    def wish(self, job: str, code: Code = Code.MANUAL, reason: str = "the test wishes it") -> None:
        """Write down that a job is to stop."""
        with self.backend.database.write() as tx:
            assert self.backend.lifecycle.stop(tx, job, code, reason)

    def row(self, job: str) -> Mapping[str, Any]:
        """A job as it is now."""
        with self.backend.database.read() as tx:
            return dict(tx.execute("SELECT * FROM jobs WHERE id = ?", (job,)).fetchone())

    def end(self, job: str, limit: float = LIMIT) -> Mapping[str, Any]:
        """Wait until a job is finalized, and return it."""
        return self.until(job, lambda row: row["finalized"] is not None, limit)

    def running(self, job: str) -> Mapping[str, Any]:
        """Wait until a job has started."""
        return self.until(job, lambda row: row["started"] is not None, LIMIT)

    def until(self, job: str, fact: Callable[[Mapping[str, Any]], bool], limit: float) -> Mapping[str, Any]:
        """Wait until something holds of a job."""
        given_up = time.monotonic() + limit
        while not fact(row := self.row(job)):
            assert time.monotonic() < given_up, (Status(row["status"]).name, self.events(job))
            time.sleep(0.01)
        return row

    def events(self, job: str) -> list[tuple[str, str]]:
        """What was said of a job."""
        with self.backend.database.read() as tx:
            rows = tx.execute(
                "SELECT status, message FROM job_events WHERE job_id = ? ORDER BY created", (job,)
            ).fetchall()
        return [tuple(row) for row in rows]

    def log(self, job: str) -> list[bytes]:
        """The lines that a job printed."""
        reader = LogReader(self.backend.layout.job_log(job))
        try:
            return [line for _, line in reader.read()]
        finally:
            reader.close()

    def result(self, job: str) -> dict[str, bytes]:
        """The files of a job's result."""
        dataset = self.row(job)["result_dataset_id"]
        root: Path = self.backend.layout.files(dataset)
        with self.backend.database.read() as tx:
            rows = tx.execute(
                "SELECT path FROM dataset_files WHERE dataset_id = ? ORDER BY path", (dataset,)
            ).fetchall()
        return {row[0]: (root / row[0]).read_bytes() for row in rows}


class Rig:
    """A server that runs jobs, and those jobs. :meth:`close` it."""

    def __init__(
        self,
        beakers: Beakers,
        config: Config | None = None,
        name: str = "one",
        wall: Callable[[], int] = time.time_ns,
    ):
        self._beakers = beakers
        self._config = config
        self._name = name
        self._wall = wall
        self.beaker = beakers.start(config, name, wall)

    @property
    def backend(self) -> Backend:
        """The server's parts."""
        assert self.beaker.server.backend is not None
        return self.beaker.server.backend

    @property
    def jobs(self) -> Jobs:
        """The server's jobs."""
        return Jobs(self.backend)

    def run(self, shell: str | None = None, **more: Any) -> str:
        """Queue a job, which begins as soon as there is room."""
        job = self.jobs.queue(task(shell, **more))
        self.backend.jobs.changed()
        return job

    def stop(self, job: str) -> None:
        """Wish that a job stops, and have it carried out."""
        self.jobs.wish(job)
        self.backend.jobs.stop(job)

    def restart(self) -> None:
        """End the server, and start it again."""
        self.beaker.stop()
        self.beaker = self._beakers.start(self._config, self._name, self._wall)

    def until_clean(self, job: str) -> None:
        """Wait until nothing is left of a job but its records."""
        place, name = self.backend.layout.job(job), name_of(job)
        until(
            lambda: (
                self.backend.door.containers.inspect(name) is None
                and not {"secrets", "client"} & {each.name for each in place.iterdir()}
            ),
            f"{name} is removed",
        )

    def close(self) -> None:
        """Leave no container."""
        containers, owner = self.backend.door.containers, owner_of(self.backend.layout.root)
        self.beaker.stop()
        for row in containers.labelled(OWNER_LABEL, owner):
            containers.remove(row.name)
