"""An engine of this machine for results that are elsewhere: they are brought before the job starts.

Owns the time between a job's submission and its start: nobody waits in it but the job. Refuses to know where
results are; whoever made this engine says how one is brought.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dispatch.engine.base import (
    Capabilities,
    Engine,
    Event,
    Handle,
    Holding,
    JobSpec,
    JobState,
    Reason,
    Usage,
)
from dispatch.engine.pump import Pump
from dispatch.errors import DispatchError
from dispatch.location import BeakerDataset, Location

# So many jobs are brought for at once: each of them is several downloads already.
AT_ONCE = 4
_LOG = "out.log"

_log = logging.getLogger(__name__)


@dataclass
class _Waiting:
    """A job whose results are being brought; ``off`` once it was told that it will not begin."""

    job: JobSpec
    handle: Handle
    off: bool = False


class FetchingEngine:
    """Stands before an engine of this machine; see :class:`~dispatch.engine.base.Engine` for the contracts.

    ``bring`` is given the unique id of a step and returns when its result is here; it may be called from
    several threads, and raises DispatchError or OSError. A job for which that fails is told to have ended.
    """

    def __init__(
        self, inner: Engine, bring: Callable[[str], None], clock: Callable[[], float] = time.time
    ) -> None:
        self.inner = inner
        self._bring = bring
        self._clock = clock
        self._lock = threading.Lock()
        self._room = threading.Semaphore(AT_ONCE)
        self._waiting: dict[str, _Waiting] = {}
        self._begun: dict[str, Handle] = {}
        self._queue: queue.SimpleQueue[Event | Exception] = queue.SimpleQueue()
        self._pump: Pump | None = None
        self._closed = False

    def capabilities(self) -> Capabilities:
        """Those of the engine, and results on Beaker on top."""
        return seeing(self.inner.capabilities())

    def submit(self, jobs: Sequence[JobSpec]) -> list[Handle]:
        """Start jobs that have all they need; for others, see to it in the background."""
        return [self._submit(job) for job in jobs]

    def _submit(self, job: JobSpec) -> Handle:
        with self._lock:
            known = self._waiting.get(job.key)
            if known is not None:
                return known.handle
            if job.key in self._begun or not job.brings or job.attach:
                return self._begin(job)
            waiting = _Waiting(job, Handle(job.key, "", job.attempt_dir))
            self._waiting[job.key] = waiting
        # Not a pool: what hangs in a download must not hold up the end of the process.
        threading.Thread(target=self._see_to, args=(waiting,), name="dispatch-fetch", daemon=True).start()
        return waiting.handle

    def _see_to(self, waiting: _Waiting) -> None:
        job = waiting.job
        try:
            with self._room:
                for unique_id in job.brings:
                    if self._is_off(waiting):
                        return
                    self._bring(unique_id)
            with self._lock:
                if not (waiting.off or self._closed):
                    self._begin(job)
                    del self._waiting[job.key]
        except Exception as error:
            self._refuse(waiting, Reason.INFRA, _in_words(error))

    def _is_off(self, waiting: _Waiting) -> bool:
        with self._lock:
            return waiting.off or self._closed

    def _begin(self, job: JobSpec) -> Handle:
        """Hand a job to the engine, who starts it without waiting. With the lock: who cancels, waits."""
        if self._pump is None:
            self._pump = Pump(self.inner, self._queue.put, self._queue.put)
            self._pump.start()
        if job.key not in self._begun:
            self._pump.expect(job.key)
        (self._begun[job.key],) = self.inner.submit([job])
        return self._begun[job.key]

    def _refuse(self, waiting: _Waiting, reason: Reason, message: str) -> None:
        """Tell that a job has ended without having begun; once."""
        job = waiting.job
        with self._lock:
            if waiting.off or self._closed:
                return
            waiting.off = True
        with contextlib.suppress(OSError):
            (job.attempt_dir / _LOG).touch()
        self._queue.put(Event(job.key, JobState.EXITED, self._clock(), reason=reason, message=message))

    def next_event(self, timeout: float | None) -> Event | None:
        """Return the next event of the engine, or of a job that never came to it; raise what it raised."""
        try:
            item = self._queue.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(item, Exception):
            self._queue.put(item)
            raise item
        return item

    def logs(self, handle: Handle) -> Iterator[bytes]:
        """Yield the job's log; one that has not begun has none."""
        started = self._started(handle)
        if started is not None:
            yield from self.inner.logs(started)

    def cancel(self, handles: Sequence[Handle], grace: float) -> None:
        """Have jobs stopped; one that has not begun has ended with that."""
        running = []
        for handle in handles:
            with self._lock:
                waiting = self._waiting.get(handle.key)
            if waiting is not None:
                self._refuse(waiting, Reason.CANCELLED, "")
            # It may have begun in the meantime.
            started = self._started(handle)
            if started is not None:
                running.append(started)
        if running:
            self.inner.cancel(running, grace)

    def find(self, run: str) -> list[Handle]:
        """Return the jobs of a run that the engine knows: one that has not begun ends with its client."""
        return self.inner.find(run)

    def usage(self, handles: Sequence[Handle]) -> Mapping[str, Usage]:
        """Return what jobs use now that have begun."""
        running = [started for handle in handles if (started := self._started(handle)) is not None]
        return self.inner.usage(running)

    def others(self) -> tuple[Holding, ...]:
        """Return what jobs of other clients hold."""
        return self.inner.others()

    def output(self, handle: Handle) -> Location:
        """Return where the job's output directory is."""
        return self.inner.output(self._started(handle) or handle)

    def release(self, handle: Handle) -> None:
        """Forget a job."""
        started = self._started(handle)
        with self._lock:
            self._waiting.pop(handle.key, None)
            self._begun.pop(handle.key, None)
        if started is not None:
            self.inner.release(started)

    def settle(self) -> None:
        """Wait for the engine."""
        self.inner.settle()

    def close(self) -> None:
        """Start no more, and close the engine. What is being brought is let go on with the process."""
        with self._lock:
            self._closed = True
            pump, self._pump = self._pump, None
        if pump is not None:
            pump.stop()
        self.inner.close()

    def _started(self, handle: Handle) -> Handle | None:
        """The engine's own handle; None for a job that it does not have yet. Others' jobs are as given."""
        with self._lock:
            return None if handle.key in self._waiting else self._begun.get(handle.key, handle)


def seeing(capabilities: Capabilities) -> Capabilities:
    """Return the capabilities of an engine of this machine for which results are brought."""
    if BeakerDataset in capabilities.accepts:
        return capabilities
    return replace(capabilities, accepts=(*capabilities.accepts, BeakerDataset))


def _in_words(error: Exception) -> str:
    if isinstance(error, DispatchError):
        return f"its inputs cannot be brought: {error.message}"
    if isinstance(error, OSError):
        return f"its inputs cannot be brought: the system refused: {error}"
    _log.debug("unexpected error", exc_info=error)
    return f"its inputs cannot be brought: {type(error).__name__}: {error}"
