"""The engine and experiments that are there already: its own of before, other people's, restarted ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch._beaker import TaskSpec
from dispatch._docker import ImageRecord
from dispatch.beakerd.config import Assumptions, Config, NameScope, UserConfig
from dispatch.engine.base import JobSpec, JobState, Reason
from dispatch.engine.beaker import BeakerEngine
from dispatch.engine.beaker.following import Followers
from dispatch.engine.beaker.job import BeakerJob
from dispatch.engine.beaker.names import Names, Story
from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_doors import door_of
from dispatch.testing.beaker_engine import BeakerLab, end_of, wait_for
from dispatch.testing.beaker_faults import Faults
from dispatch.testing.busybox import REFERENCE
from dispatch.testing.processes import until

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


@pytest.mark.parametrize(("names", "user"), [(NameScope.AUTHOR, "me"), (NameScope.WORKSPACE, "you")])
def test_a_foreign_experiment_of_our_name(
    lab_of: Callable[..., BeakerLab], names: NameScope, user: str
) -> None:
    """It is not ours though it bears our name: nobody attaches to it, and the job runs under another."""
    lab = lab_of(names)
    job = lab.job("some.1", COMPLETED)
    theirs = door_of(lab.beaker, user)
    spec = TaskSpec(REFERENCE, ("/bin/sh", "-c", "exit 7"), description='{"dispatch": "mine"}')
    foreign = theirs.experiments.create(lab.names.experiment(job.key), spec)
    lab.engine.submit([job])
    assert end_of(lab.engine, job.key).exit_code == 0
    made = [each for each in lab.experiments(job.key) if each.id != foreign]
    assert len(made) == 1 and made[0].name == f"{lab.names.experiment(job.key)}.2"
    handle = lab.engine.find("contract")
    assert [each.engine_id for each in handle] == [lab.names.experiment(job.key)]
    lab.engine.release(handle[0])
    lab.engine.settle()
    assert theirs.experiments.get(foreign).description == '{"dispatch": "mine"}'
    theirs.close()


@pytest.mark.parametrize(
    ("ended", "released", "again"), [(0, False, False), (3, False, True), (0, True, True)]
)
def test_attached_to_only_where_it_counts(
    lab_of: Callable[..., BeakerLab], ended: int, released: bool, again: bool
) -> None:
    """A job is attached to what has succeeded and is held; what failed, or was let go, has had its turn."""
    lab = lab_of()
    job = lab.job("some.1", f"exit {ended}")
    handles = lab.engine.submit([job])
    assert end_of(lab.engine, job.key).exit_code == ended
    if released:
        lab.engine.release(handles[0])
        lab.engine.settle()
    later = lab.again()
    later.submit([job])
    assert end_of(later, job.key).exit_code == ended
    assert len(lab.experiments(job.key)) == (2 if again else 1)


def test_what_failed_while_nobody_looked(lab_of: Callable[..., BeakerLab]) -> None:
    """A later client that attaches to it is told that it is lost, so that the step is tried again."""
    lab = lab_of()
    job = lab.job("some.1", "echo said; exit 3")
    lab.engine.submit([job])
    until(lambda: bool(lab.tries(job.key)) and lab.tries(job.key)[0].finalized is not None, "it ended")
    later = lab.again()
    later.submit([replace(job, attach=True)])
    event = end_of(later, job.key)
    assert event.reason is Reason.LOST and "while nobody looked" in event.message
    assert (job.attempt_dir / "out.log").read_text() == "said\n"


def test_jobs_of_others_are_not_ours(lab_of: Callable[..., BeakerLab], tmp_path: Path) -> None:
    """The same key of another directory, or another account, is another job, and is not found."""
    lab = lab_of()
    lab.engine.submit([lab.job("same.1", FOREVER)])
    begun(lab.engine)
    elsewhere = BeakerLab(lab.beaker, tmp_path / "elsewhere")
    yours = BeakerLab(lab.beaker, tmp_path, user="you")
    for other in (elsewhere, yours):
        assert other.engine.find("contract") == []
        job = other.job("same.1", "exit 5")
        other.engine.submit([job])
        assert end_of(other.engine, job.key).exit_code == 5
    assert lab.engine.next_event(0.2) is None
    lab.engine.cancel(lab.engine.find("contract"), 1.0)
    for other in (elsewhere, yours):
        other.close()


def test_begun_again_by_a_person(lab_of: Callable[..., BeakerLab]) -> None:
    """A job that somebody restarts before its end was told is followed to its real end."""
    lab = lab_of()
    engine = lab.again(tick=5.0)
    job = lab.job("some.1", "exit 3")
    engine.submit([job])
    until(lambda: bool(lab.tries(job.key)) and lab.tries(job.key)[0].finalized is not None, "it ended")
    made = lab.experiments(job.key)[0]
    with lab.beaker.client() as client:
        client.experiment.restart_tasks(client.workload.get(made.id))
    event = end_of(engine, job.key)
    assert len(lab.tries(job.key)) == 2
    assert event.time >= (lab.tries(job.key)[0].exited or 0)


def test_names_tell_whose_they_are() -> None:
    """Names are what Beaker takes, and differ by key and by origin; descriptions are read back as written."""
    one, other = Names("one"), Names("other")
    keys = ["Train-001-abc.1", "Träning-abc.1", "x" * 300 + ".1", "x" * 300 + ".2", "-odd.1"]
    made = [
        each for names in (one, other) for key in keys for each in (names.experiment(key), names.data(key))
    ]
    assert len(set(made)) == len(made)
    assert all(len(name) <= 100 and name.isascii() and not name.startswith("-") for name in made)
    assert one.experiment("a.1") == f"a.1-{one.tag}" and len(one.tag) == 8
    story = Story("a run", "step", "a.1", collected=True, secrets=("dispatch-0-A",))
    assert Story.read(story.to_text()) == story and Story.words_of("a run") in story.to_text()
    assert Story.words_of("a run") not in replace(story, held=False).to_text()
    assert [Story.read(text) for text in ("", "[]", "{}", '{"dispatch": 1}', "null", '"x"')] == [None] * 6


def test_what_an_earlier_client_brought_goes_with_the_job(lab_of: Callable[..., BeakerLab]) -> None:
    """Whoever takes a job over, by whichever way, removes what was made for it when it is over."""
    lab = lab_of()
    job = replace(lab.job("some.1", f"sleep 2; {COMPLETED}"), secrets={"A": "a secret of ours"})
    lab.engine.submit([job])
    begun(lab.engine)
    later = lab.again()
    handles = later.submit([job])
    assert end_of(later, job.key).exit_code == 0
    assert len(lab.experiments(job.key)) == 1 and len(lab.left()) == 1
    later.release(*handles)
    later.settle()
    assert lab.left() == []


def test_more_logs_than_are_followed_at_once(lab_of: Callable[..., BeakerLab]) -> None:
    """One that has no place is followed as soon as there is one."""
    lab = lab_of()
    jobs = [lab.job("first.1", "echo first; sleep 2"), lab.job("second.1", f"echo second; {FOREVER}")]
    lab.engine.submit(jobs)
    for _ in jobs:
        begun(lab.engine)
    followers = Followers(lab.door, at_once=1)
    logs = [lab.attempts / "apart" / job.key for job in jobs]
    for job, place in zip(jobs, logs, strict=True):
        place.mkdir(parents=True)
        apart = replace(job, attempt_dir=place)
        followers.follow(BeakerJob(apart, lab.names.experiment(job.key)), lab.tries(job.key))
    until(lambda: (logs[1] / "out.log").exists(), "the second one is followed")
    assert (logs[0] / "out.log").read_text() == "first\n"
    followers.close()
