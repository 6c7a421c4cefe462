"""What every engine keeps to, as tests. Subclass it and give it a fixture ``lab``."""

from __future__ import annotations

import enum
import time
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from dispatch.engine.base import Engine, Event, Handle, JobSpec, JobState, Reason

GREETING = b"hello\n"
FAILURE = 3
LIMIT = 60.0


class Behaviour(enum.Enum):
    """What a job of the contract does."""

    GREETS = "prints GREETING, exits 0"
    FAILS = "prints GREETING, exits with FAILURE"
    HANGS = "prints GREETING, runs until SIGTERM, then exits 143"
    STUBBORN = "ignores SIGTERM, prints GREETING, and runs"
    GHOST = "cannot be started: names an image, or a program, that does not exist"


class EngineLab(Protocol):
    """What a subclass provides: the engine under test, jobs for it, and a later client of the same.

    ``refusal`` is the engine's reason for a job that cannot be started.
    """

    engine: Engine
    refusal: Reason

    def job(self, key: str, behaviour: Behaviour) -> JobSpec:
        """A job of the run ``contract`` with an output mount. Jobs of one key are equal."""

    def again(self) -> Engine:
        """What a new client process would hold; the engine itself where there can be no other."""


def end_of(engine: Engine, key: str) -> Event:
    """Return the EXITED event of a job, dropping the others."""
    while (event := engine.next_event(LIMIT)) is not None:
        if event.key == key and event.state is JobState.EXITED:
            return event
    raise AssertionError(f"no end of {key} within {LIMIT} s")


def running(engine: Engine, key: str) -> None:
    """Wait until a job runs."""
    while (event := engine.next_event(LIMIT)) is not None:
        if event.key == key and event.state is JobState.RUNNING:
            return
    raise AssertionError(f"{key} did not begin within {LIMIT} s")


def greeting(engine: Engine, handle: Handle, words: bytes = GREETING) -> None:
    """Wait until a job runs, and has come so far as to greet."""
    running(engine, handle.key)
    given_up = time.monotonic() + LIMIT
    while words not in b"".join(engine.logs(handle)):
        assert time.monotonic() < given_up, f"{handle.key} says nothing"
        time.sleep(0.01)


def _found(engine: Engine, place: Path) -> list[Handle]:
    """The contract's jobs whose attempts are kept below ``place``: others may test the same engine."""
    return [each for each in engine.find("contract") if each.directory and place in each.directory.parents]


