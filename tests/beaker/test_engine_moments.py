"""The engine when single requests go wrong, in each way that they can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch._docker import ImageRecord
from dispatch.beakerd.config import Assumptions, Config, NameScope, UserConfig
from dispatch.engine.base import JobSpec, JobState, Reason
from dispatch.engine.beaker import BeakerEngine
from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_engine import BeakerLab, wait_for
from dispatch.testing.beaker_faults import Faults

pytestmark = pytest.mark.engine

OUT = "/dispatch/output"
DONE = f'echo \'{{"state": "completed"}}\' > {OUT}/outcome.json'
COMPLETED = f"mkdir -p {OUT}/result; echo one > {OUT}/result/a; {DONE}"
FOREVER = "trap 'exit 143' TERM; echo up; while :; do sleep 0.1; done"
USERS = (UserConfig("me", ("ai2",), admin=True), UserConfig("you", ("ai2",)))


@pytest.fixture
def lab_of(
    beaker_of: Callable[[Config], LocalBeaker], tmp_path: Path, busybox_image: ImageRecord
) -> Iterator[Callable[..., BeakerLab]]:
    """Makes engines on a server of their own."""
    assert busybox_image
    made: list[BeakerLab] = []

    def make(names: NameScope = NameScope.AUTHOR, patience: float = 30.0) -> BeakerLab:
        config = Config(users=USERS, control=True, assume=Assumptions(grace=1.0, names=names))
        made.append(BeakerLab(beaker_of(config), tmp_path, patience=patience))
        return made[-1]

    yield make
    for lab in made:
        Faults(lab.local).clear()
        lab.close()


def result_of(job: JobSpec) -> str:
    """What a completed job wrote."""
    return (job.attempt_dir / "output" / "result" / "a").read_text()


def begun(engine: BeakerEngine) -> None:
    """Wait until a job runs."""
    wait_for(engine, lambda event: event.state is JobState.RUNNING)


@pytest.mark.parametrize(
    ("on", "kind", "often"),
    [
        ("rpc:*", "unavailable", 0.2),
        ("rpc:*", "500", 0.2),
        ("rpc:*", "drop", 0.2),
        ("rpc:*", "lose", 0.2),
        ("rest:*", "500", 0.2),
        ("rest:*", "429", 0.2),
        ("rest:*", "drop", 0.2),
        ("rest:*", "lose", 0.2),
        ("rest:POST *", "conflict", 0.6),
        ("rest:GET *", "truncate", 0.2),
        ("rest:GET *", "corrupt", 0.2),
    ],
)
def test_faults_of_the_moment(lab_of: Callable[..., BeakerLab], on: str, kind: str, often: float) -> None:
    """Where many requests go wrong, jobs end as they should, each once, and nothing is left."""
    lab = lab_of()
    fault = Faults(lab.local).add(on, kind, probability=often, seed=3)
    engine = lab.again(tick=0.3)
    jobs = [lab.job(f"some{number}.1", f"echo {number}; {COMPLETED}") for number in range(5)]
    jobs = [replace(job, secrets={"A": "a secret of ours"}) for job in jobs]
    handles = engine.submit(jobs)
    for _ in jobs:
        event = wait_for(engine, lambda event: event.state is JobState.EXITED)
        assert (event.reason, event.exit_code) == (Reason.STEP, 0), event
    for number, job in enumerate(jobs):
        assert result_of(job) == "one\n"
        assert (job.attempt_dir / "out.log").read_text() == f"{number}\n"
    for handle in handles:
        engine.release(handle)
    engine.settle()
    assert Faults(lab.local).hits(fault) > 0
    Faults(lab.local).clear()
    assert [len(lab.experiments(job.key)) for job in jobs] == [1] * len(jobs)
    assert lab.left() == []
