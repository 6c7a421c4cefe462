"""Jobs that outlive their clients: wherever a client is cut off, nothing is lost, and nothing done twice."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from pathlib import Path

from dispatch.dispatcher import Dispatcher, Pace, Verdict, Work
from dispatch.engine.base import Handle, JobSpec
from dispatch.info import AttemptFacts, StepRecord, StepState
from dispatch.step import StepResources
from dispatch.testing.engine import FakeEngine, Outcome
from dispatch.testing.faults import Crash, CrashingDisk, FakeHost
from dispatch.testing.graphs import DIAMOND, record_in, right_result, text_of
from dispatch.testing.jobs import FakeJobs
from dispatch.testing.observer import RecordingObserver
from dispatch.testing.scheduler import FakeScheduler
from dispatch.workspace.attempts import Ports
from dispatch.workspace.base import Attempt, StepCompletedError
from dispatch.workspace.disk import Disk
from dispatch.workspaces import LocalWorkspace

STEP = StepRecord("one", "Made-one", "Made", "made", None, True, True, (), {})
DONE = AttemptFacts(StepState.COMPLETED)


def as_process(root: Path, pid: int, disk: Disk | None = None) -> LocalWorkspace:
    """The workspace as a process sees it that lives alone."""
    return LocalWorkspace(root, ports=Ports(disk=disk or Disk(), host=FakeHost.process(pid)))


def fill(attempt: Attempt, text: str = "value") -> None:
    """Leave a result, as the attempt's job does."""
    attempt.result.mkdir(parents=True, exist_ok=True)
    (attempt.result / "text").write_text(text)


def result_of(root: Path) -> str | None:
    """What the step's result is."""
    return text_of(as_process(root, 99), STEP.unique_id)


def test_any_crash_of_adopting(fast: Path) -> None:
    """Cut off after any change while a job is adopted and committed, the next to adopt it has its result."""
    halves = 0
    while True:
        root = fast / str(halves) / "ws"
        fill(as_process(root, 1).claim(STEP, "run"))
        disk = CrashingDisk(halves)
        second = as_process(root, 2, disk=disk)
        with contextlib.suppress(Crash):
            second.commit(second.claim(STEP, "run", adopts=lambda _: True), STEP, DONE)
        third = as_process(root, 3)
        with contextlib.suppress(StepCompletedError):
            third.commit(third.claim(STEP, "run", adopts=lambda _: True), STEP, DONE)
        assert result_of(root) == "value"
        if not disk.crashed:
            break
        halves += 1
    assert halves > 20


def test_any_crash_of_the_one_before(fast: Path) -> None:
    """Cut off after any change of its own commit, a job's result is found by whoever adopts it."""
    halves = 0
    while True:
        root = fast / str(halves) / "ws"
        as_process(root, 1).register_run([])
        disk = CrashingDisk(halves)
        first = as_process(root, 1, disk=disk)
        try:
            attempt = first.claim(STEP, "run")
            fill(attempt)
            first.commit(attempt, STEP, DONE)
        except Crash:
            pass
        second = as_process(root, 2)
        try:
            heir = second.claim(STEP, "run", adopts=lambda orphan: (orphan.place / "output/result").is_dir())
            if not heir.adopts and not heir.result.is_dir():
                fill(heir, "value")
            second.commit(heir, STEP, DONE)
        except StepCompletedError:
            pass
        assert result_of(root) == "value"
        assert not any(name.startswith(".") for name in os.listdir(root / "cache"))  # noqa: PTH208
        if not disk.crashed:
            break
        halves += 1
    assert halves > 20


class Outliving(FakeEngine):
    """An engine whose jobs do not care for their clients; each is computed when it is first started.

    ``computed`` counts by step. While ``cut`` the client is gone: nothing it asks for reaches the engine.
    """

    def __init__(self) -> None:
        super().__init__(self._compute)
        self.computed: Counter[str] = Counter()
        self.cut = False

    def _compute(self, job: JobSpec) -> Outcome:
        self.computed[job.step] += 1
        output = job.attempt_dir / "output" / "result"
        output.mkdir(parents=True, exist_ok=True)
        (output / "text").write_text(right_result(DIAMOND, job.step))
        return Outcome()

    def release(self, handle: Handle) -> None:
        """Forget a job, if anybody is there to say so."""
        if not self.cut:
            super().release(handle)

    def again(self) -> None:
        """Let a new client tell of the ends that the former did not hear."""
        self.cut = False
        self._events.clear()
        for key in self._jobs:
            self._live[key] = Outcome()


class CuttingDisk(CrashingDisk):
    """Cuts the client off from its engine at the moment at which it crashes."""

    def __init__(self, halves: int, engine: Outliving) -> None:
        super().__init__(halves)
        self._engine = engine

    def _count(self, name: str, arguments: tuple[object, ...], after: bool) -> None:
        try:
            super()._count(name, arguments, after)
        except Crash:
            self._engine.cut = True
            raise


def dispatch(place: LocalWorkspace, engine: Outliving) -> set[Verdict]:
    """Run the diamond, on jobs that outlive their client."""
    records = {step: record_in(DIAMOND, step) for step in DIAMOND}
    run = place.register_run([records["d"]], jobs=records.values()).name
    dispatcher = Dispatcher(
        engine=engine,
        scheduler=FakeScheduler(2),
        workspace=place,
        jobs=FakeJobs(run=run),
        observer=RecordingObserver(),
        pace=Pace(tick=0.002, held=0.005),
    )
    done = place.completed(record.unique_id for record in records.values())
    due = [step for step in DIAMOND if f"Made-{step}" not in done]
    works = [
        Work(
            records[step],
            StepResources(),
            tuple(need for need in DIAMOND[step] if need in due),
            outlives=True,
        )
        for step in due
    ]
    return {outcome.verdict for outcome in dispatcher.run(works, run).values()}


def test_any_crash_of_a_client_whose_jobs_go_on(fast: Path) -> None:
    """Cut off after any change of the disk: the same again is right, and no step was computed twice."""
    halves = 0
    while True:
        root, engine = fast / str(halves) / "ws", Outliving()
        disk = CuttingDisk(halves, engine)
        with contextlib.suppress(Crash):
            dispatch(as_process(root, 1, disk), engine)
        engine.again()
        assert dispatch(as_process(root, 2), engine) <= {Verdict.COMPLETED, Verdict.CACHED}
        again = as_process(root, 3)
        assert {step: text_of(again, f"Made-{step}") for step in DIAMOND} == {
            step: right_result(DIAMOND, step) for step in DIAMOND
        }
        assert set(engine.computed.values()) == {1}, (halves, engine.computed)
        if not disk.crashed:
            break
        halves += 1
    assert halves > 100
