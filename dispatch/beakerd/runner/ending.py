"""From a job's exit to its end: its log whole, its results captured, and then finalized.

Owns what an exit means beside its code. May be repeated from its beginning: nothing counts before the one
transaction in which the result's files are recorded and the job is finalized.
"""

from __future__ import annotations

import errno
import shutil
from typing import TYPE_CHECKING

from dispatch._docker import ApiError, Door
from dispatch._docker.archive import CutError
from dispatch._docker.containers import ContainerState
from dispatch.beakerd.runner.bell import Bell
from dispatch.beakerd.runner.containers import ENGINE_LABEL, name_of
from dispatch.beakerd.runner.failure import ClosingError
from dispatch.beakerd.runner.logs import JobLog
from dispatch.beakerd.runner.results import Captured, capture
from dispatch.beakerd.store.running import Job, replace_files
from dispatch.errors import EngineError

if TYPE_CHECKING:
    from dispatch.beakerd.runner.job import Parts

GONE = 404
ENGINE_STOPPED = (137, 143, 255)


def lost_with_engine(door: Door, state: ContainerState, away: bool) -> str | None:
    """Why a container's exit is not the job's own, None where it is. ``away``: the engine was seen to be.

    An engine that was started anew while nobody looked leaves its mark, and codes that say how it went.
    """
    if state.exit_code == 0:
        return None
    if not away and state.exit_code in ENGINE_STOPPED and ENGINE_LABEL in state.labels:
        away = state.labels[ENGINE_LABEL] != door.bridge_stamp()
    return "the engine went down while it ran" if away else None


class Ending:
    """The end of one job, for one thread."""

    def __init__(self, parts: Parts, log: JobLog, bell: Bell):
        self._parts = parts
        self._backend = parts.backend
        self._containers = parts.backend.door.containers
        self._log = log
        self._bell = bell

    def end(self, job: Job, failure: str | None) -> None:
        """Bring a job that runs no more to its end; ``failure`` is why it could not run.

        :raises EngineError: when the engine does not answer: to be repeated
        """
        name = name_of(job.id)
        state = self._containers.inspect(name) if job.container else None
        captured = Captured()
        if state is not None and state.started is not None:
            self._log.complete(self._containers, name)
            if self._log.fault is not None:
                captured.notes.append(f"its log is not complete: {self._log.fault.strerror}")
            failure = self._capture(job, name, captured) or failure
        failure = failure or _meaning(job, state)
        self._wait_for_gap(job)
        with self._backend.database.write() as tx:
            replace_files(tx, job.result_dataset_id, captured.rows)
            for note in captured.notes:
                self._backend.lifecycle.event(tx, job.id, "results", note)
            self._backend.lifecycle.finalize(tx, job.id, failure, captured.metrics)

    def _capture(self, job: Job, name: str, captured: Captured) -> str | None:
        """Capture the result; return why that failed."""
        path = job.task.result_path
        if path is None or (
            job.canceled_code is not None and not self._backend.config.assume.result_on_cancel
        ):
            return None
        target = self._backend.layout.files(job.result_dataset_id)
        try:
            with self._backend.door.files.get(name, f"{path.rstrip('/')}/.") as stream:
                found = capture(stream, target, self._backend.clock.now)
        except ApiError as error:
            return None if error.status == GONE else f"its results cannot be captured: {error.detail}"
        except CutError as error:
            raise EngineError(f"the results of job {job.id} broke off: {error}") from error
        except OSError as error:
            # Nothing that is half there, and room for what must be written down now.
            shutil.rmtree(target, ignore_errors=True)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            return f"its results cannot be kept: {'the disk is full' if full else error.strerror}"
        captured.rows += found.rows
        captured.notes += found.notes
        captured.metrics = found.metrics
        return None

    def _wait_for_gap(self, job: Job) -> None:
        gap = self._backend.config.assume.finalize_gap
        if not gap or job.exited is None:
            return
        passed = (self._backend.clock.now() - job.exited) / 1e9
        until = self._parts.monotonic() + min(gap, max(0.0, gap - passed))
        while (left := until - self._parts.monotonic()) > 0:
            self._bell.wait(left)
            if self._parts.closing.is_set():
                raise ClosingError


def _meaning(job: Job, state: ContainerState | None) -> str | None:
    """What the exit means, where its code does not say it."""
    if job.exited is None:
        return None
    if state is None:
        return "its container was removed by somebody"
    # The flag may also mean a child that was killed while the job went on.
    if state.oom_killed and job.exit_code != 0:
        memory = job.task.resources.memory
        given = f" ({memory / (1 << 20):.0f} MiB)" if memory else ""
        return f"out of memory: it needed more than it was given{given}"
    return None
