"""A whole run, cut off after every single change of the disk, before and after it takes effect."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

from dispatch.dispatcher import Dispatcher, Pace, Verdict, Work
from dispatch.engine.base import JobSpec
from dispatch.step import StepResources
from dispatch.testing.engine import FakeEngine, Outcome
from dispatch.testing.faults import Crash, CrashingDisk, FakeHost, OldDisk
from dispatch.testing.graphs import DIAMOND, Runner, record_in, right_result, text_of
from dispatch.testing.jobs import FakeJobs
from dispatch.testing.observer import RecordingObserver
from dispatch.testing.scheduler import FakeScheduler
from dispatch.workspace import check, repair
from dispatch.workspace.attempts import Ports
from dispatch.workspace.disk import Disk
from dispatch.workspaces import LocalWorkspace


class HastyDisk(OldDisk):
    """A disk that is trusted: no power is cut in these tests."""

    def flush(self, handle: int) -> None:
        """Do nothing."""


def workspace(root: Path, pid: int, disk: Disk | None = None) -> LocalWorkspace:
    """The workspace as a process sees it that lives alone."""
    return LocalWorkspace(root, ports=Ports(disk=disk or HastyDisk(), host=FakeHost.process(pid)))


def hold(root: Path) -> None:
    """Run again, in a new process, and hold that everything is right and nothing is damaged."""
    again = workspace(root, 2)
    assert Runner(DIAMOND).run(again)
    assert {step: text_of(again, f"Made-{step}") for step in DIAMOND} == {
        step: right_result(DIAMOND, step) for step in DIAMOND
    }
    assert {finding.kind for finding in check.examine(again)} <= {check.Kind.LEFTOVER}
    repair.apply(again, repair.plan(again))
    assert list(check.examine(workspace(root, 3))) == []
    assert {path.name for path in root.parent.iterdir()} == {root.name}


def cuts() -> Iterator[int]:
    """How many halves of calls are let through, until it is enough for all."""
    return itertools.count()


def test_any_crash_of_a_run(fast: Path) -> None:
    """After a failing run, its re-run and a replacement, cut off anywhere, a plain re-run is right."""
    for halves in cuts():
        root = fast / str(halves) / "ws"
        disk = CrashingDisk(halves)
        place = workspace(root, 1, disk)
        try:
            assert not Runner(DIAMOND, fails=frozenset("c")).run(place)
            assert Runner(DIAMOND).run(place)
            assert Runner(DIAMOND, replaces=frozenset("b")).run(place)
        except Crash:
            pass
        hold(root)
        shutil.rmtree(root.parent)
        if not disk.crashed:
            break
    assert halves > 150


def fill(job: JobSpec) -> None:
    """Compute a step as its job does."""
    assert job.attempt_dir is not None
    output = job.attempt_dir / "output" / "result"
    output.mkdir(parents=True, exist_ok=True)
    (output / "text").write_text(right_result(DIAMOND, job.step))


def dispatch(place: LocalWorkspace, fails: str = "", replaces: str = "") -> None:
    """Run the diamond with the dispatcher; what the dead disk refuses ends a step, or the run."""
    records = {step: record_in(DIAMOND, step) for step in DIAMOND}
    run = place.register_run([records["d"]], jobs=records.values()).name
    dispatcher = Dispatcher(
        engine=FakeEngine(lambda job: Outcome(exit_code=1) if job.step == fails else Outcome(action=fill)),
        scheduler=FakeScheduler(2),
        workspace=place,
        jobs=FakeJobs(),
        observer=RecordingObserver(),
        pace=Pace(tick=0.002, held=0.005),
    )
    done = place.completed(record.unique_id for record in records.values())
    due = [step for step in DIAMOND if f"Made-{step}" not in done or step == replaces]
    works = [
        Work(
            records[step],
            StepResources(),
            tuple(need for need in DIAMOND[step] if need in due),
            replaces=step == replaces,
        )
        for step in due
    ]
    verdicts = {outcome.verdict for outcome in dispatcher.run(works, run).values()}
    place.finish_run(run, "failed" if Verdict.FAILED in verdicts else "completed")


def test_any_crash_under_the_dispatcher(fast: Path) -> None:
    """The same with the dispatcher, its threads and its fake engine, whose jobs end all the same."""
    for halves in cuts():
        root = fast / str(halves) / "ws"
        disk = CrashingDisk(halves)
        place = workspace(root, 1, disk)
        try:
            dispatch(place, fails="c")
            dispatch(place)
            dispatch(place, replaces="b")
        except Crash:
            pass
        hold(root)
        shutil.rmtree(root.parent)
        if not disk.crashed:
            break
    assert halves > 150
