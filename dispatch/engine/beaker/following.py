"""Reads the logs of jobs that run, as they grow, and the rest of them when jobs have ended.

Owns how many are followed at once: each holds a stream of Beaker's and a thread of ours. The others' logs are
read when somebody asks, and in the end. Refuses to know what is done with the lines.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence

from dispatch._beaker import BeakerDoor, BeakerError, BeakerNotFoundError, BeakerUnreachableError, Job
from dispatch.engine.beaker.job import BeakerJob

AT_ONCE = 16
PAUSE = 0.5
# A stream that breaks off so often, with no line between, will not be had.
TRIES = 20

_log = logging.getLogger(__name__)


class Followers:
    """The threads that follow logs."""

    def __init__(self, door: BeakerDoor, at_once: int = AT_ONCE) -> None:
        self._door = door
        self._lock = threading.Lock()
        self._free = at_once
        self._waiting: deque[tuple[BeakerJob, list[Job]]] = deque()
        self._gone = threading.Event()

    def follow(self, job: BeakerJob, tries: Sequence[Job]) -> None:
        """Follow a job's log, as soon as there is a place for it. ``tries`` are newest first."""
        with self._lock:
            self._waiting.append((job, list(reversed(tries))))
            if self._gone.is_set() or not self._free:
                return
            self._free -= 1
        threading.Thread(target=self._work, name="dispatch-beaker-log", daemon=True).start()

    def complete(self, job: BeakerJob, tries: Sequence[Job]) -> None:
        """Read what is missing of the log of a job that has ended.

        :raises BeakerUnreachableError: the line breaks off again and again
        """
        for each in reversed(tries):
            try:
                self._read(job, each.id, follow=False)
            except BeakerNotFoundError:
                # A try that never had a place has no log.
                job.log.end(each.id)

    def close(self) -> None:
        """Follow no more. Threads that wait for a line are left behind."""
        self._gone.set()

    def _work(self) -> None:
        """Follow one log after the other, as long as there is one."""
        while True:
            with self._lock:
                if self._gone.is_set() or not self._waiting:
                    self._free += 1
                    return
                job, tries = self._waiting.popleft()
            if not job.told:
                self._run(job, tries)

    def _run(self, job: BeakerJob, tries: list[Job]) -> None:
        try:
            for each in tries[:-1]:
                self._read(job, each.id, follow=False)
            self._read(job, tries[-1].id, follow=True)
        except (BeakerError, OSError) as error:
            # It is read again, as a whole, when the job has ended.
            _log.debug("log of %s: %s", job.key, error)

    def _read(self, job: BeakerJob, job_id: str, *, follow: bool) -> None:
        idle = 0
        while (since := job.log.begin(job_id)) is not None:
            try:
                for line in self._door.experiments.logs(job_id, since, follow=follow):
                    idle = 0
                    if not job.log.add(job_id, line) or (follow and self._gone.is_set()):
                        return
                job.log.end(job_id)
            except BeakerUnreachableError:
                idle += 1
                if idle == TRIES or (follow and self._gone.is_set()):
                    raise
                time.sleep(PAUSE)
