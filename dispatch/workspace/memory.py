"""A workspace in memory, for tries and tests: nothing of it outlives the process.

Owns what a workspace in memory is to its callers; ``ledger`` keeps what it knows. It is found again by its
URL as long as somebody in the same process holds it, and is empty everywhere else.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dispatch.errors import ConfigurationError, StepStateError
from dispatch.formats import AUTO
from dispatch.info import Run, RunInfo, StepRecord
from dispatch.location import Location, Spool
from dispatch.workspace import manifest as manifests
from dispatch.workspace import records, search
from dispatch.workspace.base import Adopts, Attempt, Superseded, Workspace
from dispatch.workspace.driving import Driving, Request, RunCompletedError
from dispatch.workspace.here import Started, WorkspaceHere
from dispatch.workspace.ledger import Ledger
from dispatch.workspace.memory_cache import MemoryStepCache
from dispatch.workspace.memory_drives import MemoryDriver, MemoryDrives, MemoryJournal
from dispatch.workspace.names import invent, is_name
from dispatch.workspace.search import Page, RunSort, StepInfoSort

if TYPE_CHECKING:
    from urllib.parse import ParseResult

    from dispatch.formats import Format
    from dispatch.info import AttemptFacts, StepInfo, StepState
    from dispatch.location import Location
    from dispatch.step import Step
    from dispatch.workspace.base import StepLike
    from dispatch.workspace.runs import RunRecord

T = TypeVar("T")


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _below(limit: int) -> int:
    return int.from_bytes(os.urandom(8), "big") % limit


@Workspace.register("memory")
class MemoryWorkspace(WorkspaceHere):
    """Keeps everything in memory; each is a new and empty one.

    Values are kept as copies. Results of jobs are files in a temporary directory, which goes when the
    workspace is closed or forgotten, or the process ends. :meth:`Workspace.from_url` finds a workspace that
    is still in use in this process by its :attr:`url`; anywhere else, also in a child process that unpickles
    it, it makes an empty one.
    """

    _in_use: weakref.WeakValueDictionary[str, MemoryWorkspace] = weakref.WeakValueDictionary()

    def __init__(self, now: Callable[[], datetime] = _now, below: Callable[[int], int] = _below) -> None:
        super().__init__()
        self._now = now
        self._below = below
        self._ledger = Ledger(now)
        self._cache = MemoryStepCache(self._ledger)
        self._runs: dict[str, RunRecord] = {}
        self._drives = MemoryDrives(now, self.finish_run)
        self._name = os.urandom(8).hex()
        self._in_use[self._name] = self

    def __reduce__(self) -> tuple[Callable[[str], Workspace], tuple[str]]:
        """Be looked up by URL where it is unpickled."""
        return Workspace.from_url, (self.url,)

    @classmethod
    def from_parsed_url(cls, parsed_url: ParseResult) -> MemoryWorkspace:
        """Return the workspace of ``memory://name``, or a new one for ``memory://``."""
        name = parsed_url.netloc
        if (name and not is_name(name)) or parsed_url.path or parsed_url.query or parsed_url.fragment:
            raise ConfigurationError(
                f"workspace {parsed_url.geturl()!r}: is not the URL of a workspace in memory",
                "write memory://",
            )
        found = cls._in_use.get(name) if name else None
        if found is None:
            found = cls()
            if name:
                found._rename(name)
        return found

    def _rename(self, name: str) -> None:
        del self._in_use[self._name]
        self._name = name
        self._in_use[name] = self

    @property
    def url(self) -> str:
        """The URL: ``memory://`` and a name of its own."""
        return f"memory://{self._name}"

    @property
    def step_cache(self) -> MemoryStepCache:
        """The results."""
        return self._cache

    @property
    def has_directory(self) -> bool:
        """Whether anything is kept as a file."""
        return self._ledger.temporary.exists

    def close(self) -> None:
        """Forget everything, and remove the temporary directory now."""
        self._runs.clear()
        self._here.clear()
        self._ledger.close()

    # What a user's program calls

    def step_info(self, step_or_unique_id: str | StepLike) -> StepInfo:
        """Return what is known of a step. KeyError for a unique id that is not known; never for a step."""
        if isinstance(step_or_unique_id, str):
            return self._known(step_or_unique_id)
        step = step_or_unique_id
        record = None if isinstance(step, StepRecord) else self._ledger.record(step.unique_id)
        return self._ledger.info(record or records.record_of(step))

    def _begin(self, record: StepRecord) -> Started:
        started = self._now()
        return Started(record, started, self._ledger.begin(record, ""))

    def _keep(self, started: Started, value: Any, step: Step) -> None:
        self._cache.keep(started.record, started.token, started.at, value, step.format)

    def _give_up(self, started: Started, error: BaseException) -> None:
        facts = records.facts_of_process(started.at, self._now(), error)
        self._ledger.end(started.record.unique_id, started.token, facts)

    def register_run(
        self,
        targets: Iterable[StepLike],
        name: str | None = None,
        *,
        jobs: Iterable[StepLike] = (),
        facts: Mapping[str, Any] | None = None,
    ) -> Run:
        """Store a new run of ``targets`` and return it; see :meth:`Workspace.register_run`."""
        with self._ledger.lock:
            wanted = self._invent() if name is None else name
            run, steps = records.run_record(wanted, targets, jobs, facts, self._now())
            if wanted in self._runs:
                raise ValueError(f"run {name!r}: there is one of that name in {self.url}")
            for record in steps:
                self._ledger.know(record)
            self._runs[wanted] = run
        return self._run(run)

    def finish_run(self, name: str, state: str, facts: Mapping[str, Any] | None = None) -> None:
        """Note that a run ended now, and how; see :meth:`Workspace.finish_run`."""
        with self._ledger.lock:
            run = self._runs[name]
            known = {**run.facts, **(facts or {})}
            self._runs[name] = replace(run, state=state, ended=self._now(), facts=known)

    def registered_run(self, name: str) -> Run:
        """Return a run. KeyError where there is none of that name."""
        return self._run(self._runs[name])

    def registered_runs(self) -> dict[str, Run]:
        """Return all runs by name, oldest first."""
        return {run.name: self._run(run) for run in list(self._runs.values())}

    def run_record(self, name: str) -> RunRecord:
        """Return all that is stored of a run. KeyError where there is none of that name."""
        return self._runs[name]

    def step_of_run(self, run_name: str, step_name: str) -> StepRecord:
        """Return the record of a run's step, target or job. KeyError where there is no such run or step."""
        run = self._runs[run_name]
        unique_id = {**run.jobs, **run.targets}[step_name]
        return self._ledger.record(unique_id) or records.forgotten(step_name, unique_id)

    def search_registered_runs(
        self,
        *,
        sort_by: RunSort | None = None,
        sort_descending: bool = True,
        match: str | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> list[RunInfo]:
        """Return a page of the runs; see :meth:`Workspace.search_registered_runs`."""
        page = Page(sort_descending, start, stop)
        runs = {name: run for name, run in list(self._runs.items()) if match is None or match in name}
        if sort_by is RunSort.NAME:
            wanted = page.names(runs)
        else:
            wanted = page.by_time({name: run.start_date for name, run in runs.items()})
        found = [self._run(runs[name]) for name in wanted]
        return [RunInfo(run.name, run.start_date, run.steps) for run in found]

    def num_registered_runs(self, *, match: str | None = None) -> int:
        """Return how many runs have a name that contains ``match``."""
        return len(search.matching(list(self._runs), match))

    def search_step_info(
        self,
        *,
        sort_by: StepInfoSort | None = None,
        sort_descending: bool = True,
        match: str | None = None,
        state: StepState | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> list[StepInfo]:
        """Return a page of the known steps in ``state``; see :meth:`Workspace.search_step_info`."""
        page = Page(sort_descending, start, stop)
        unique_ids = search.matching(self._ledger.unique_ids(), match)
        return search.find_steps(unique_ids, self._known, sort_by, state, page)

    def num_steps(self, *, match: str | None = None, state: StepState | None = None) -> int:
        """Return how many known steps are in ``state`` and have a unique id that contains ``match``."""
        unique_ids = search.matching(self._ledger.unique_ids(), match)
        return sum(1 for _ in search.in_state(unique_ids, self._known, state))

    def work_dir(self, step: StepLike) -> Path:
        """Return the directory that the step keeps between attempts."""
        return self.work_location(records.record_of(step)).path

    # What those call who look after the workspace

    def remove_step(self, step_unique_id: str) -> None:
        """Remove a step's result, attempts, work directory and record."""
        if self._ledger.record(step_unique_id) is None:
            raise KeyError(step_unique_id)
        self._ledger.remove(step_unique_id)

    def remove_run(self, name: str) -> None:
        """Remove a run, but no result. KeyError if there is none, StepStateError while steps run for it."""
        run = self._runs[name]
        driver = self._drives.latest(name)
        if driver is not None and driver.alive:
            raise StepStateError(f"run {name!r}: {driver} drives it", "wait for it to end, or cancel it")
        for unique_id in {**run.jobs, **run.targets}.values():
            if self._ledger.runs_for(unique_id) == name:
                raise StepStateError(
                    f"run {name!r}: this process works at its step {unique_id}",
                    "wait for it to end, or stop it",
                )
        del self._runs[name]
        self._drives.forget(name)

    def verify(self, unique_id: str, *, deep: bool) -> None:
        """Hold a step's result against what was committed; see :meth:`Workspace.verify`."""
        stored = self._ledger.stored(unique_id)
        if stored is None:
            raise KeyError(unique_id)
        if stored.directory is not None:
            manifests.verify(stored.directory / "result", stored.manifest, deep=deep)

    # What the client of a run calls

    def open_run(
        self,
        targets: Iterable[StepLike],
        name: str | None = None,
        *,
        jobs: Iterable[StepLike] = (),
        facts: Mapping[str, Any] | None = None,
    ) -> MemoryDriver:
        """Register a run with ourselves as its driver; see :meth:`Workspace.open_run`."""
        return self._drives.take(self.register_run(targets, name, jobs=jobs, facts=facts).name)

    def drive(self, name: str) -> MemoryDriver:
        """Become the driver of a run; see :meth:`Workspace.drive`."""
        with self._ledger.lock:
            run = self._runs[name]
            driver = self._drives.take(name)
            if run.state == "completed":
                driver.release()
                raise RunCompletedError(name)
            self._runs[name] = replace(run, state="", ended=None)
            return driver

    def driver_of(self, name: str) -> Driving | None:
        """Return who drives a run, or drove it last; None where nobody ever did."""
        return self._drives.latest(name)

    def open_runs(self) -> list[str]:
        """Return the runs that somebody drove and that have no end."""
        runs = list(self._runs.values())
        return [run.name for run in runs if run.ended is None and self._drives.latest(run.name) is not None]

    def journal(self, name: str) -> MemoryJournal:
        """Return what was told of a run. KeyError where there is no such run."""
        return self._drives.journal(self._runs[name].name)

    def ask(self, name: str, request: Request) -> None:
        """Leave a request for a run's driver. KeyError where there is no such run."""
        self._drives.ask(self._runs[name].name, request)

    def log_of_attempt(self, unique_id: str, number: int) -> Path | None:
        """Return the log of one attempt at a step; None where there is none yet."""
        return self._ledger.attempt_log(unique_id, number)

    # What the dispatcher calls

    def claim(
        self,
        record: StepRecord,
        run: str,
        *,
        replace: bool = False,
        adopts: Adopts | None = None,  # noqa: ARG002
    ) -> Attempt:
        """Begin an attempt at a step for a run; see :meth:`Workspace.claim`. Nothing here outlives us."""
        number = self._ledger.begin(record, run, replace)
        return self._ledger.attempt(record.unique_id, number, replace and record.cacheable)

    def commit(
        self,
        attempt: Attempt,
        record: StepRecord,
        facts: AttemptFacts,
        format: Format[Any] | None = None,
        *,
        output: Location | None = None,  # noqa: ARG002
    ) -> StepInfo:
        """Make the attempt's result the step's, at once; see :meth:`Workspace.commit`."""
        self._ledger.commit(attempt, record, facts, records.format_facts(format))
        return self.step_info(record)

    def fail(
        self,
        attempt: Attempt,
        record: StepRecord,
        facts: AttemptFacts,
        *,
        output: Location | None = None,  # noqa: ARG002
    ) -> StepInfo:
        """Record the end of an attempt that has no result; what there is of its output is at ``output``."""
        self._ledger.end(attempt.unique_id, attempt.number, facts)
        return self.step_info(record)

    def renew(self) -> tuple[Superseded, ...]:
        """Return nothing: nobody else can take an attempt of this process for lost."""
        return ()

    def locate(self, unique_id: str) -> Spool | None:
        """Return the directory with a step's result files, written now where only its value is kept."""
        path = self._ledger.spool(unique_id, AUTO)
        return Spool(path) if path else None

    def check_trust(self, unique_id: str) -> None:
        """Do nothing: all results are this process's own."""

    def completed(self, unique_ids: Iterable[str]) -> set[str]:
        """Return those of the steps that have a result to be used again."""
        return {unique_id for unique_id in unique_ids if self._ledger.is_completed(unique_id)}

    @property
    def keeps(self) -> type[Location]:
        """Directories that stand in for memory."""
        return Spool

    def work_location(self, record: StepRecord) -> Spool:
        """Return the directory that the step keeps between attempts, made where missing."""
        records.check_id(record)
        return Spool(self._ledger.work(record.unique_id))

    def log_path(self, unique_id: str) -> Path | None:
        """Return the log of the attempt that gave the result, else of the latest with a log, else None."""
        return self._ledger.log(unique_id)

    def _known(self, unique_id: str) -> StepInfo:
        record = self._ledger.record(unique_id)
        if record is None:
            raise KeyError(unique_id)
        return self._ledger.info(record)

    def _invent(self) -> str:
        while True:
            name = invent(self._below)
            if name not in self._runs:
                return name

    def _run(self, record: RunRecord) -> Run:
        return Run(record.name, records.LazySteps(record.targets, self.step_info), record.start_date)
