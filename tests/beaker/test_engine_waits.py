"""Jobs on Beaker that wait, and such as end because somebody wants it: limits, people, and the user."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from dispatch._docker import ImageRecord
from dispatch.beakerd.config import Assumptions, ClusterConfig, Config, NodeConfig
from dispatch.engine.base import JobSpec, JobState, Mount, Placement, Reason, Resources
from dispatch.location import SharedPath
from dispatch.testing.beaker import Beakers
from dispatch.testing.beaker_engine import BeakerLab, end_of, wait_for
from dispatch.testing.beaker_faults import Faults
from dispatch.testing.processes import until

pytestmark = pytest.mark.engine

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


@pytest.fixture
def site_of(beakers: Beakers, tmp_path: Path, busybox_image: ImageRecord) -> Iterator[Callable[..., Site]]:
    """Makes servers by what they assume."""
    assert busybox_image
    made: list[Site] = []

    def make(**assumed: Any) -> Site:
        drive = tmp_path / "drive"
        drive.mkdir()
        nodes = (NodeConfig("a", slots=1), NodeConfig("b", slots=1, cordoned="spare"))
        config = Config(
            clusters=(ClusterConfig("ai2/two", nodes),),
            assume=Assumptions(**{"grace": 1.0, **assumed}),
            host_paths=(drive,),
            control=True,
        )
        beaker = beakers.start(config)
        made.append(Site(BeakerLab(beaker, tmp_path), Faults(beaker), drive))
        return made[-1]

    yield make
    for site in made:
        site.lab.close()


def test_why_it_waits(site_of: Callable[..., Site]) -> None:
    """A job without a place says what it waits for, once as long as that stays, and then runs."""
    site = site_of()
    one, other = site.lab.job("one.1", FOREVER), site.lab.job("other.1", "echo hello")
    site.submit(one)
    site.lab.engine.submit([other])
    event = wait_for(site.lab.engine, lambda event: event.key == other.key)
    assert event.state is JobState.WAITING and "slot" in event.message
    handle = site.lab.engine.submit([one])
    site.lab.engine.cancel(handle, 1.0)
    states: list[JobState] = []
    while not states or states[-1] is not JobState.EXITED:
        states.append(wait_for(site.lab.engine, lambda event: event.key == other.key).state)
    assert states[-2:] == [JobState.RUNNING, JobState.EXITED]


def test_what_can_never_run_says_so(site_of: Callable[..., Site]) -> None:
    """More than any node has is not refused by Beaker, but the reason is told."""
    site = site_of()
    job = replace(site.lab.job("some.1", "true"), resources=Resources(gpu_count=64))
    site.lab.engine.submit([job])
    event = wait_for(site.lab.engine, lambda event: event.state is JobState.WAITING)
    assert "can never run" in event.message and "64 GPUs" in event.message


def test_a_cluster_that_there_is_none_of(site_of: Callable[..., Site]) -> None:
    """What Beaker refuses ends the job, in Beaker's words."""
    site = site_of()
    job = replace(site.lab.job("some.1", "true"), placement=Placement(clusters=("ai2/none",)))
    site.lab.engine.submit([job])
    event = end_of(site.lab.engine, job.key)
    assert event.reason is Reason.INFRA and "ai2/none" in event.message


def test_its_time_limit(site_of: Callable[..., Site]) -> None:
    """Beaker ends a job after its time, though no client were there."""
    site = site_of()
    job = replace(site.lab.job("some.1", FOREVER), time_limit=1.0)
    site.lab.engine.submit([job])
    assert end_of(site.lab.engine, job.key).reason is Reason.TIMEOUT


def test_removed_by_somebody(site_of: Callable[..., Site]) -> None:
    """A job whose experiment was deleted is lost."""
    site = site_of()
    engine = site.lab.again(tick=4.0)
    job = site.lab.job("some.1", FOREVER)
    engine.submit([job])
    wait_for(engine, lambda event: event.state is JobState.RUNNING)
    experiments = site.lab.door.experiments
    (made,) = site.lab.experiments(job.key)
    experiments.cancel([made.id])
    until(lambda: site.lab.tries(job.key)[0].finalized is not None, "it has ended")
    experiments.delete([made.id])
    event = end_of(engine, job.key)
    assert event.reason is Reason.LOST and "removed" in event.message


def test_cancelled_by_a_person(site_of: Callable[..., Site]) -> None:
    """Where somebody cancels it in Beaker, it was cancelled, and the message leads to the job."""
    site = site_of()
    job = site.lab.job("some.1", FOREVER)
    running = site.submit(job)
    site.lab.door.experiments.cancel([site.lab.experiments(job.key)[0].id])
    event = end_of(site.lab.engine, job.key)
    assert event.reason is Reason.CANCELLED and running in event.message


def test_the_gap_between_exit_and_end(site_of: Callable[..., Site]) -> None:
    """As long as results are captured, nothing is told; then all of it is there."""
    site = site_of(finalize_gap=3.0)
    job = site.lab.job(
        "some.1", f'mkdir -p {OUT}/result; echo \'{{"state": "completed"}}\' > {OUT}/outcome.json'
    )
    before = time.monotonic()
    site.lab.engine.submit([job])
    assert end_of(site.lab.engine, job.key).exit_code == 0
    assert time.monotonic() - before > 3.0
    assert (job.attempt_dir / "output" / "outcome.json").exists()


def test_all_are_cancelled_in_time(site_of: Callable[..., Site]) -> None:
    """Of many jobs, those that run and those that wait have all ended within ten seconds."""
    site = site_of()
    jobs = [site.lab.job(f"some{number}.1", FOREVER) for number in range(30)]
    handles = site.lab.engine.submit(jobs)
    wait_for(site.lab.engine, lambda event: event.state is JobState.RUNNING)
    before = time.monotonic()
    site.lab.engine.cancel(handles, 10.0)
    for _ in jobs:
        event = wait_for(site.lab.engine, lambda event: event.state is JobState.EXITED)
        assert event.reason is Reason.CANCELLED
    assert time.monotonic() - before < 10.0
    assert site.lab.door.experiments.search(finalized=False) == []
