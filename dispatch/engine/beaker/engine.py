"""The engine that runs jobs as Beaker's experiments, each of one task.

Owns the life of an experiment from the job to its one EXITED event, and that nothing made for a job alone is
left on Beaker in the end but the experiment itself, which people may want to look at. Refuses to retry, to
judge a job's outcome, and to know steps or workspaces.

Threads: one asks Beaker what changed (``polling``); small pools bring jobs there (``launching``), conclude
their ends (``ending``), and cancel and release; some follow logs (``following``).
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from dispatch._beaker import BeakerDoor
from dispatch.engine.base import Capabilities, Event, Handle, Holding, JobSpec, JobState, Usage
from dispatch.engine.beaker.baggage import Baggage
from dispatch.engine.beaker.bundles import Bundles
from dispatch.engine.beaker.ending import Finisher
from dispatch.engine.beaker.experiments import Experiments
from dispatch.engine.beaker.extras import NOTHING, Extras
from dispatch.engine.beaker.following import Followers
from dispatch.engine.beaker.job import OUTPUT, BeakerJob, source_of
from dispatch.engine.beaker.launching import Launcher
from dispatch.engine.beaker.names import Names, Story
from dispatch.engine.beaker.polling import Poller
from dispatch.engine.joblog import LOG_NAME
from dispatch.errors import EngineError
from dispatch.location import BeakerDataset, HostPath, Location, SharedPath, Spool
from dispatch.runtime.mask import Masker

NAME = "beaker"
START_THREADS = 8
END_THREADS = 8
CONTROL_THREADS = 4
# Beaker's clusters are no machine that we could measure; schedulers know them.
_CPUS, _MEMORY = 1 << 20, 1 << 60

_log = logging.getLogger(__name__)


class BeakerEngine:
    """Beaker, as one account sees it in one workspace; see :class:`~dispatch.engine.base.Engine`.

    ``origin`` is whatever tells the workspace whose steps are run from all others: its URL, the account, and
    its directory where it is on this machine. ``attempts`` is where it keeps attempts (``<attempts>/<key>``),
    ``cache`` a directory of ours in which what was sent is remembered. Every ``tick`` seconds Beaker is asked
    what changed. ``extras`` is what the user wants in every job. Jobs see the network, and are run by whoever
    their image says.
    """

    def __init__(
        self,
        door: BeakerDoor,
        *,
        origin: str,
        attempts: Path,
        cache: Path,
        tick: float = 1.0,
        extras: Extras = NOTHING,
    ) -> None:
        self._door = door
        self._attempts = attempts
        self._names = Names(origin)
        self._jobs: dict[str, BeakerJob] = {}
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[Event | EngineError] = queue.SimpleQueue()
        self._releases: set[Future[None]] = set()
        self._capabilities: Capabilities | None = None
        self._starts = ThreadPoolExecutor(START_THREADS, thread_name_prefix="dispatch-beaker-start")
        self._ends = ThreadPoolExecutor(END_THREADS, thread_name_prefix="dispatch-beaker-end")
        self._control = ThreadPoolExecutor(CONTROL_THREADS, thread_name_prefix="dispatch-beaker-control")
        self.bundles = Bundles(door, cache)
        self._experiments = Experiments(door, self._names)
        self._baggage = Baggage(door, self.bundles, self._names, extras)
        self._followers = Followers(door)
        self._finisher = Finisher(door, self._followers, self._queue.put, time.time, self._wake)
        self._launcher = Launcher(door, self._experiments, self._baggage, self._finisher, self._wake)
        self._poller = Poller(door, f"-{self._names.tag}", self._jobs, self, tick)

    def capabilities(self) -> Capabilities:
        """See once that Beaker knows us and the workspace."""
        if self._capabilities is None:
            assert self._door.account.workspace_id
            self._capabilities = Capabilities(
                name=NAME,
                accepts=(BeakerDataset, SharedPath, HostPath),
                uid=0,
                gid=0,
                cpus=_CPUS,
                memory=_MEMORY,
            )
        return self._capabilities

    def submit(self, jobs: Sequence[JobSpec]) -> list[Handle]:
        """Have experiments made in the background; the handle's engine id is the experiment's plain name."""
        return [self._accept(job) for job in jobs]

    def next_event(self, timeout: float | None) -> Event | None:
        """Return the next event; raise EngineError once Beaker is away for longer than the door's patience,
        or refuses us.
        """
        try:
            item = self._queue.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(item, EngineError):
            self._queue.put(item)
            raise item
        return item

    def logs(self, handle: Handle) -> Iterator[bytes]:
        """Yield the log: what is here of a job that has ended, else what Beaker has of all its tries."""
        job = self._jobs.get(handle.key)
        path = job.spec.attempt_dir / LOG_NAME if job is not None and job.told else None
        if path is not None and path.exists():
            with path.open("rb") as file:
                yield from file
            return
        masker = Masker(job.spec.secrets.values() if job is not None else ())
        for found in self._experiments.of_key(handle.key)[:1]:
            for each in reversed(self._door.experiments.jobs(found.experiment.task_id)):
                for line in self._door.experiments.logs(each.id):
                    yield masker.feed(line.text + b"\n")
        yield masker.end()

    def cancel(self, handles: Sequence[Handle], grace: float) -> None:  # noqa: ARG002
        """Have experiments end in the background. How long jobs get to stop is Beaker's to say."""
        for handle in handles:
            job = self._jobs.get(handle.key)
            if job is not None:
                with job.lock:
                    job.cancelled = True
        self._control.submit(self._quietly, self._cancel, list(handles))

    def find(self, run: str) -> list[Handle]:
        """Return the run's jobs whose ends were not recorded, whichever client of this origin made them."""
        found = {story.key: self._handle(story.key) for _, story in self._experiments.of_run(run)}
        return list(found.values())

    def usage(self, handles: Sequence[Handle]) -> Mapping[str, Usage]:  # noqa: ARG002
        """Tell of nobody: Beaker does not say what jobs use."""
        return {}

    def others(self) -> tuple[Holding, ...]:
        """Tell of nobody: Beaker gives each job its own place."""
        return ()

    def output(self, handle: Handle) -> Location:
        """Return where the output is kept: beside the attempt, or in the dataset of the last try."""
        job = self._jobs.get(handle.key)
        source = source_of(job.spec, OUTPUT) if job is not None else None
        if isinstance(source, (HostPath, SharedPath, Spool)):
            return source
        for found in self._experiments.of_key(handle.key)[:1]:
            if not found.story.collected and found.newest is not None and found.newest.result_dataset:
                return BeakerDataset(found.newest.result_dataset)
            return HostPath(self._attempts / handle.key / "output")
        raise EngineError(f"job {handle.key}: Beaker knows no experiment of it")

    def release(self, handle: Handle) -> None:
        """Remove in the background what was made for the job alone; end it if it still lives."""
        with self._lock:
            job = self._jobs.pop(handle.key, None)
        if job is not None:
            with job.lock:
                job.told = job.claimed = True
            job.log.leave()
        release = self._control.submit(self._quietly, self._release, handle, job)
        self._releases.add(release)
        release.add_done_callback(self._releases.discard)

    def settle(self) -> None:
        """Wait until what was released is removed."""
        wait(tuple(self._releases))

    def close(self) -> None:
        """Stop our threads, after the releases and cancellations under way. Jobs go on."""
        self._poller.close()
        self._followers.close()
        self._starts.shutdown(cancel_futures=True)
        self._ends.shutdown(cancel_futures=True)
        self._control.shutdown()
        for job in list(self._jobs.values()):
            job.log.leave()

    # What the poller tells.

    def waits(self, job: BeakerJob, reason: str) -> None:
        """Pass it on."""
        self._queue.put(Event(job.key, JobState.WAITING, time.time(), job.name, message=reason))

    def begun(self, job: BeakerJob) -> None:
        """Have a beginning told."""
        self._later(self._finisher.begin, job)

    def ended(self, job: BeakerJob) -> None:
        """Have an end concluded."""
        self._later(self._finisher.conclude, job)

    def lost(self, error: EngineError) -> None:
        """Let ``next_event`` raise."""
        self._queue.put(error)

    def _wake(self) -> None:
        self._poller.wake()

    def _later(self, act: Callable[[BeakerJob], None], job: BeakerJob) -> None:
        with contextlib.suppress(RuntimeError):  # closed meanwhile
            self._ends.submit(act, job)

    def _handle(self, key: str) -> Handle:
        return Handle(key, self._names.experiment(key), self._attempts / key)

    def _accept(self, spec: JobSpec) -> Handle:
        with self._lock:
            known = self._jobs.get(spec.key)
            if known is not None:
                return known.handle
            job = self._jobs[spec.key] = BeakerJob(spec, self._names.experiment(spec.key))
        self._starts.submit(self._launcher.start, job)
        return job.handle

    def _cancel(self, handles: list[Handle]) -> None:
        ids: list[str] = []
        for handle in handles:
            job = self._jobs.get(handle.key)
            if job is None:
                ids += [each.experiment.id for each in self._experiments.of_key(handle.key) if each.is_live]
            elif job.experiment_id:
                ids.append(job.experiment_id)
        self._door.experiments.cancel(ids)

    def _release(self, handle: Handle, job: BeakerJob | None) -> None:
        """All that bears the job's name, for it may have been made although nobody heard of it."""
        if job is not None and not job.asked:
            self._baggage.remove(job)
            return
        if job is not None and job.experiment is not None and job.brought:
            story = Story.read(job.experiment.description)
            if story is not None:
                self._experiments.release(job.experiment, story)
                self._baggage.remove(job)
                return
        for found in self._experiments.of_key(handle.key):
            if found.story.held:
                self._experiments.release(found.experiment, found.story)
                self._baggage.remove_left(handle.key, found.story)
        if job is not None:
            self._baggage.remove(job)

    def _quietly(self, act: Callable[..., None], *values: object) -> None:
        """What is left on Beaker is found again by its names."""
        try:
            act(*values)
        except Exception as error:
            _log.debug("Beaker: %s", error, exc_info=True)
