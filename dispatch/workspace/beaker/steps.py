"""The steps of a workspace on Beaker: what the dispatcher, a step's own process and who looks after it call.

Owns nothing on Beaker itself: ``attempts`` knows the states of steps, ``known`` what they are, ``results``
what came of them. The runs are the business of who derives from it.
"""

from __future__ import annotations

import contextlib
import shutil
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dispatch._beaker import BeakerNotFoundError
from dispatch.info import StepRecord, StepState
from dispatch.location import HostPath
from dispatch.workspace import records, search
from dispatch.workspace.base import Adopts, Attempt, Orphan, Superseded
from dispatch.workspace.beaker.aside import Aside
from dispatch.workspace.beaker.attempts import Attempts
from dispatch.workspace.beaker.endings import LOG, Endings
from dispatch.workspace.beaker.known import Known, Registration
from dispatch.workspace.beaker.lookup import Lookup, Tried
from dispatch.workspace.beaker.ours import Ours
from dispatch.workspace.beaker.results import Results
from dispatch.workspace.beaker.step_cache import BeakerStepCache
from dispatch.workspace.here import Started, WorkspaceHere
from dispatch.workspace.names import is_unique_id
from dispatch.workspace.search import Page, StepInfoSort

if TYPE_CHECKING:
    from dispatch.formats import Format
    from dispatch.info import AttemptFacts, StepInfo
    from dispatch.location import BeakerDataset, Location
    from dispatch.step import Step
    from dispatch.workspace.base import StepLike
    from dispatch.workspace.beaker.site import Site

_RENEWAL = 5.0


