"""A local Beaker without a server and a runner that runs nothing: jobs begin and end when a test says so."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from dispatch._docker import Door
from dispatch._docker.address import Address
from dispatch.beakerd.access import Access
from dispatch.beakerd.backend import Addresses, Backend
from dispatch.beakerd.clock import Clock, Ids
from dispatch.beakerd.config import Config
from dispatch.beakerd.layout import Layout
from dispatch.beakerd.store.database import Database
from dispatch.beakerd.store.lifecycle import Lifecycle
from dispatch.beakerd.store.setup import Host, Setup


def bare_backend(root: Path, config: Config, wall: Callable[[], int] = time.time_ns) -> Backend:
    """The parts of a server over a directory, with what a configuration names, and nobody who listens.

    The machine has two cpus and 8 GiB. Close the database in the end.
    """
    layout = Layout(root)
    layout.make()
    database = Database(layout.database)
    database.open()
    clock = Clock(wall)
    ids = Ids(clock, os.urandom)
    with database.write() as tx:
        Setup(clock, ids, Host(cpus=2.0, memory=8 << 30), {}).apply(tx, config)
    return Backend(
        config=config,
        layout=layout,
        database=database,
        clock=clock,
        ids=ids,
        access=Access(clock, os.urandom),
        lifecycle=Lifecycle(clock, ids, config.assume),
        door=Door(Address("unix:///nowhere.sock"), root),
        addresses=Addresses("", ""),
        say=lambda _line: None,
    )


class FakeRunner:
    """See :class:`dispatch.beakerd.supervisor.Runner`. ``running`` are the jobs that were started, in their
    order; ``stopped`` those that were to be stopped. With ``obedient`` a job ends as soon as it is told to
    stop; with ``slow`` it does not begin to run by itself.
    """

    def __init__(self, backend: Backend, obedient: bool = True, slow: bool = False):
        self._backend = backend
        self._obedient = obedient
        self._slow = slow
        self._lock = threading.Lock()
        self.running: list[str] = []
        self.stopped: list[str] = []
        self.adopted = False
        self.closed = False

    def start(self, job: str) -> None:
        """Begin at once."""
        with self._lock:
            if job in self.running:
                return
            self.running.append(job)
        if not self._slow:
            self.begin(job)

    def begin(self, job: str) -> None:
        """The job's container runs."""
        with self._backend.database.write() as tx:
            self._backend.lifecycle.start(tx, job, self._backend.clock.now())

    def stop(self, job: str) -> None:
        """End it, if it obeys."""
        with self._lock:
            self.stopped.append(job)
        if self._obedient:
            self.end(job, 143)

    def end(self, job: str, code: int = 0) -> None:
        """The job's process has ended, and its results are kept."""
        with self._backend.database.write() as tx:
            self._backend.lifecycle.exit(tx, job, self._backend.clock.now(), code)
            self._backend.lifecycle.finalize(tx, job)
        with self._lock:
            if job in self.running:
                self.running.remove(job)
        self._backend.jobs.changed()

    def adopt(self) -> None:
        """Go on with what is assigned."""
        self.adopted = True
        with self._backend.database.read() as tx:
            rows = tx.execute(
                "SELECT id FROM jobs WHERE finalized IS NULL AND node_id IS NOT NULL"
            ).fetchall()
        for row in rows:
            self.start(row["id"])

    def close(self) -> None:
        """Nothing ends."""
        self.closed = True
