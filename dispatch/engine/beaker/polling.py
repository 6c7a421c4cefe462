"""Asks Beaker what became of our jobs: one thread for all of them.

Owns how often and how much is asked. A tick is a list of our experiments that have not ended, fifty a
request, and one question more: why one of those that wait for a place does. What has begun, or has left the
list, is seen to by others. Nothing is asked while there is nothing to wait for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from dispatch._beaker import (
    BeakerDoor,
    BeakerError,
    BeakerNotFoundError,
    BeakerUnreachableError,
    Experiment,
    JobState,
)
from dispatch.engine.beaker.job import BeakerJob
from dispatch.errors import EngineError

# A place that is free is had in no time: nobody needs to hear of such a wait.
WAITS_LONG = 5.0
# A refusal may be the moment's.
REFUSALS = 3

_log = logging.getLogger(__name__)


class Listener(Protocol):
    """Who is told what a tick found."""

    def waits(self, job: BeakerJob, reason: str) -> None:
        """A job waits for a place, and why."""

    def begun(self, job: BeakerJob) -> None:
        """A job seems to run."""

    def ended(self, job: BeakerJob) -> None:
        """A job seems to have ended."""

    def lost(self, error: EngineError) -> None:
        """Beaker is not to be asked any more."""


class Poller:
    """The thread. ``jobs`` are ours by key, and change meanwhile; ``text`` is in the names of all of them."""

    def __init__(
        self,
        door: BeakerDoor,
        text: str,
        jobs: Mapping[str, BeakerJob],
        listener: Listener,
        tick: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._door = door
        self._text = text
        self._jobs = jobs
        self._listener = listener
        self._tick = tick
        self._monotonic = monotonic
        self._bell = threading.Event()
        self._gone = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dispatch-beaker-poll", daemon=True)
        self._started = threading.Lock()
        self._asked: dict[str, float] = {}

    def wake(self) -> None:
        """There is something to wait for."""
        if self._started.acquire(blocking=False):
            self._thread.start()
        self._bell.set()

    def close(self) -> None:
        """Ask no more. A question under way is not waited for."""
        self._gone.set()
        self._bell.set()

    def _run(self) -> None:
        refusals = 0
        while not self._gone.is_set():
            began = self._monotonic()
            if self._live():
                try:
                    self.tick()
                    refusals = 0
                except BeakerUnreachableError as error:
                    self._break(error)
                    return
                except BeakerError as error:
                    refusals += 1
                    _log.debug("Beaker refuses to say what runs: %s", error)
                    if refusals == REFUSALS:
                        self._break(error)
                        return
                except Exception as error:
                    _log.debug("unexpected error", exc_info=True)
                    self._break(EngineError(f"Beaker: unexpected {type(error).__name__}: {error}"))
                    return
            else:
                self._bell.wait()
                self._bell.clear()
            self._gone.wait(max(0.0, self._tick - (self._monotonic() - began)))

    def tick(self) -> None:
        """Ask once."""
        before, live = self._monotonic(), self._live()
        found = {each.id: (each, state) for each, state in self._door.experiments.unfinished(self._text)}
        for job in live:
            job.log.flush()
            if job.experiment_id in found:
                self._observe(job, *found[job.experiment_id])
            elif job.known_at < before and self._claim(job):
                self._listener.ended(job)
        self._ask_why([job for job in live if self._waits_long(job)])

    def _live(self) -> list[BeakerJob]:
        return [job for job in list(self._jobs.values()) if job.experiment_id and not job.claimed]

    def _claim(self, job: BeakerJob) -> bool:
        with job.lock:
            claimed, job.claimed = job.claimed, True
            return not claimed

    def _observe(self, job: BeakerJob, experiment: Experiment, state: JobState) -> None:
        job.experiment = experiment
        with job.lock:
            job.over_since = None
            if state in (JobState.QUEUED, JobState.STARTING):
                # Also one that ran before, and is resumed.
                job.begun = False
                if state is not JobState.QUEUED:
                    job.queued_since = None
                elif job.queued_since is None:
                    job.queued_since = self._monotonic()
                return
            job.queued_since, job.waits_for, job.waiting_try = None, "", ""
            if job.begun:
                return
            job.begun = True
        self._listener.begun(job)

    def _waits_long(self, job: BeakerJob) -> bool:
        return job.queued_since is not None and self._monotonic() - job.queued_since >= WAITS_LONG

    def _ask_why(self, waiting: list[BeakerJob]) -> None:
        """Ask about the one of which was asked the longest time ago."""
        if not waiting:
            return
        job = min(waiting, key=lambda each: self._asked.get(each.key, 0.0))
        self._asked[job.key] = self._monotonic()
        try:
            reason = self._reason(job)
        except BeakerNotFoundError:
            return
        if reason and reason != job.waits_for:
            job.waits_for = reason
            self._listener.waits(job, reason)

    def _reason(self, job: BeakerJob) -> str:
        """Some servers say it with the job, others only in its events. Those are asked first: if it waits
        even after that, they do not speak of its beginning.
        """
        assert job.experiment is not None
        told = self._door.experiments.events(job.waiting_try) if job.waiting_try else []
        tries = self._door.experiments.jobs(job.experiment.task_id, 1)
        if not tries or tries[0].state is not JobState.QUEUED:
            return ""
        events = [message for _, message in told if message] if job.waiting_try == tries[0].id else []
        job.waiting_try = tries[0].id
        return tries[0].message or (events[0] if events else "")

    def _break(self, error: EngineError) -> None:
        if not self._gone.is_set():
            self._listener.lost(error)
