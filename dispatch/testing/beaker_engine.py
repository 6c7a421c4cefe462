"""Engines on a local Beaker, and jobs for them: with real containers, in busybox."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dispatch._beaker import BeakerDoor, Experiment, Job
from dispatch.engine.base import Event, JobSpec, JobState, Mount, Network
from dispatch.engine.beaker import BeakerEngine
from dispatch.engine.beaker.names import Names
from dispatch.environment import RegistryDigest
from dispatch.location import HostPath
from dispatch.testing.beaker import BeakerProcess, LocalBeaker
from dispatch.testing.beaker_doors import PATIENCE, door_of
from dispatch.testing.busybox import REFERENCE
from dispatch.testing.processes import until

LIMIT = 60.0


class BeakerLab:
    """Engines of one user and one directory on one server. :meth:`close` it."""

    def __init__(
        self,
        beaker: LocalBeaker | BeakerProcess,
        directory: Path,
        user: str = "me",
        patience: float = PATIENCE,
    ) -> None:
        self.beaker = beaker
        self.directory = directory
        self.user = user
        self.attempts = directory / "attempts"
        self.names = Names(f"{directory} {user}")
        self.door: BeakerDoor = door_of(beaker, user, patience=patience)
        self._doors = [self.door]
        self._patience = patience
        self.engines: list[BeakerEngine] = []
        self.engine = self.again()

    @property
    def local(self) -> LocalBeaker:
        """The server, where it is one of this process."""
        assert isinstance(self.beaker, LocalBeaker)
        return self.beaker

    def again(self, **more: Any) -> BeakerEngine:
        """What a later client would hold."""
        door = door_of(self.beaker, self.user, patience=self._patience)
        engine = BeakerEngine(
            door, origin=self.names.origin, attempts=self.attempts, cache=self.directory / "cache", **more
        )
        self._doors.append(door)
        self.engines.append(engine)
        return engine

    def job(self, key: str, shell: str, **more: Any) -> JobSpec:
        """A job whose output belongs into its attempt's directory."""
        attempt = self.attempts / key
        (attempt / "output" / "result").mkdir(parents=True, exist_ok=True)
        spec = JobSpec(
            key=key,
            run="contract",
            step=key.partition(".")[0],
            attempt=1,
            image=RegistryDigest(REFERENCE),
            command=("/bin/sh", "-c", shell),
            attempt_dir=attempt,
            mounts=(Mount(HostPath(attempt / "output"), "/dispatch/output", read_only=False),),
            working_dir="/",
            network=Network.NONE,
        )
        return replace(spec, **more)

    def experiments(self, key: str) -> list[Experiment]:
        """All experiments of a job, newest first."""
        name = self.names.experiment(key)
        return [each for each in self.door.experiments.search(name) if each.name.startswith(name)]

    def tries(self, key: str) -> list[Job]:
        """The jobs of its newest experiment, newest first."""
        found = self.experiments(key)
        return self.door.experiments.jobs(found[0].task_id) if found else []

    def running(self, key: str) -> Job:
        """Wait until its newest job runs, and return it."""
        until(lambda: any(job.started and not job.exited for job in self.tries(key)[:1]), f"{key} runs")
        return self.tries(key)[0]

    def left(self) -> list[str]:
        """The names of our datasets (but for bundles) and secrets that are on Beaker."""
        datasets = [each.name for each in self.door.datasets.search("dispatch-")]
        kept = [name for name in datasets if not name.startswith("dispatch-bundle-")]
        return [*kept, *(name for name in self.door.secrets.names() if name.startswith("dispatch-"))]

    def close(self) -> None:
        """End all jobs, and leave."""
        try:
            live = self.door.experiments.search(finalized=False)
            self.door.experiments.cancel([each.id for each in live])
            until(lambda: not self.door.experiments.search(finalized=False), "all experiments end")
        finally:
            for engine in self.engines:
                engine.close()
            for door in self._doors:
                door.close()


def wait_for(engine: BeakerEngine, fact: Callable[[Event], bool], limit: float = LIMIT) -> Event:
    """Return the first event of which something holds, dropping the others."""
    given_up = time.monotonic() + limit
    while (left := given_up - time.monotonic()) > 0:
        event = engine.next_event(left)
        if event is not None and fact(event):
            return event
    raise AssertionError(f"no such event within {limit} s")


def end_of(engine: BeakerEngine, key: str, limit: float = LIMIT) -> Event:
    """Return the EXITED event of a job, dropping the others."""
    return wait_for(engine, lambda event: event.key == key and event.state is JobState.EXITED, limit)
