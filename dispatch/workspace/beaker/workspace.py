"""A workspace on Beaker: results, runs and records as datasets that everybody in the workspace shares.

Owns nothing on Beaker itself: ``attempts`` knows the states of steps, ``runs`` and ``drives`` the runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dispatch._beaker import BeakerDoor
from dispatch.errors import ConfigurationError, StepStateError
from dispatch.info import Run, RunInfo, StepInfo, StepRecord, StepState
from dispatch.location import BeakerDataset, Location
from dispatch.workspace import records, search
from dispatch.workspace.base import Superseded, Workspace
from dispatch.workspace.beaker.drives import BeakerDriver, BeakerJournal, Drives
from dispatch.workspace.beaker.known import Registration, Standing, info
from dispatch.workspace.beaker.runs import Runs
from dispatch.workspace.beaker.site import BeakerPorts, Site
from dispatch.workspace.beaker.steps import BeakerSteps
from dispatch.workspace.driving import Driving, Request, RunCompletedError
from dispatch.workspace.names import invent, is_name
from dispatch.workspace.runlog import captured
from dispatch.workspace.search import Page, RunSort

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from urllib.parse import ParseResult

    from dispatch.workspace.base import StepLike
    from dispatch.workspace.runs import RunRecord


@Workspace.register("beaker")
class BeakerWorkspace(BeakerSteps):
    """Keeps everything on Beaker, in the workspace of this name (``org/name``) or id.

    ``kwargs`` are those of ``Beaker.from_env``. ``trusted`` allows pickled results of other accounts to be
    loaded. ``cache`` is the directory for copies on this machine; ``ports`` is for tests. Nothing is sent
    before it has to be.
    """

    look_every = 1.0

    def __init__(
        self,
        beaker_workspace: str | None = None,
        *,
        trusted: bool = False,
        cache: Path | None = None,
        ports: BeakerPorts | None = None,
        **kwargs: Any,
    ) -> None:
        # The later spelling; how many requests go in parallel is ours to know.
        beaker_workspace = kwargs.pop("workspace", beaker_workspace)
        kwargs.pop("max_workers", None)
        self._made_of = (beaker_workspace, trusted, cache, kwargs)
        super().__init__(Site(BeakerDoor(beaker_workspace, kwargs), cache, ports), trusted)
        self._runs = Runs(self.site)
        self._drives = Drives(self.site, self.finish_run)

    def __reduce__(self) -> tuple[Callable[..., BeakerWorkspace], tuple[Any, ...]]:
        """Be opened anew where it is unpickled: sessions belong to a process."""
        return _opened, self._made_of

    @classmethod
    def from_params(cls, params: Any) -> BeakerWorkspace:
        """Make a workspace from config, which may hold any option of ``Beaker.from_env``."""
        options = dict(params.as_dict())
        options.pop("type", None)
        return cls(**options)

    @classmethod
    def from_parsed_url(cls, parsed_url: ParseResult) -> BeakerWorkspace:
        """Make a workspace from ``beaker://org/name``, or, in the default organisation, ``beaker://name``."""
        name = (parsed_url.netloc + parsed_url.path).rstrip("/")
        if not name or parsed_url.query or parsed_url.fragment or name.count("/") > 1:
            raise ConfigurationError(
                f"workspace {parsed_url.geturl()!r}: is not the URL of a Beaker workspace",
                "write beaker://org/name",
            )
        return cls(name)

    @property
    def url(self) -> str:
        """The URL: ``beaker://`` and the workspace's whole name."""
        name = self._made_of[0] or ""
        return f"beaker://{name if '/' in name else self.site.door.account.workspace_name}"

    @property
    def keeps(self) -> type[Location]:
        """Datasets."""
        return BeakerDataset

    def close(self) -> None:
        """End our session, so that what we still hold is free at once, and close the connections."""
        self.site.session.close()
        self.results.close()
        self.site.door.close()

    def registered(self) -> Mapping[str, Registration]:
        """Return the steps of all registered runs by unique id, each as the youngest of them knows it."""
        return self._runs.registered()

    # What a user's program calls

    def register_run(
        self,
        targets: Iterable[StepLike],
        name: str | None = None,
        *,
        jobs: Iterable[StepLike] = (),
        facts: Mapping[str, Any] | None = None,
    ) -> Run:
        """Store a new run of ``targets`` and return it; see :meth:`Workspace.register_run`."""
        return self._run(self._add(targets, name, jobs, facts))

    def _add(
        self,
        targets: Iterable[StepLike],
        name: str | None,
        jobs: Iterable[StepLike],
        facts: Mapping[str, Any] | None,
        furnish: Callable[[str], None] | None = None,
    ) -> RunRecord:
        """Store a run whose name is free, or is to be invented until it is."""
        ports = self.site.ports
        wanted = invent(ports.below) if name is None else name
        draft, steps = records.run_record(wanted, targets, jobs, facts, ports.now())
        for record in steps:
            records.check_id(record)
        while not self._runs.add(draft, steps, furnish):
            if name is not None:
                raise ValueError(f"run {name!r}: there is one of that name in {self.url}")
            draft = replace(draft, name=invent(ports.below))
        for record in steps:
            self._known.tell(record)
        return draft

    def finish_run(self, name: str, state: str, facts: Mapping[str, Any] | None = None) -> None:
        """Note that a run ended now, and how; see :meth:`Workspace.finish_run`."""
        run = self.run_record(name)
        known = {**run.facts, **(facts or {})}
        self._runs.put(replace(run, state=state, ended=self.site.ports.now(), facts=known))
        self._drives.unmark(name)

    def registered_run(self, name: str) -> Run:
        """Return a run. KeyError where there is none of that name."""
        return self._run(self._runs.get(name))

    def registered_runs(self) -> dict[str, Run]:
        """Return all runs by name, oldest first; steps are looked up when used."""
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
        """Return a page of the runs; see :meth:`Workspace.search_registered_runs`. Only those are read."""
        page = Page(sort_descending, start, stop)
        dates = {name: date for name, date in self._runs.dates().items() if match is None or match in name}
        wanted = page.names(dates) if sort_by is RunSort.NAME else page.by_time(dates)
        runs = [self._run(record) for record in self._runs.some(wanted)]
        return [RunInfo(run.name, run.start_date, run.steps) for run in runs]

    def num_registered_runs(self, *, match: str | None = None) -> int:
        """Return how many runs have a name that contains ``match``. Reads none."""
        return len(search.matching(self._runs.dates(), match))

    def latest_run(self) -> str | None:
        """Return the name of the run that was registered last, or None if there is none."""
        return self._runs.latest()

    def run_record(self, name: str) -> RunRecord:
        """Return all that is stored of a run. KeyError where there is none of that name."""
        return self._runs.get(name)

    def run_records(self, names: Iterable[str]) -> list[RunRecord]:
        """Return all that is stored of these runs; they are listed once, and a damaged one is left out."""
        return self._runs.some(names)

    def infos_of_run(self, name: str) -> dict[str, StepInfo]:
        """Return what is known of a run's steps by name; few questions serve many."""
        run = self.run_record(name)
        steps = {**run.jobs, **run.targets}
        known = self._known.infos(set(steps.values()), self._runs.registered(name))
        return {
            step: known.get(unique_id) or StepInfo(records.forgotten(step, unique_id), StepState.INCOMPLETE)
            for step, unique_id in steps.items()
        }

    def results_of(self, unique_ids: Iterable[str]) -> dict[str, StepInfo]:
        """Return what is known of those of the steps that have a result to be used again, from these."""
        return {
            unique_id: info(StepRecord.from_json(result.manifest.record), Standing(result))
            for unique_id, result in self.results.completed(unique_ids).items()
        }

    def step_of_run(self, run_name: str, step_name: str) -> StepRecord:
        """Return the record of a run's step, target or job. KeyError where there is no such run or step."""
        run = self.run_record(run_name)
        unique_id = {**run.jobs, **run.targets}[step_name]
        return self._known.record(unique_id) or records.forgotten(step_name, unique_id)

    def keep_difference(self, run_name: str, tree: str, text: bytes) -> None:
        """Keep a text with a run; see :meth:`Workspace.keep_difference`."""
        self._runs.keep_difference(run_name, tree, text)

    def differences(self, run_name: str) -> tuple[Path, ...]:
        """Return the files with a run's differences, fetched."""
        return self._runs.differences(run_name)

    def capture_logs_for_run(self, name: str) -> AbstractContextManager[None]:
        """Return a context in which log records are appended to the run's log on this machine."""
        return captured(self._runs.log(name))

    # What those call who look after the workspace

    def remove_run(self, name: str) -> None:
        """Remove a run, but no result. KeyError if there is none, StepStateError while steps run for it."""
        if not is_name(name) or name not in self._runs.dates():
            raise KeyError(name)
        driver = self._drives.latest(name)
        if driver is not None and driver.alive:
            raise StepStateError(f"run {name!r}: {driver} drives it", "wait for it to end, or cancel it")
        record = self._runs.unless_damaged(name)
        unique_ids = {**record.jobs, **record.targets}.values() if record else ()
        for unique_id, holder in self._attempts.at_work(unique_ids, name):
            raise StepStateError(
                f"run {name!r}: {holder} works at its step {unique_id}", "wait for it to end, or stop it"
            )
        self._drives.forget(name)
        self._runs.remove(name)

    # What the client of a run calls

    def open_run(
        self,
        targets: Iterable[StepLike],
        name: str | None = None,
        *,
        jobs: Iterable[StepLike] = (),
        facts: Mapping[str, Any] | None = None,
    ) -> BeakerDriver:
        """Register a run with ourselves as its driver; see :meth:`Workspace.open_run`."""
        added = self._add(targets, name, jobs, facts, self._drives.first)
        return self._drives.begun(added.name, 1)

    def drive(self, name: str) -> BeakerDriver:
        """Become the driver of a run; see :meth:`Workspace.drive`."""
        self.run_record(name)
        driver = self._drives.take(name)
        try:
            # Only now, for whoever drove it may have ended it in between.
            run = self.run_record(name)
            if run.state == "completed":
                self._drives.unmark(name)
                raise RunCompletedError(name)
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
        found = self._runs.some(self._drives.marked())
        return [run.name for run in found if run.ended is None]

    def journal(self, name: str) -> BeakerJournal:
        """Return what was told of a run; see :meth:`Workspace.journal`."""
        self.run_record(name)
        return self._drives.journal(name)

    def ask(self, name: str, request: Request) -> None:
        """Leave a request for a run's driver. KeyError where there is no such run."""
        self.run_record(name)
        self._drives.ask(name, request)

    def run_log(self, name: str) -> Path:
        """Return the file for what a run's client says once it has no terminal, on this machine."""
        return self._runs.log(name)

    def _renew(self) -> tuple[Superseded, ...]:
        self._drives.renew()
        return super()._renew()

    def _run(self, record: RunRecord) -> Run:
        return Run(record.name, records.LazySteps(record.targets, self.step_info), record.start_date)


def _opened(name: str | None, trusted: bool, cache: Path | None, kwargs: dict[str, Any]) -> BeakerWorkspace:
    return BeakerWorkspace(name, trusted=trusted, cache=cache, **kwargs)