class EngineContract:
    """The promises of :class:`~dispatch.engine.base.Engine`."""

    def test_capabilities_are_stable(self, lab: EngineLab) -> None:
        """A probe finds something to run on, and the same each time."""
        capabilities = lab.engine.capabilities()
        assert capabilities.cpus >= 1 and capabilities.memory > 0 and capabilities.accepts
        assert lab.engine.capabilities() == capabilities

    def test_success(self, lab: EngineLab) -> None:
        """A job that exits 0 is told once as running and once as ended, with its log on disk."""
        job = lab.job("good.1", Behaviour.GREETS)
        (handle,) = lab.engine.submit([job])
        first, second = lab.engine.next_event(LIMIT), lab.engine.next_event(LIMIT)
        assert first is not None and second is not None
        assert [first.state, second.state] == [JobState.RUNNING, JobState.EXITED]
        assert (second.key, second.exit_code, second.reason) == (job.key, 0, Reason.STEP)
        assert second.engine_id == handle.engine_id
        assert (job.attempt_dir / "out.log").read_bytes() == GREETING
        assert lab.engine.next_event(0) is None

    def test_failure(self, lab: EngineLab) -> None:
        """A command's own failure is reported with its exit code and blamed on the step."""
        lab.engine.submit([lab.job("bad.1", Behaviour.FAILS)])
        event = end_of(lab.engine, "bad.1")
        assert (event.exit_code, event.reason) == (FAILURE, Reason.STEP)

    def test_start_that_fails(self, lab: EngineLab) -> None:
        """A job that cannot be started comes back as an end with its reason, and has a log."""
        job = lab.job("ghost.1", Behaviour.GHOST)
        lab.engine.submit([job])
        event = end_of(lab.engine, job.key)
        assert (event.exit_code, event.reason) == (None, lab.refusal)
        assert event.message
        assert (job.attempt_dir / "out.log").read_bytes() == b""

    def test_several_end_once_each(self, lab: EngineLab) -> None:
        """Jobs submitted together each end exactly once."""
        keys = [f"many{number}.1" for number in range(6)]
        lab.engine.submit([lab.job(key, Behaviour.GREETS) for key in keys])
        ends: list[str] = []
        while len(ends) < len(keys):
            event = lab.engine.next_event(LIMIT)
            assert event is not None
            if event.state is JobState.EXITED:
                ends.append(event.key)
        assert sorted(ends) == keys
        assert lab.engine.next_event(0.2) is None

    def test_submitting_twice_is_submitting_once(self, lab: EngineLab) -> None:
        """The second submission of a key returns the first one's handle, and there is one end."""
        job = lab.job("twice.1", Behaviour.GREETS)
        assert lab.engine.submit([job]) == lab.engine.submit([job])
        end_of(lab.engine, job.key)
        assert lab.engine.next_event(0.2) is None

    def test_attaching(self, lab: EngineLab) -> None:
        """A new client that submits the same key takes over the running job, and sees its end."""
        job = lab.job("taken.1", Behaviour.HANGS)
        first = lab.engine.submit([job])
        greeting(lab.engine, first[0])
        second = lab.again()
        assert second.submit([job]) == first
        second.cancel(first, grace=30)
        assert end_of(second, job.key).exit_code == 143

    def test_attaching_to_an_ended_job(self, lab: EngineLab) -> None:
        """A new client that submits a key which has ended meanwhile is told its end."""
        job = lab.job("late.1", Behaviour.FAILS)
        lab.engine.submit([job])
        end_of(lab.engine, job.key)
        second = lab.again()
        if second is not lab.engine:
            second.submit([job])
            assert end_of(second, job.key).exit_code == FAILURE

    def test_attaching_only(self, lab: EngineLab) -> None:
        """A later client that only attaches to a running job is told of it, and of its end."""
        job = lab.job("left.1", Behaviour.HANGS)
        first = lab.engine.submit([job])
        greeting(lab.engine, first[0])
        second = lab.again()
        if second is not lab.engine:
            assert second.submit([replace(job, attach=True)]) == first
            running(second, job.key)
        second.cancel(first, grace=30)
        assert end_of(second, job.key).exit_code == 143

    def test_attaching_to_what_is_not_there(self, lab: EngineLab) -> None:
        """A job that is only to be attached to, and is not there, is told to be lost, and is not started."""
        job = replace(lab.job("never.1", Behaviour.GREETS), attach=True)
        lab.engine.submit([job])
        event = end_of(lab.engine, job.key)
        assert (event.exit_code, event.reason) == (None, Reason.LOST)
        assert event.message
        assert (job.attempt_dir / "out.log").read_bytes() == b""
        assert lab.engine.next_event(0.2) is None

    def test_finding_tells_where(self, lab: EngineLab) -> None:
        """A job that is found names the directory in which its client keeps the attempt."""
        job = lab.job("told.1", Behaviour.GREETS)
        lab.engine.submit([job])
        end_of(lab.engine, job.key)
        found = _found(lab.again(), job.attempt_dir.parent)
        assert [(handle.key, handle.directory) for handle in found] == [(job.key, job.attempt_dir)]

    def test_own_jobs_are_not_others(self, lab: EngineLab) -> None:
        """What a client runs itself is not among what others hold."""
        job = lab.job("mine.1", Behaviour.HANGS)
        handles = lab.engine.submit([job])
        greeting(lab.engine, handles[0])
        assert str(job.attempt_dir) not in [each.directory for each in lab.engine.others()]
        lab.engine.cancel(handles, grace=30)
        end_of(lab.engine, job.key)

    def test_cancel(self, lab: EngineLab) -> None:
        """A cancelled job ends by SIGTERM, and says that it was cancelled."""
        job = lab.job("long.1", Behaviour.HANGS)
        handles = lab.engine.submit([job])
        greeting(lab.engine, handles[0])
        lab.engine.cancel(handles, grace=30)
        event = end_of(lab.engine, job.key)
        assert (event.exit_code, event.reason) == (143, Reason.CANCELLED)

    def test_cancel_kills_after_the_grace(self, lab: EngineLab) -> None:
        """A job that ignores SIGTERM is killed when the grace is over."""
        job = lab.job("deaf.1", Behaviour.STUBBORN)
        handles = lab.engine.submit([job])
        greeting(lab.engine, handles[0])
        lab.engine.cancel(handles, grace=0.2)
        event = end_of(lab.engine, job.key)
        assert (event.exit_code, event.reason) == (137, Reason.CANCELLED)

    def test_cancel_right_after_submit(self, lab: EngineLab) -> None:
        """A job that is cancelled before it runs ends as cancelled, once."""
        job = lab.job("early.1", Behaviour.HANGS)
        handles = lab.engine.submit([job])
        lab.engine.cancel(handles, grace=30)
        assert end_of(lab.engine, job.key).reason is Reason.CANCELLED
        assert lab.engine.next_event(0.2) is None

    def test_cancel_of_an_ended_job(self, lab: EngineLab) -> None:
        """Cancelling what has ended, or was never there, does nothing."""
        job = lab.job("past.1", Behaviour.GREETS)
        handles = lab.engine.submit([job])
        end_of(lab.engine, job.key)
        lab.engine.cancel([*handles, Handle("stranger.1", "stranger")], grace=0)
        assert lab.engine.next_event(0.2) is None

    def test_find_and_release(self, lab: EngineLab) -> None:
        """A run's jobs are found by any client until they are released; releasing twice is allowed."""
        handles = lab.engine.submit(
            [lab.job("kept.1", Behaviour.GREETS), lab.job("gone.1", Behaviour.GREETS)]
        )
        for _ in range(4):
            assert lab.engine.next_event(LIMIT) is not None
        place = lab.job("kept.1", Behaviour.GREETS).attempt_dir.parent
        assert sorted(_found(lab.again(), place), key=lambda each: each.key) == sorted(
            handles, key=lambda each: each.key
        )
        lab.engine.release(handles[1])
        lab.engine.release(handles[1])
        lab.engine.close()
        assert _found(lab.again(), place) == [handles[0]]
        assert lab.again().find("another run") == []

    def test_logs(self, lab: EngineLab) -> None:
        """The log can be read through the engine, during and after the job."""
        job = lab.job("talk.1", Behaviour.GREETS)
        (handle,) = lab.engine.submit([job])
        end_of(lab.engine, job.key)
        assert b"".join(lab.engine.logs(handle)) == GREETING

    def test_output(self, lab: EngineLab) -> None:
        """The output's location is the one that was mounted, for a later client too."""
        job = lab.job("out.1", Behaviour.GREETS)
        (handle,) = lab.engine.submit([job])
        end_of(lab.engine, job.key)
        assert lab.engine.output(handle) == job.mounts[0].source
        assert lab.again().output(handle) == job.mounts[0].source

    def test_private_places(self, lab: EngineLab) -> None:
        """Once released, a job has left nothing but its log and what it wrote into its mounts."""
        job = lab.job("tidy.1", Behaviour.GREETS)
        handles = lab.engine.submit([job])
        end_of(lab.engine, job.key)
        lab.engine.release(handles[0])
        lab.engine.close()
        left = {path.name for path in Path(job.attempt_dir).iterdir()}
        assert left <= {"out.log", "phases.json", "container", "output"}