class BeakerSteps(WorkspaceHere):
    """The half of a workspace that is about steps. Nothing is sent before it has to be."""

    def __init__(self, site: Site, trusted: bool) -> None:
        super().__init__()
        self.site = site
        self._lookup = Lookup(site)
        self._trusted = trusted
        ours = Ours(site.door, site.ports.monotonic)
        self._attempts = Attempts(site, self._lookup, ours)
        self._endings = Endings(site, self._lookup, ours)
        self._known = Known(site, self._lookup, self.registered)
        self._renewal = Aside(self._renew, _RENEWAL)
        self.results = Results(site, self._lookup, self._endings, trusted)

    @abstractmethod
    def registered(self) -> Mapping[str, Registration]:
        """Return the steps of all registered runs by unique id, each as the youngest of them knows it."""

    @property
    def attempts(self) -> Path:
        """The directory in which attempts have their own files on this machine."""
        return self.site.directory / "attempts"

    @cached_property
    def step_cache(self) -> BeakerStepCache:
        """The results."""
        return BeakerStepCache(workspace=self)

    # What a user's program calls

    def step_info(self, step_or_unique_id: str | StepLike) -> StepInfo:
        """Return what is known of a step. KeyError for a unique id that is not known; never for a step."""
        if isinstance(step_or_unique_id, str):
            return self._known.info(step_or_unique_id)
        if isinstance(step_or_unique_id, StepRecord):
            return self._known.info_of(step_or_unique_id)
        try:
            return self._known.info(step_or_unique_id.unique_id)
        except KeyError:
            return self._known.info_of(records.record_of(step_or_unique_id))

    def _begin(self, record: StepRecord) -> Started:
        attempt = self.claim(record, "")
        # A step's own process has nobody else who would do it.
        self.site.session.keep_beating()
        return Started(record, self.site.ports.now(), attempt)

    def _keep(self, started: Started, value: Any, step: Step) -> None:
        attempt: Attempt = started.token
        self.results.keep(attempt, started.record, started.at, value, step.format)
        self.results.take_in(attempt)

    def _give_up(self, started: Started, error: BaseException) -> None:
        facts = records.facts_of_process(started.at, self.site.ports.now(), error)
        self.fail(started.token, started.record, facts)

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
        found = self._known.find(match, state)
        return search.find_steps(found, found.__getitem__, sort_by, None, page)

    def num_steps(self, *, match: str | None = None, state: StepState | None = None) -> int:
        """Return how many known steps are in ``state`` and have a unique id that contains ``match``."""
        return len(self._known.find(match, state))

    def num_results(self) -> int:
        """Return how many steps have a result that is to be used again."""
        every = self._lookup.every()
        return len(self.results.among(every))

    def work_dir(self, step: StepLike) -> Path:
        """Return the directory that the step keeps between attempts, on this machine."""
        return self.work_location(records.record_of(step)).path

    # What those call who look after the workspace

    def remove_step(self, step_unique_id: str) -> None:
        """Remove a step's result, attempts, work directory and record, damaged or not."""
        if not is_unique_id(step_unique_id):
            raise KeyError(step_unique_id)
        if not self._known.is_known(step_unique_id):
            raise KeyError(step_unique_id)
        removal = self._attempts.claim(
            records.forgotten(step_unique_id, step_unique_id), "", replaces=True, removal=True
        )
        removed = False
        try:
            self._delete(step_unique_id, self._lookup.of(step_unique_id), removal)
            removed = True
        finally:
            self._endings.end(removal, records.forgotten(step_unique_id, step_unique_id), {}, None, removed)
        self._known.forget(step_unique_id)
        shutil.rmtree(self.site.work(step_unique_id), ignore_errors=True)
        for number in range(1, removal.number + 1):
            shutil.rmtree(self.site.attempt(step_unique_id, number), ignore_errors=True)

    def remove_result(self, unique_id: str) -> None:
        """Remove a step's result and nothing else of it."""
        record = self._known.info(unique_id).record
        removal = self._attempts.claim(record, "", replaces=True)
        try:
            tried = self._lookup.of(unique_id)
            self._delete(unique_id, [each for each in tried if self._lookup.committed_by(each)], removal)
        finally:
            self._endings.end(removal, record, {})

    def _delete(self, unique_id: str, tried: Iterable[Tried], removal: Attempt) -> None:
        """Delete attempts from before a removal, and what of their results lies elsewhere."""
        self.results.forget(unique_id)
        for each in tried:
            result = self._lookup.committed_by(each)
            if each.number >= removal.number or (result is None and not each.told):
                continue
            if result is not None:
                self.results.copies.remove(result)
                if result.location.id != each.dataset.id:
                    self.site.door.datasets.delete([result.location.id])
            self.site.door.datasets.delete([each.dataset.id])

    def verify(self, unique_id: str, *, deep: bool) -> None:
        """Hold a step's result against what was committed; see :meth:`Workspace.verify`."""
        self.results.verify(unique_id, deep=deep)

    # What the dispatcher calls

    def claim(
        self, record: StepRecord, run: str, *, replace: bool = False, adopts: Adopts | None = None
    ) -> Attempt:
        """Begin an attempt at a step for a run; see :meth:`Workspace.claim`."""
        records.check_id(record)
        attempt = self._attempts.claim(record, run, replace, adopts)
        self._known.tell(record)
        return attempt

    def commit(
        self,
        attempt: Attempt,
        record: StepRecord,
        facts: AttemptFacts,
        format: Format[Any] | None = None,
        *,
        output: Location | None = None,
    ) -> StepInfo:
        """Make the attempt's result the step's, durably and at once; see :meth:`Workspace.commit`."""
        self._endings.commit(attempt, record, facts.to_json(), records.format_facts(format), output)
        self.results.take_in(attempt)
        return self.step_info(record)

    def fail(
        self,
        attempt: Attempt,
        record: StepRecord,
        facts: AttemptFacts,
        *,
        output: Location | None = None,
    ) -> StepInfo:
        """Record the end of an attempt that has no result; what there is of its output is at ``output``."""
        self._endings.end(attempt, record, facts.to_json(), output)
        return self.step_info(record)

    def renew(self) -> tuple[Superseded, ...]:
        """Tell others that we are alive; see :meth:`Workspace.renew`.

        Whoever calls it has other things to do, so it does not wait long for a Beaker that does not answer.
        """
        return self._renewal.ask() or ()

    def _renew(self) -> tuple[Superseded, ...]:
        return self._attempts.renew()

    def orphan(self, unique_id: str) -> Orphan | None:
        """Return a job that nobody looks after; see :meth:`Workspace.orphan`."""
        return self._attempts.left(unique_id, self._lookup.of(unique_id))

    def settled(self, unique_id: str, number: int) -> bool:
        """Say whether the job of an attempt is of no use any more; see :meth:`Workspace.settled`."""
        return self._attempts.settled(unique_id, number)

    def attempt_directory(self, unique_id: str, number: int) -> Path:
        """Return where an attempt's own files are on this machine, or would be."""
        return self.site.attempt(unique_id, number)

    def locate(self, unique_id: str) -> BeakerDataset | None:
        """Return the dataset with a step's result files, or None where it has none."""
        result = self.results.of(unique_id)
        return None if result is None else result.location

    def copy_of(self, unique_id: str) -> Path | None:
        """Return where :meth:`bring` puts a step's result on this machine."""
        result = self.results.located(unique_id)
        return None if result is None else self.results.copies.place(result)

    def bring(self, unique_id: str) -> None:
        """Bring a step's result to where :meth:`copy_of` says; KeyError where it has none."""
        self.results.bring(unique_id)

    def check_trust(self, unique_id: str) -> None:
        """Raise FormatError for a pickle of another account, unless the workspace is trusted."""
        self.results.check_trust(unique_id)

    def completed(self, unique_ids: Iterable[str]) -> set[str]:
        """Return those of the steps that have a result to be used again; many are asked for together."""
        return set(self.results.completed(unique_ids))

    def work_location(self, record: StepRecord) -> HostPath:
        """Return the directory that the step keeps between attempts on this machine, made where missing."""
        records.check_id(record)
        directory = self.site.work(record.unique_id)
        directory.mkdir(parents=True, exist_ok=True)
        return HostPath(directory)

    def work_before(self, unique_id: str) -> BeakerDataset | None:
        """Return the output of the latest ended attempt at a step that left work; see the workspace's.

        What another account left may hold pickles, so it is begun with only where that account is trusted.
        """
        from dispatch.location import BeakerDataset

        for tried in reversed(self._lookup.of(unique_id)):
            end = self._lookup.end_of(tried)
            if end is None and self._lookup.result_of(tried) is None:
                continue
            if end is None or end.get("removed"):
                return None
            output = end.get("output")
            if output and (self._trusted or tried.dataset.author_id == self.site.door.account.user_id):
                found = str(output["dataset"])
                if self._has_work(found):
                    return BeakerDataset(found)
        return None

    def _has_work(self, dataset: str) -> bool:
        files = self.site.door.datasets.files
        with contextlib.suppress(BeakerNotFoundError):
            return bool(files(dataset, "work/") or files(dataset, "work.tar"))
        return False

    def log_path(self, unique_id: str) -> Path | None:
        """Return the log of the attempt that gave the result, else of the latest with a log, else None."""
        tried = self._lookup.of(unique_id)
        result = self._lookup.result(tried)
        for each in reversed(tried):
            if each.told and (result is None or each.number <= result.manifest.attempt):
                path = self._log(unique_id, each)
                if path is not None:
                    return path
        return None

    def log_of_attempt(self, unique_id: str, number: int) -> Path | None:
        """Return the log of one attempt at a step; None where there is none yet."""
        if not is_unique_id(unique_id):
            return None
        path = self.site.attempt(unique_id, number) / LOG
        if path.exists():
            return path
        for each in self._lookup.of(unique_id):
            if each.number == number and each.told:
                return self._log(unique_id, each)
        return None

    def _log(self, unique_id: str, tried: Tried) -> Path | None:
        """Return the log of an attempt; what was kept of one that was made elsewhere is fetched."""
        path = self.site.attempt(unique_id, tried.number) / LOG
        if path.exists():
            return path
        if tried.dataset.committed:
            with contextlib.suppress(BeakerNotFoundError):
                log = self.site.door.datasets.read(tried.dataset.id, LOG)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(log)
                return path
        return None
