"""Adopting a job whose client is gone: who may, what is found, and what the one before can still do."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from dispatch.info import AttemptFacts, StepRecord, StepState
from dispatch.testing.faults import FakeHost
from dispatch.workspace.attempts import Ports
from dispatch.workspace.base import (
    Attempt,
    Orphan,
    StepHeldError,
    StepSupersededError,
    Superseded,
)
from dispatch.workspace.collect import plan
from dispatch.workspaces import LocalWorkspace

STEP = StepRecord("one", "Made-one", "Made", "made", None, True, True, (), {})
DONE = AttemptFacts(StepState.COMPLETED)
AGE = timedelta(seconds=1)
LOST = AttemptFacts(StepState.FAILED, reason="lost", error="the engine stopped answering")
FAILED = AttemptFacts(StepState.FAILED, reason="step", error="it broke")


def as_process(root: Path, pid: int, *others: int) -> LocalWorkspace:
    """The workspace as one process sees it, with others alive beside it."""
    return LocalWorkspace(root, ports=Ports(host=FakeHost.process(pid, *others)))


def fill(attempt: Attempt, text: str = "value") -> None:
    """Leave a result, as the attempt's job does."""
    attempt.result.mkdir(parents=True, exist_ok=True)
    (attempt.result / "text").write_text(text)


def result_of(root: Path) -> str:
    """What the step's result is."""
    location = as_process(root, 99).locate(STEP.unique_id)
    assert location is not None
    return (location.path / "text").read_text()


class Asked:
    """Remembers the orphans it is asked about, and gives the same answer for all."""

    def __init__(self, answer: bool) -> None:
        self.answer = answer
        self.orphans: list[Orphan] = []

    def __call__(self, orphan: Orphan) -> bool:
        """Answer."""
        self.orphans.append(orphan)
        return self.answer


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the workspace is."""
    return tmp_path / "ws"


def test_what_is_told_of_an_orphan(root: Path) -> None:
    """Whoever claims a step that a dead process worked at is asked about its job, and may leave it."""
    first = as_process(root, 1).claim(STEP, "calm-heron-001")
    asked = Asked(False)
    second = as_process(root, 2).claim(STEP, "later", adopts=asked)
    assert asked.orphans == [Orphan("Made-one", 1, first.directory, "calm-heron-001")]
    assert asked.orphans[0].key == first.key
    assert (second.number, second.adopts, second.job_key) == (2, 0, second.key)
    assert second.place == second.directory


def test_an_adopted_job_is_committed(root: Path) -> None:
    """The result of the first process's job becomes the step's, under the number of the second."""
    fill(as_process(root, 1).claim(STEP, "run"))
    again = as_process(root, 2)
    attempt = again.claim(STEP, "run", adopts=lambda _: True)
    assert (attempt.number, attempt.adopts, attempt.job, attempt.job_key) == (2, 1, 1, "Made-one.1")
    info = again.commit(attempt, STEP, DONE)
    assert info.state is StepState.COMPLETED
    assert result_of(root) == "value"


def test_adopting_an_adopted_job(root: Path) -> None:
    """However many clients die over one job, the next looks after the same."""
    fill(as_process(root, 1).claim(STEP, "run"))
    numbers = []
    for pid in (2, 3, 4):
        attempt = as_process(root, pid).claim(STEP, "run", adopts=lambda _: True)
        numbers.append((attempt.number, attempt.job))
    assert numbers == [(2, 1), (3, 1), (4, 1)]
    as_process(root, 5).commit(as_process(root, 5).claim(STEP, "run", adopts=lambda _: True), STEP, DONE)
    assert result_of(root) == "value"


def test_the_one_before_commits_nothing(root: Path) -> None:
    """A holder that was taken for lost wakes up, learns that its job was adopted, and cannot commit it."""
    late = as_process(root, 1)
    attempt = late.claim(STEP, "run")
    fill(attempt)
    heir = as_process(root, 2).claim(STEP, "run", adopts=lambda _: True)
    with pytest.raises(StepSupersededError):
        late.commit(attempt, STEP, DONE)
    as_process(root, 2).commit(heir, STEP, DONE)
    assert result_of(root) == "value"


@pytest.mark.parametrize("adopts", [True, False])
def test_renewal_tells_whether_the_job_was_adopted(root: Path, adopts: bool) -> None:
    """Only a job that nobody else looks after may be stopped by its former holder."""
    now = [0.0]
    ports = Ports(host=FakeHost.process(1), monotonic=lambda: now[0])
    late = LocalWorkspace(root, ports=ports)
    attempt = late.claim(STEP, "run")
    as_process(root, 2).claim(STEP, "run", adopts=lambda _: adopts)
    now[0] = 31.0
    assert late.renew() == (Superseded(attempt, adopts),)


@pytest.mark.parametrize(
    ("facts", "asked"),
    [(LOST, True), (FAILED, False), (DONE, False)],
)
def test_which_ended_attempts_leave_orphans(root: Path, facts: AttemptFacts, asked: bool) -> None:
    """An attempt whose end nobody saw may have left a job, even though it was recorded as lost."""
    first = as_process(root, 1)
    first.fail(first.claim(STEP, "run"), STEP, facts)
    told = Asked(True)
    attempt = as_process(root, 2).claim(STEP, "run", adopts=told)
    assert (bool(told.orphans), attempt.adopts) == (asked, 1 if asked else 0)


def test_nobody_adopts_what_somebody_holds(root: Path) -> None:
    """While its holder lives, a job is not even asked about."""
    as_process(root, 1).claim(STEP, "run")
    with pytest.raises(StepHeldError):
        as_process(root, 2, 1).claim(STEP, "run", adopts=lambda _: pytest.fail("asked"))


def test_the_log_of_an_adopted_job_is_found(root: Path) -> None:
    """The log lies where the job was started, and is that of the result."""
    first = as_process(root, 1).claim(STEP, "run")
    fill(first)
    (first.directory / "out.log").write_text("words\n")
    again = as_process(root, 2)
    again.commit(again.claim(STEP, "run", adopts=lambda _: True), STEP, DONE)
    assert again.log_path(STEP.unique_id) == first.directory / "out.log"


def test_what_is_looked_after_is_not_collected(root: Path) -> None:
    """The place of an adopted job is needed as long as somebody alive looks after it, and not any longer."""
    first = as_process(root, 1).claim(STEP, "run")
    fill(first)
    as_process(root, 2).claim(STEP, "run", adopts=lambda _: True)

    def places(*alive: int) -> set[str]:
        seen = as_process(root, 3, *alive)
        return {item.place for item in plan(seen, AGE, seen.ports.now() + 2 * AGE).items}

    assert f"attempts/{first.key}" not in places(2)
    assert f"attempts/{first.key}" in places()


def test_a_removal_adopts_nothing(root: Path) -> None:
    """A step is removed although a job of it may still run; that job is of no use any more."""
    fill(as_process(root, 1).claim(STEP, "run"))
    place = as_process(root, 2)
    place.remove_step(STEP.unique_id)
    attempt = place.claim(STEP, "run", adopts=lambda orphan: orphan.number == 1)
    assert (attempt.number, attempt.adopts) == (3, 0)
