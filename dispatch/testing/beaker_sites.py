"""A server of two machines with an engine of ours on it, for jobs that something happens to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dispatch.beakerd.config import Assumptions, ClusterConfig, Config, NodeConfig
from dispatch.engine.base import JobSpec, Mount
from dispatch.location import SharedPath
from dispatch.testing.beaker import Beakers
from dispatch.testing.beaker_engine import BeakerLab
from dispatch.testing.beaker_faults import Faults

OUT = "/dispatch/output"
FOREVER = "trap 'exit 143' TERM; echo up; while :; do sleep 0.1; done"


@dataclass
class Site:
    """A server of two nodes with one slot each, the second of them closed at first."""

    lab: BeakerLab
    faults: Faults
    drive: Path

    def resumable(self, key: str, shell: str) -> JobSpec:
        """A job whose work is on a shared drive."""
        work = self.drive / "work"
        work.mkdir(exist_ok=True)
        job = self.lab.job(key, shell)
        return replace(job, mounts=(*job.mounts, Mount(SharedPath(work), "/dispatch/work", read_only=False)))

    def submit(self, job: JobSpec) -> str:
        """Submit a job, and wait until it runs; return Beaker's id of its job."""
        self.lab.engine.submit([job])
        return self.lab.running(job.key).id


def site_at(beakers: Beakers, place: Path, **assumed: Any) -> Site:
    """Start a server that assumes something, with a drive in ``place`` that its jobs may mount."""
    drive = place / "drive"
    drive.mkdir()
    nodes = (NodeConfig("a", slots=1), NodeConfig("b", slots=1, cordoned="spare"))
    config = Config(
        clusters=(ClusterConfig("ai2/two", nodes),),
        assume=Assumptions(**{"grace": 1.0, **assumed}),
        host_paths=(drive,),
        control=True,
    )
    beaker = beakers.start(config)
    return Site(BeakerLab(beaker, place), Faults(beaker), drive)
