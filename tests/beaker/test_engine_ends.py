"""How jobs on Beaker end that somebody or something ends: preempted, or with their nodes lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from dispatch._docker import ImageRecord
from dispatch.beakerd.config import Assumptions, ClusterConfig, Config, NodeConfig
from dispatch.engine.base import JobSpec, Mount, Reason
from dispatch.location import BeakerDataset, HostPath, SharedPath
from dispatch.testing.beaker import Beakers
from dispatch.testing.beaker_engine import BeakerLab, end_of
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


@pytest.mark.parametrize("first", [True, False])
def test_preempted_with_its_work_on_a_shared_drive(site_of: Callable[..., Site], first: bool) -> None:
    """Beaker resumes it, and it is followed to its real end: one end, one log of both tries."""
    site = site_of(resume_first=first)
    script = f"if [ -e /dispatch/work/x ]; then echo again; else touch /dispatch/work/x; {FOREVER}; fi"
    job = site.resumable("some.1", script)
    running = site.submit(job)
    until(lambda: (site.drive / "work" / "x").exists(), "it works")
    site.faults.preempt(running)
    event = end_of(site.lab.engine, job.key)
    assert (event.reason, event.exit_code) == (Reason.STEP, 0)
    assert (job.attempt_dir / "out.log").read_text() == "up\nagain\n"
    assert len(site.lab.tries(job.key)) == 2 and site.lab.engine.next_event(0.5) is None


@pytest.mark.parametrize("captured", [True, False])
def test_preempted_elsewhere(site_of: Callable[..., Site], captured: bool) -> None:
    """It ends as preempted; what it had done is where the next attempt can mount it, if Beaker kept it."""
    site = site_of(result_on_cancel=captured)
    job = site.lab.job("some.1", f"mkdir -p {OUT}/work; echo half > {OUT}/work/x; {FOREVER}")
    job = replace(job, collects=False, mounts=())
    running = site.submit(job)
    until(lambda: b"up" in b"".join(site.lab.engine.logs(site.lab.engine.submit([job])[0])), "it works")
    site.faults.preempt(running)
    event = end_of(site.lab.engine, job.key)
    assert event.reason is Reason.PREEMPTED and len(site.lab.tries(job.key)) == 1
    assert isinstance(event.output, BeakerDataset)
    site.lab.engine.release(*site.lab.engine.submit([job]))
    site.lab.engine.settle()
    if captured:
        before = Mount(BeakerDataset(event.output.id, "work"), "/dispatch/before/work")
        following = replace(site.lab.job("some.2", "cat /dispatch/before/work/x"), mounts=(before,))
        site.lab.engine.submit([following])
        assert end_of(site.lab.engine, following.key).exit_code == 0
        assert (following.attempt_dir / "out.log").read_text() == "half\n"


def test_preempted_with_its_work_here(site_of: Callable[..., Site], tmp_path: Path) -> None:
    """Where the work directory is on this machine, it has what the preempted attempt had done."""
    site = site_of()
    (tmp_path / "work").mkdir()
    job = site.lab.job("some.1", f"mkdir -p {OUT}/work; echo half > {OUT}/work/x; {FOREVER}")
    work = Mount(HostPath(tmp_path / "work"), "/dispatch/work", read_only=False)
    running = site.submit(replace(job, mounts=(*job.mounts, work)))
    until(lambda: b"up" in b"".join(site.lab.engine.logs(site.lab.engine.submit([job])[0])), "it works")
    site.faults.preempt(running)
    assert end_of(site.lab.engine, job.key).reason is Reason.PREEMPTED
    assert (tmp_path / "work" / "x").read_text() == "half\n"


@pytest.mark.parametrize(("resumes", "exit_code"), [(True, 0), (False, None)])
def test_a_lost_node(site_of: Callable[..., Site], resumes: bool, exit_code: int | None) -> None:
    """A job that can be resumed goes on elsewhere; if Beaker does not do that, it was lost."""
    site = site_of(node_loss_resumes=resumes)
    script = f"if [ -e /dispatch/work/x ]; then echo again; else touch /dispatch/work/x; {FOREVER}; fi"
    job = site.resumable("some.1", script)
    site.submit(job)
    until(lambda: (site.drive / "work" / "x").exists(), "it works")
    site.faults.lose("a")
    site.faults.restore("a")
    event = end_of(site.lab.engine, job.key)
    assert event.reason is (Reason.STEP if resumes else Reason.LOST)
    assert exit_code is None or event.exit_code == exit_code


@pytest.mark.parametrize("resumes", [True, False])
def test_a_lost_node_and_work_that_is_not_shared(site_of: Callable[..., Site], resumes: bool) -> None:
    """The attempt was lost: it is the machine's fault, whatever Beaker calls it."""
    site = site_of(node_loss_resumes=resumes)
    job = site.lab.job("some.1", FOREVER)
    site.submit(job)
    site.faults.lose("a")
    assert end_of(site.lab.engine, job.key).reason is Reason.LOST
