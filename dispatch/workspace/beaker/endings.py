"""How an attempt on Beaker ends: its result delivered and committed, or its end recorded.

The manifest is written last but for the commit, which is what makes the result one. Every write may be
repeated, so that whoever crashed in the middle, or lost the answer, goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dispatch._beaker import (
    BeakerConflictError,
    BeakerError,
    BeakerNotFoundError,
    CreatedDataset,
    Dataset,
    parcels,
)
from dispatch.errors import StepStateError
from dispatch.info import StepRecord
from dispatch.location import BeakerDataset, Location
from dispatch.workspace.beaker.lookup import END, Lookup, Tried, to_json
from dispatch.workspace.beaker.ours import Ours
from dispatch.workspace.beaker.sealed import seal
from dispatch.workspace.beaker.site import Site
from dispatch.workspace.claims import Attempt, StepSupersededError
from dispatch.workspace.manifest import NAME as MANIFEST
from dispatch.workspace.manifest import Content, Manifest

LOG = "out.log"
RESULT = "result"
_LOG_BYTES = 4 << 20


class Endings:
    """Writes the ends of attempts at the steps of one workspace. May be used from several threads."""

    def __init__(self, site: Site, lookup: Lookup, ours: Ours) -> None:
        self._site = site
        self._lookup = lookup
        self._ours = ours

    def commit(
        self,
        attempt: Attempt,
        record: StepRecord,
        facts: Mapping[str, Any],
        format: dict[str, Any] | None,
        output: Location | None = None,
    ) -> None:
        """Make the attempt's result the step's; see :meth:`dispatch.workspace.base.Workspace.commit`."""
        with self._ours.ending(attempt):
            tried = self._lookup.of(attempt.unique_id)
            mine = self._mine(attempt, tried)
            if mine is not None and self._lookup.result_of(mine) is not None:
                return
            if record.cacheable and not attempt.replaces and self._lookup.result(tried) is not None:
                self._end(mine, attempt, record, facts)
                return
            if mine is None or not mine.is_open:
                raise StepSupersededError(attempt.unique_id, attempt.number)
            if any(each.number > attempt.number and each.told for each in tried):
                self._end(mine, attempt, record, facts)
                raise StepSupersededError(attempt.unique_id, attempt.number)
            with self._superseding(attempt, mine.dataset):
                created = self._ours.opened(attempt, mine.dataset)
                content, location = self._deliver(attempt, created, output)
                manifest = Manifest(
                    attempt.unique_id, attempt.number, record.to_json(), dict(facts), content, format
                )
                self._keep_log(attempt, created)
                stored = seal(to_json(manifest, location, replaces=attempt.replaces))
                self._site.door.datasets.write(created, MANIFEST, stored)
                self._site.door.datasets.commit(created.dataset.id)

    def end(
        self,
        attempt: Attempt,
        record: StepRecord,
        facts: Mapping[str, Any],
        output: Location | None = None,
        removed: bool = False,
    ) -> None:
        """Record the end of an attempt that has no result; nothing where others took it for lost."""
        with self._ours.ending(attempt):
            mine = self._mine(attempt, self._lookup.of(attempt.unique_id))
            self._end(mine, attempt, record, facts, output, removed)

    def _end(
        self,
        mine: Tried | None,
        attempt: Attempt,
        record: StepRecord,
        facts: Mapping[str, Any],
        output: Location | None = None,
        removed: bool = False,
    ) -> None:
        if mine is None or not mine.is_open:
            return
        where = (
            {"dataset": output.id, "subpath": output.subpath} if isinstance(output, BeakerDataset) else None
        )
        data = {
            "end": 1,
            "attempt": attempt.number,
            "facts": dict(facts),
            "record": record.to_json(),
            "output": where,
            "removed": removed,
        }
        try:
            with self._superseding(attempt, mine.dataset):
                created = self._ours.opened(attempt, mine.dataset)
                self._keep_log(attempt, created)
                self._site.door.datasets.write(created, END, seal(data))
                self._site.door.datasets.commit(created.dataset.id)
        except StepSupersededError:
            return

    @contextmanager
    def _superseding(self, attempt: Attempt, dataset: Dataset) -> Iterator[None]:
        """Tell a refusal because others took the attempt for lost from every other one."""
        try:
            yield
        except (BeakerConflictError, BeakerNotFoundError) as error:
            if self._is_open(dataset):
                raise
            raise StepSupersededError(attempt.unique_id, attempt.number) from error

    def _is_open(self, dataset: Dataset) -> bool:
        try:
            return not self._site.door.datasets.get(dataset.id).committed
        except BeakerNotFoundError:
            return False

    def _deliver(
        self, attempt: Attempt, created: CreatedDataset, output: Location | None
    ) -> tuple[Content, BeakerDataset]:
        """Return what the attempt's result consists of, and where it is; what is here is uploaded."""
        if isinstance(output, BeakerDataset):
            return self._pointed(attempt, output), output
        source = attempt.result if output is None else output.path
        if source.is_symlink() or not source.is_dir():
            raise _no_result(attempt, str(attempt.directory))
        parcel = parcels.upload(self._site.door, created, source, RESULT)
        return parcel.content, BeakerDataset("", parcel.subpath, parcel.packed)

    def _pointed(self, attempt: Attempt, output: BeakerDataset) -> Content:
        """Return what a job left in its own dataset, as Beaker has it; of an archive, that it is there."""
        where = f"dataset {output.id}"
        datasets = self._site.door.datasets
        try:
            if not datasets.get(output.id).committed:
                raise BeakerError(
                    f"{where}: is not committed yet", "repeat the command when its job has ended"
                )
            # It becomes the manifest, which nobody doubts any more.
            found = datasets.agreed_files(output.id, output.subpath)
        except BeakerNotFoundError as error:
            raise _no_result(attempt, where) from error
        prefix = output.subpath.rpartition("/")[0] if output.packed else output.subpath
        prefix = f"{prefix}/" if prefix else ""
        if output.packed:
            found = [each for each in found if each.path == output.subpath]
        else:
            found = [each for each in found if each.path.startswith(prefix)]
        if not found:
            raise _no_result(attempt, where)
        unknown = [each.path for each in found if not each.sha256]
        if unknown:
            raise BeakerError(f"{where}: Beaker has no digest of {unknown[0]}", "repeat the command")
        return Content({each.path[len(prefix) :]: (each.size, each.sha256) for each in found})

    def _keep_log(self, attempt: Attempt, created: CreatedDataset) -> None:
        """Keep the end of the attempt's log with it, for those who are on other machines."""
        path = attempt.place / LOG
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - _LOG_BYTES))
                log = file.read(_LOG_BYTES)
        except OSError:
            return
        if log:
            self._site.door.datasets.write(created, LOG, log)

    def _mine(self, attempt: Attempt, tried: list[Tried]) -> Tried | None:
        """Return the dataset of an attempt of ours; another author may have one of the same number."""
        me = self._site.door.account.user_id
        for each in tried:
            if each.number == attempt.number and each.dataset.author_id == me and each.told:
                return each
        return None


def _no_result(attempt: Attempt, where: str) -> StepStateError:
    return StepStateError(
        f"step {attempt.unique_id}: attempt {attempt.number} left no result", f"look at the files in {where}"
    )
