"""From an experiment that seems to have ended to the one EXITED event of its job.

Owns when a job has ended for good: its last try is finalized, its log is whole, and what belongs on this
machine is here. Refuses to judge an outcome.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from dispatch._beaker import (
    BeakerDeniedError,
    BeakerDoor,
    BeakerError,
    BeakerNotFoundError,
    BeakerUnreachableError,
    Job,
)
from dispatch.engine.base import Event, JobState, Reason
from dispatch.engine.beaker.collecting import Collector
from dispatch.engine.beaker.following import Followers
from dispatch.engine.beaker.job import BeakerJob
from dispatch.engine.beaker.reasons import is_resumed, reason_of
from dispatch.errors import DispatchError

# How long Beaker may take to make the next try of a job that it resumes.
RESUMES_WITHIN = 30.0
# So often may Beaker refuse something before an end is told without it.
_REFUSALS = 5

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Fault:
    """Why an end cannot be what it was: something of it could not be kept."""

    message: str


class Finisher:
    """Tells of the beginnings and ends of jobs. ``wake`` is called where one has to be waited for again.

    Its methods may be called from several threads.
    """

    def __init__(
        self,
        door: BeakerDoor,
        followers: Followers,
        tell: Callable[[Event], None],
        clock: Callable[[], float],
        wake: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._door = door
        self._wake = wake
        self._followers = followers
        self._tell = tell
        self._clock = clock
        self._monotonic = monotonic
        self._collector = Collector(door)
        self._nodes: dict[str, str] = {}

    def begin(self, job: BeakerJob) -> None:
        """A job seems to run: tell since when and where, and follow its log."""
        try:
            tries = self._door.experiments.jobs(self._task(job))
            if tries and tries[0].started is not None and tries[0].finalized is None:
                self._tell_running(job, tries[0])
                self._followers.follow(job, tries)
                return
        except (DispatchError, OSError) as error:
            _log.debug("%s: %s", job.key, error)
        with job.lock:
            job.begun = False

    def conclude(self, job: BeakerJob) -> None:
        """A job seems to have ended: see whether it has, and if so bring back what belongs here."""
        ended = False
        try:
            ended = self._conclude(job)
        except (BeakerUnreachableError, BeakerDeniedError) as error:
            # Whoever asks Beaker what happens notices it, too, and decides.
            _log.debug("%s: %s", job.key, error)
        except BeakerNotFoundError as error:
            self.refuse(job, Reason.LOST, f"its experiment was removed: {error.message}")
            return
        except BeakerError as error:
            job.refusals += 1
            if job.refusals > _REFUSALS:
                self.refuse(job, Reason.INFRA, error.message)
                return
        except Exception as error:
            _log.debug("%s", job.key, exc_info=True)
            self.refuse(job, Reason.INFRA, f"its end could not be recorded: {error}")
            return
        if not ended:
            with job.lock:
                job.claimed = False
                job.known_at = self._monotonic()
            self._wake()

    def refuse(self, job: BeakerJob, reason: Reason, message: str) -> None:
        """Tell that a job has ended without having run, or nobody knows how."""
        with contextlib.suppress(OSError):
            job.log.finish(self._clock())
        self._end(
            job, Event(job.key, JobState.EXITED, self._clock(), job.name, reason=reason, message=message)
        )

    def _conclude(self, job: BeakerJob) -> bool:
        tries = self._door.experiments.jobs(self._task(job))
        if not tries:
            # Of one that is gone Beaker may list nothing, too.
            self._door.experiments.get(job.experiment_id)
            return False
        newest = tries[0]
        if not self._is_over(job, newest):
            return False
        if newest.started is not None:
            self._tell_running(job, newest)
        ended = newest.exited or newest.finalized or self._clock()
        fault = self._take(job, tries, newest, ended)
        reason = Reason.INFRA if fault is not None else reason_of(newest, cancelled=job.cancelled)
        if job.missed and reason is not Reason.PREEMPTED:
            reason = Reason.LOST
        event = Event(
            job.key,
            JobState.EXITED,
            ended,
            job.name,
            node=self._node(newest),
            reason=reason,
            exit_code=newest.exit_code,
            message=fault.message if fault is not None else self._words(job, newest, reason),
            output=None if fault is not None else self._collector.place_of(job, tries),
        )
        self._end(job, event)
        return True

    def _is_over(self, job: BeakerJob, newest: Job) -> bool:
        """Whether no other try will follow. Between two, Beaker may show for a moment none that lives."""
        if newest.finalized is None or not newest.state.is_end:
            job.over_since = None
            return False
        if not (job.resumes and is_resumed(newest)) or job.cancelled:
            return True
        if job.over_since is None:
            job.over_since = self._monotonic()
        return self._monotonic() - job.over_since > RESUMES_WITHIN

    def _take(self, job: BeakerJob, tries: list[Job], newest: Job, ended: float) -> _Fault | None:
        """Bring back log and output; return why that failed, unless Beaker does not answer."""
        try:
            self._followers.complete(job, tries)
            if newest.result_dataset and not job.is_shared:
                self._collector.collect(job, newest.result_dataset)
            job.log.finish(ended)
        except (BeakerUnreachableError, BeakerDeniedError):
            raise
        except OSError as error:
            return _Fault(f"what it left cannot be kept here: {error.strerror}")
        except DispatchError as error:
            return _Fault(error.message)
        return None

    def _tell_running(self, job: BeakerJob, newest: Job) -> None:
        with job.lock:
            if job.told or job.last_try == newest.id:
                return
            job.last_try = newest.id
        self._tell(
            Event(
                job.key,
                JobState.RUNNING,
                newest.started or self._clock(),
                job.name,
                node=self._node(newest),
                message=self._door.experiments.job_url(newest.id),
            )
        )

    def _end(self, job: BeakerJob, event: Event) -> None:
        with job.lock:
            if job.told:
                return
            job.told = job.claimed = True
        self._tell(event)

    def _words(self, job: BeakerJob, newest: Job, reason: Reason) -> str:
        """What is said of an end that is no success, with where to look."""
        if reason is Reason.STEP and newest.exit_code == 0:
            return ""
        url = self._door.experiments.job_url(newest.id)
        if job.missed:
            return (
                f"it ended while nobody looked after it: {newest.message or newest.state.value} (see {url})"
            )
        return f"{newest.message} (see {url})" if newest.message else f"see {url}"

    def _task(self, job: BeakerJob) -> str:
        if job.experiment is None:
            job.experiment = self._door.experiments.get(job.experiment_id)
        return job.experiment.task_id

    def _node(self, newest: Job) -> str:
        if newest.node and newest.node not in self._nodes:
            try:
                self._nodes[newest.node] = self._door.clusters.hostname(newest.node)
            except DispatchError:
                return newest.node
        return self._nodes.get(newest.node, "")
