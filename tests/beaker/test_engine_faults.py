"""The engine when Beaker is away, refuses, or answers wrongly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch._beaker import BeakerDeniedError, BeakerUnreachableError
from dispatch._docker import ImageRecord
from dispatch.beakerd.config import Assumptions, Config, NameScope, UserConfig
from dispatch.engine.base import JobSpec, JobState, Reason
from dispatch.engine.beaker import BeakerEngine
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_engine import BeakerLab, end_of, wait_for
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


def test_the_server_is_killed_and_comes_back(
    beakers: Beakers, tmp_path: Path, busybox_image: ImageRecord
) -> None:
    """What ran meanwhile is told when it is back, with the whole log."""
    assert busybox_image
    server = beakers.spawn()
    lab = BeakerLab(server, tmp_path)
    short = lab.job("short.1", f"echo a; sleep 1; echo b; {COMPLETED}")
    long = lab.job("long.1", f"echo a; sleep 6; echo b; {COMPLETED}")
    lab.engine.submit([short, long])
    begun(lab.engine)
    begun(lab.engine)
    server.kill()
    # Long enough for the short one to end meanwhile.
    assert lab.engine.next_event(3.0) is None
    beakers.spawn()
    ends = [wait_for(lab.engine, lambda event: event.state is JobState.EXITED) for _ in range(2)]
    assert [event.exit_code for event in ends] == [0, 0]
    for job in (short, long):
        assert result_of(job) == "one\n" and (job.attempt_dir / "out.log").read_text() == "a\nb\n"
    lab.close()


def test_the_server_stays_away(lab_of: Callable[..., BeakerLab]) -> None:
    """After the door's patience the engine says so, and again to whoever asks; nothing waits for ever."""
    lab = lab_of(patience=1.0)
    lab.engine.submit([lab.job("some.1", FOREVER)])
    begun(lab.engine)
    fault = Faults(lab.local).add("rpc:*", "unavailable")
    for _ in range(2):
        with pytest.raises(BeakerUnreachableError, match="does not answer"):
            while True:
                lab.engine.next_event(60.0)
    Faults(lab.local).remove(fault)


def test_the_token_is_revoked(lab_of: Callable[..., BeakerLab]) -> None:
    """The engine says so; the job goes on, and a later client sees its end."""
    lab = lab_of()
    job = lab.job("some.1", f"sleep 5; {COMPLETED}")
    lab.engine.submit([job])
    begun(lab.engine)
    Faults(lab.local).revoke("me")
    with pytest.raises(BeakerDeniedError):
        while True:
            lab.engine.next_event(60.0)
    Faults(lab.local).give_back("me")
    later = lab.again()
    assert [each.key for each in later.find("contract")] == [job.key]
    later.submit([replace(job, attach=True)])
    assert end_of(later, job.key).exit_code == 0 and result_of(job) == "one\n"


@pytest.mark.parametrize("names", NameScope)
def test_the_answer_to_a_submission_is_lost(lab_of: Callable[..., BeakerLab], names: NameScope) -> None:
    """It was made all the same: the engine finds its own again, and there is one."""
    lab = lab_of(names)
    fault = Faults(lab.local).add("rest:POST */experiments", "lose", times=1)
    job = lab.job("some.1", COMPLETED)
    lab.engine.submit([job])
    assert end_of(lab.engine, job.key).exit_code == 0
    assert Faults(lab.local).hits(fault) == 1 and len(lab.experiments(job.key)) == 1


def test_a_log_over_lines_that_break_off(lab_of: Callable[..., BeakerLab]) -> None:
    """It is read on where it was cut, by whoever reads: no line is missing or comes twice."""
    lab = lab_of()
    fault = Faults(lab.local).add("rpc:StreamJobLogs", "drop", times=4, seconds=0.3)
    words = "i=0; while [ $i -lt 60 ]; do echo $i; i=$((i+1)); sleep 0.05; done"
    job = lab.job("some.1", words)
    lab.engine.submit([job])
    end_of(lab.engine, job.key)
    assert (job.attempt_dir / "out.log").read_text().split() == [str(number) for number in range(60)]
    assert Faults(lab.local).hits(fault) >= 2


def test_results_of_other_bytes(lab_of: Callable[..., BeakerLab]) -> None:
    """A result that never comes as Beaker says it is is not taken for one: the attempt has failed."""
    lab = lab_of()
    Faults(lab.local).add("rest:GET */files/result/a", "corrupt")
    job = lab.job("some.1", COMPLETED)
    lab.engine.submit([job])
    event = end_of(lab.engine, job.key)
    assert event.reason is Reason.INFRA and "other bytes" in event.message
    # Whoever judges the attempt goes by its outcome.
    assert not (job.attempt_dir / "output" / "outcome.json").exists()


def test_a_disk_that_is_full(lab_of: Callable[..., BeakerLab]) -> None:
    """A log that cannot be kept is an end with its reason, not a run that waits for ever."""
    lab = lab_of()
    job = lab.job("some.1", "echo hello")
    (job.attempt_dir / "out.log").symlink_to("/dev/full")
    lab.engine.submit([job])
    event = end_of(lab.engine, job.key)
    assert event.reason is Reason.INFRA and "cannot be kept" in event.message
