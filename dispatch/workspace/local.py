"""A workspace in a local directory, which may be on a network drive that several machines see.

Owns nothing on disk itself: ``layout`` knows the places, ``attempts`` the states of steps, ``runs`` the runs
and ``cache`` the results. It refuses a directory that holds anything else, and what a newer version wrote.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dispatch.errors import ConfigurationError, StepStateError
from dispatch.info import Run, RunInfo, StepRecord, StepState
from dispatch.location import HostPath, Location, SharedPath
from dispatch.workspace import manifest as manifests
from dispatch.workspace import records, removal, search
from dispatch.workspace.attempts import Attempts, Ports, Standing
from dispatch.workspace.base import Adopts, Attempt, Orphan, Superseded, Workspace
from dispatch.workspace.cache import LocalStepCache, store
from dispatch.workspace.drives import Drives, LocalDriver
from dispatch.workspace.driving import Driving, Request, RunCompletedError
from dispatch.workspace.here import Started, WorkspaceHere
from dispatch.workspace.journal import JournalReader
from dispatch.workspace.known import Known
from dispatch.workspace.layout import Layout
from dispatch.workspace.names import invent, is_name, is_unique_id
from dispatch.workspace.runlog import captured
from dispatch.workspace.runs import RunRecord, Runs
from dispatch.workspace.search import Page, RunSort, StepInfoSort

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from urllib.parse import ParseResult

    from dispatch.formats import Format
    from dispatch.info import AttemptFacts, StepInfo
    from dispatch.location import Location
    from dispatch.step import Step
    from dispatch.workspace.base import StepLike

T = TypeVar("T")


@Workspace.register("local")
class LocalWorkspace(WorkspaceHere):
    """Keeps everything in the directory ``dir``, which is made when something is first stored.

    A relative ``dir`` is taken from the working directory once, now. ``trusted`` allows pickled results of
    other accounts to be loaded. ``ports`` is for tests.
    """

    def __init__(
        self,
        dir: str | os.PathLike[str],
        trusted: bool = False,
        ports: Ports | None = None,
        shared: bool = False,
    ) -> None:
        super().__init__()
        self.dir = Path(os.path.abspath(dir))  # noqa: PTH100
        self._ports = ports or Ports()
        self._layout = Layout(self.dir, self._ports.disk)
        self._attempts = Attempts(self._layout, self._ports)
        self._runs = Runs(self._layout.runs, self._layout.latest, self._ports.disk)
        self._drives = Drives(self._layout.runs, self._ports, self.finish_run)
        self._cache = LocalStepCache(self._layout, self._attempts, self._ports, trusted)
        self._trusted = trusted
        self._place: type[HostPath | SharedPath] = SharedPath if shared else HostPath
        self._known = Known(self._layout, self._attempts, self._ports.disk)

    def __reduce__(self) -> tuple[type[LocalWorkspace], tuple[str, bool, None, bool]]:
        """Be opened anew, with ports of its own, where it is unpickled: leases belong to a process."""
        return type(self), (os.fspath(self.dir), self._trusted, None, self._place is SharedPath)

    @classmethod
    def from_path(cls, path: str) -> LocalWorkspace:
        """Make a workspace from a plain path."""
        return cls(path)

    @classmethod
    def from_parsed_url(cls, parsed_url: ParseResult) -> LocalWorkspace:
        """Make a workspace from ``local:///absolute`` or ``local://relative``."""
        from urllib.parse import unquote

        path = unquote(parsed_url.netloc + parsed_url.path)
        if not path or parsed_url.query or parsed_url.fragment:
            raise ConfigurationError(
                f"workspace {parsed_url.geturl()!r}: is not the URL of a directory",
                "write local:///path (with ? and # as %3F and %23), or the plain path",
            )
        return cls(path)

    @property
    def url(self) -> str:
        """The URL: ``local://`` and the absolute path, quoted."""
        from urllib.parse import quote

        return f"local://{quote(os.fsencode(self.dir))}"

    @property
    def is_shared(self) -> bool:
        """Whether it lies on a drive that engines elsewhere see under the same name."""
        return self._place is SharedPath

    @property
    def keeps(self) -> type[Location]:
        """Directories: of this machine, or of a shared drive."""
        return self._place

    @property
    def ports(self) -> Ports:
        """What the workspace uses of the world."""
        return self._ports

    @property
    def step_cache(self) -> LocalStepCache:
        """The results."""
        return self._cache

    # What a user's program calls

    def step_info(self, step_or_unique_id: str | StepLike) -> StepInfo:
        """Return what is known of a step. KeyError for a unique id that is not known; never for a step."""
        self._layout.check()
        if isinstance(step_or_unique_id, str):
            return self._known.info(step_or_unique_id)
        step = step_or_unique_id
        record = None if isinstance(step, StepRecord) else self._known.record(step.unique_id)
        record = record or records.record_of(step)
        return records.info(record, self._attempts.standing(record.unique_id))

    def _begin(self, record: StepRecord) -> Started:
        return Started(record, self._ports.now(), self.claim(record, ""))

    def _keep(self, started: Started, value: Any, step: Step) -> None:
        attempt: Attempt = started.token
        self._ports.disk.make_dir(attempt.result)
        store(value, step.format, attempt, self._layout.work(attempt.unique_id))
        facts = records.facts_of_process(started.at, self._ports.now())
        self.commit(attempt, started.record, facts, step.format)

    def _give_up(self, started: Started, error: BaseException) -> None:
        facts = records.facts_of_process(started.at, self._ports.now(), error)
        self.fail(started.token, started.record, facts)

    def register_run(
        self,
        targets: Iterable[StepLike],
        name: str | None = None,
        *,
        jobs: Iterable[StepLike] = (),
        facts: Mapping[str, Any] | None = None,
    ) -> Run:
        """Store a new run of ``targets`` and return it; see :meth:`Workspace.register_run`."""
        wanted = invent(self._ports.below) if name is None else name
        draft, steps = records.run_record(wanted, targets, jobs, facts, self._ports.now())
        return self._run(self._add(draft, steps, named=name is not None))

    def _add(
        self,
        draft: RunRecord,
        steps: Iterable[StepRecord],
        *,
        named: bool,
        furnish: Callable[[Path, str], None] | None = None,
    ) -> RunRecord:
        """Store a run whose name is free, or is to be invented until it is."""
        self._layout.prepare()
        for record in steps:
            self._known.store(record)
        while not self._runs.add(draft, furnish):
            if named:
                raise ValueError(f"run {draft.name!r}: there is one of that name in {self.dir}")
            draft = replace(draft, name=invent(self._ports.below))
        return draft

    def finish_run(self, name: str, state: str, facts: Mapping[str, Any] | None = None) -> None:
        """Note that a run ended now, and how; see :meth:`Workspace.finish_run`."""
        run = self.run_record(name)
        known = {**run.facts, **(facts or {})}
        self._runs.put(replace(run, state=state, ended=self._ports.now(), facts=known))
        self._drives.unmark(name)

    def registered_run(self, name: str) -> Run:
        """Return a run. KeyError where there is none of that name."""
        self._layout.check()
        return self._run(self._runs.get(name))

    def registered_runs(self) -> dict[str, Run]:
        """Return all runs by name, oldest first. One file a run is read; steps are looked up when used."""
        self._layout.check()
        return {record.name: self._run(record) for record in self._runs.all()}

    def search_registered_runs(
        self,
        *,
        sort_by: RunSort | None = None,
        sort_descending: bool = True,
        match: str | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> list[RunInfo]:
        """Return a page of the runs; see :meth:`Workspace.search_registered_runs`.

        Only the runs of the page are read in full.
        """
        self._layout.check()
        page = Page(sort_descending, start, stop)
        names = search.matching(self._runs.names(), match)
        if sort_by is RunSort.NAME:
            wanted = page.names(names)
        else:
            wanted = page.by_time(self._runs.started(names))
        found = [self._runs.unless_damaged(name) for name in wanted]
        runs = [self._run(record) for record in found if record is not None]
        return [RunInfo(run.name, run.start_date, run.steps) for run in runs]

    def num_registered_runs(self, *, match: str | None = None) -> int:
        """Return how many runs have a name that contains ``match``. Reads none."""
        self._layout.check()
        return len(search.matching(self._runs.names(), match))

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
        self._layout.check()
        page = Page(sort_descending, start, stop)
        return search.find_steps(self._known.candidates(match, state), self._known.info, sort_by, state, page)

    def num_steps(self, *, match: str | None = None, state: StepState | None = None) -> int:
        """Return how many known steps are in ``state``. No result is read for it."""
        self._layout.check()
        candidates = self._known.candidates(match, state)
        if state in (None, StepState.COMPLETED):
            return len(candidates)
        return sum(1 for _ in search.in_state(candidates, self._known.info, state))

    def latest_run(self) -> str | None:
        """Return the run that ``latest`` leads to; where somebody removed the link, the youngest."""
        self._layout.check()
        return self._runs.latest() or super().latest_run()

    def run_record(self, name: str) -> RunRecord:
        """Return all that is stored of a run. KeyError where there is none of that name."""
        self._layout.check()
        return self._runs.get(name)

    def step_of_run(self, run_name: str, step_name: str) -> StepRecord:
        """Return the record of a run's step, target or job. KeyError where there is no such run or step."""
        run = self.run_record(run_name)
        unique_id = {**run.jobs, **run.targets}[step_name]
        record = self._known.record(unique_id) if is_unique_id(unique_id) else None
        return record or records.forgotten(step_name, unique_id)

    def keep_difference(self, run_name: str, tree: str, text: bytes) -> None:
        """Keep a text beside a run's record; see :meth:`Workspace.keep_difference`."""
        self._layout.check()
        self._runs.keep_difference(run_name, tree, text)

    def differences(self, run_name: str) -> tuple[Path, ...]:
        """Return the files with a run's differences, by the names of their trees."""
        self._layout.check()
        return self._runs.differences(run_name)

    def capture_logs_for_run(self, name: str) -> AbstractContextManager[None]:
        """Return a context in which log records are appended to the run's ``.out.log``."""
        return captured(self._runs.log(name))

    def work_dir(self, step: StepLike) -> Path:
        """Return the directory that the step keeps between attempts."""
        return self.work_location(records.record_of(step)).path

    # What those call who look after the workspace

    def remove_step(self, step_unique_id: str) -> None:
        """Remove a step's result, attempts, work directory and record, damaged or not."""
        self._layout.check()
        places = (self._layout.step(step_unique_id), self._layout.cache(step_unique_id))
        if not is_unique_id(step_unique_id) or not any(os.path.lexists(place) for place in places):
            raise KeyError(step_unique_id)
        removal.remove_step(self._layout, self._attempts, self._ports.disk, step_unique_id)

    def remove_run(self, name: str) -> None:
        """Remove a run, but no result. KeyError if there is none, StepStateError while steps run for it."""
        self._layout.check()
        record = self._runs.unless_damaged(name)
        driver = self._drives.latest(name) if record is not None else None
        if driver is not None and driver.alive:
            raise StepStateError(f"run {name!r}: {driver} drives it", "wait for it to end, or cancel it")
        unique_ids = {**record.jobs, **record.targets}.values() if record else ()
        for unique_id in unique_ids:
            lease = self._attempts.holder(unique_id) if is_unique_id(unique_id) else None
            holder = lease.holder if lease else None
            if holder is not None and holder.run == name:
                raise StepStateError(
                    f"run {name!r}: {holder} works at its step {unique_id}", "wait for it to end, or stop it"
                )
        self._runs.remove(name)
        self._drives.unmark(name)

    def verify(self, unique_id: str, *, deep: bool) -> None:
        """Hold a step's result against what was committed; see :meth:`Workspace.verify`."""
        self._layout.check()
        standing = self._attempts.standing(unique_id) if is_unique_id(unique_id) else Standing()
        if standing.manifest is None or standing.directory is None:
            raise KeyError(unique_id)
        manifests.verify(standing.directory / "result", standing.manifest, deep=deep)

    # What the client of a run calls

    def open_run(
        self,
        targets: Iterable[StepLike],
        name: str | None = None,
        *,
        jobs: Iterable[StepLike] = (),
        facts: Mapping[str, Any] | None = None,
    ) -> LocalDriver:
        """Register a run with ourselves as its driver; see :meth:`Workspace.open_run`."""
        wanted = invent(self._ports.below) if name is None else name
        draft, steps = records.run_record(wanted, targets, jobs, facts, self._ports.now())
        added = self._add(draft, steps, named=name is not None, furnish=self._drives.first)
        return self._drives.begun(added.name, 1)

    def drive(self, name: str) -> LocalDriver:
        """Become the driver of a run; see :meth:`Workspace.drive`."""
        self.run_record(name)
        driver = self._drives.take(name)
        try:
            # Only now, for whoever drove it may have ended it in between.
            run = self.run_record(name)
            if run.state == "completed":
                raise RunCompletedError(name)
            self._drives.mark(name)
            if run.ended is not None:
                self._runs.put(replace(run, state="", ended=None))
        except BaseException:
            driver.release()
            raise
        return driver

    def driver_of(self, name: str) -> Driving | None:
        """Return who drives a run, or drove it last; None where nobody ever did. Asking is watching."""
        return self._drives.latest(name) if is_name(name) else None

    def open_runs(self) -> list[str]:
        """Return the runs that somebody drove and that have no end, in no order. Reads no other run."""
        self._layout.check()
        found = [(name, self._runs.unless_damaged(name)) for name in self._drives.marked()]
        return [name for name, run in found if run is not None and run.ended is None]

    def journal(self, name: str) -> JournalReader:
        """Return what was told of a run; see :meth:`Workspace.journal`."""
        self.run_record(name)
        return self._drives.journal(name)

    def ask(self, name: str, request: Request) -> None:
        """Leave a request for a run's driver. KeyError where there is no such run."""
        self.run_record(name)
        self._drives.ask(name, request)

    def log_of_attempt(self, unique_id: str, number: int) -> Path | None:
        """Return the log of one attempt at a step; None where there is none yet."""
        path = self._layout.attempt(unique_id, number) / "out.log" if is_unique_id(unique_id) else None
        return path if path is not None and path.exists() else None

    def run_log(self, name: str) -> Path:
        """Return the file for what a run's client says once it has no terminal."""
        return self._runs.log(name)

    # What the dispatcher calls

    def claim(
        self, record: StepRecord, run: str, *, replace: bool = False, adopts: Adopts | None = None
    ) -> Attempt:
        """Begin an attempt at a step for a run; see :meth:`Workspace.claim`."""
        self._layout.prepare()
        self._known.store(record)
        return self._attempts.claim(record, run, replace, adopts)

    def commit(
        self,
        attempt: Attempt,
        record: StepRecord,
        facts: AttemptFacts,
        format: Format[Any] | None = None,
        *,
        output: Location | None = None,  # noqa: ARG002
    ) -> StepInfo:
        """Make the attempt's result the step's, durably and at once; see :meth:`Workspace.commit`."""
        self._attempts.commit(attempt, record, facts.to_json(), records.format_facts(format))
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
        self._attempts.end(attempt, facts.to_json())
        return self.step_info(record)

    def renew(self) -> tuple[Superseded, ...]:
        """Tell others that we are alive; see :meth:`Workspace.renew`."""
        self._drives.renew()
        return self._attempts.renew()

    def orphan(self, unique_id: str) -> Orphan | None:
        """Return a job that nobody looks after; see :meth:`Workspace.orphan`."""
        self._layout.check()
        return self._attempts.orphan(unique_id) if is_unique_id(unique_id) else None

    def settled(self, unique_id: str, number: int) -> bool:
        """Say whether the job of an attempt is of no use any more; see :meth:`Workspace.settled`."""
        self._layout.check()
        return is_unique_id(unique_id) and self._attempts.settled(unique_id, number)

    def attempt_directory(self, unique_id: str, number: int) -> Path:
        """Return where an attempt's own files are, or were."""
        return self._layout.attempt(unique_id, number)

    def locate(self, unique_id: str) -> HostPath | SharedPath | None:
        """Return the directory with a step's result files, or None where it has none."""
        self._layout.check()
        if not is_unique_id(unique_id):
            return None
        if self._attempts.has_result(unique_id):
            return self._place(self._layout.cache(unique_id) / "result")
        directory = self._attempts.standing(unique_id).directory
        return self._place(directory / "result") if directory else None

    def check_trust(self, unique_id: str) -> None:
        """Raise FormatError for a pickle of another account, unless the workspace is trusted."""
        self._cache.check_trust(unique_id)

    def completed(self, unique_ids: Iterable[str]) -> set[str]:
        """Return those of the steps that have a result to be used again: a look at one file each."""
        self._layout.check()
        return self._known.completed(unique_ids)

    def work_location(self, record: StepRecord) -> HostPath | SharedPath:
        """Return the directory that the step keeps between attempts, made where missing."""
        records.check_id(record)
        self._layout.prepare()
        directory = self._layout.work(record.unique_id)
        self._ports.disk.make_dir(directory)
        return self._place(directory)

    def log_path(self, unique_id: str) -> Path | None:
        """Return the log of the attempt that gave the result, else of the latest with a log, else None."""
        self._layout.check()
        return self._attempts.log(unique_id) if is_unique_id(unique_id) else None

    def _run(self, record: RunRecord) -> Run:
        return Run(record.name, records.LazySteps(record.targets, self.step_info), record.start_date)
