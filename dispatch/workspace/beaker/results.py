"""Results on Beaker: found, fetched, checked, read with care, and stored from this process."""

from __future__ import annotations

import pickle
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dispatch._beaker import BeakerDamagedError, BeakerNotFoundError, DatasetFile
from dispatch.errors import FormatError, WorkspaceError
from dispatch.formats import read_result
from dispatch.workspace.beaker.copies import Copies
from dispatch.workspace.beaker.endings import Endings
from dispatch.workspace.beaker.lookup import Lookup, Result, Tried
from dispatch.workspace.beaker.site import Site
from dispatch.workspace.cache import is_used_up, store
from dispatch.workspace.manifest import DamagedError
from dispatch.workspace.names import is_unique_id
from dispatch.workspace.records import facts_of_process, format_facts

if TYPE_CHECKING:
    from dispatch.formats import Format
    from dispatch.info import StepRecord
    from dispatch.workspace.base import Attempt

_SMALL = 256 << 10
_VALUES = 128


class Results:
    """The results of one workspace. ``trusted``: pickles of other accounts may be loaded."""

    def __init__(self, site: Site, lookup: Lookup, endings: Endings, trusted: bool) -> None:
        self._site = site
        self._lookup = lookup
        self._endings = endings
        self._trusted = trusted
        self.copies = Copies(site)
        self._located: dict[str, Result] = {}
        self._values = _Values()

    def of(self, unique_id: str) -> Result | None:
        """Return the result of a step that counts, or None."""
        result = self._lookup.result(self._lookup.of(unique_id)) if is_unique_id(unique_id) else None
        if result is None:
            self._located.pop(unique_id, None)
        else:
            self._located[unique_id] = result
        return result

    def located(self, unique_id: str) -> Result | None:
        """Return the result that was found last; Beaker is asked only where there was none."""
        return self._located.get(unique_id) or self.of(unique_id)

    def close(self) -> None:
        """Let go of all copies on this machine."""
        self.copies.close()

    def forget(self, unique_id: str) -> None:
        """Forget where a result was found."""
        self._located.pop(unique_id, None)

    def completed(self, unique_ids: Iterable[str]) -> dict[str, Result]:
        """Return the results of those of many steps that have one to be used again."""
        return self.among(self._lookup.of_all(unique_ids))

    def among(self, attempts: Mapping[str, list[Tried]]) -> dict[str, Result]:
        """Return the results to be used again, by unique id, of steps whose attempts are at hand."""
        self._lookup.fetch(each for tried in attempts.values() for each in tried)
        results = {unique_id: self._lookup.result(tried) for unique_id, tried in attempts.items()}
        return {
            unique_id: result
            for unique_id, result in results.items()
            if result is not None and result.manifest.record["cacheable"]
        }

    def read(self, unique_id: str) -> Any:
        """Return a result as an object, made anew each time. KeyError where there is none."""
        result = self.of(unique_id)
        if result is None:
            raise KeyError(unique_id)
        self._check_trust(result)
        known = self._values.get(result.dataset.id)
        if known is not None:
            return pickle.loads(known)
        try:
            with self.copies.using(result) as place:
                value = read_result(place, trust_pickle=True)
                if is_used_up(value):
                    # It reads, or leads, into the copy.
                    self.copies.hold(result)
                else:
                    self._values.put(result, value)
                return value
        except (BeakerDamagedError, BeakerNotFoundError) as error:
            raise _damaged(result, error.message) from error

    def bring(self, unique_id: str) -> None:
        """Have a copy of a result here while this process lives. KeyError where there is no result."""
        result = self.located(unique_id)
        if result is None:
            raise KeyError(unique_id)
        try:
            self.copies.hold(result)
        except BeakerNotFoundError:
            # Removed meanwhile; there may be another.
            again = self.of(unique_id)
            if again is None or again.dataset.id == result.dataset.id:
                raise
            self.copies.hold(again)

    def check_trust(self, unique_id: str) -> None:
        """Raise FormatError if reading a result would run code that an untrusted account wrote."""
        result = self.located(unique_id)
        if result is not None:
            self._check_trust(result)

    def verify(self, unique_id: str, *, deep: bool) -> None:
        """Hold a result against its manifest: what Beaker says of its files, or, ``deep``, their every byte.

        KeyError where there is no result, WorkspaceError where it differs.
        """
        result = self.of(unique_id)
        if result is None:
            raise KeyError(unique_id)
        try:
            if deep:
                self._fetch_apart(result)
            else:
                self._compare(result)
        except (BeakerDamagedError, BeakerNotFoundError) as error:
            raise _damaged(result, error.message) from error

    def keep(
        self,
        attempt: Attempt,
        record: StepRecord,
        started: datetime,
        value: Any,
        format: Format[Any],
    ) -> None:
        """Store the value that an attempt made in this process, as the step's result."""
        attempt.result.mkdir(parents=True, exist_ok=True)
        store(value, format, attempt, self._site.work(attempt.unique_id))
        facts = facts_of_process(started, self._site.ports.now())
        self._endings.commit(attempt, record, facts.to_json(), format_facts(format))

    def take_in(self, attempt: Attempt) -> None:
        """Keep what an attempt left here as the copy of the result that was made of it."""
        result = self.of(attempt.unique_id)
        if result is None or not attempt.result.is_dir():
            return
        # A teammate's attempt may have the same number.
        ours = result.dataset.author_id == self._site.door.account.user_id
        if ours and result.manifest.attempt == attempt.number and result.location.id == result.dataset.id:
            try:
                self.copies.take_in(result, attempt.result)
            except (WorkspaceError, OSError):
                # It is on Beaker; it would only have saved fetching it.
                return
        shutil.rmtree(attempt.result, ignore_errors=True)

    def _check_trust(self, result: Result) -> None:
        if self._trusted or result.dataset.author_id == self._site.door.account.user_id:
            return
        name = self._pickle_in(result)
        if name is not None:
            raise FormatError(
                f"{result.location.id}/{result.location.subpath}: {name} was written by another account"
                f" ({result.dataset.author_id}), and loading it runs code",
                "if you trust everyone who can write there, name the workspace in the setting"
                " trusted_workspaces",
            )

    def _pickle_in(self, result: Result) -> str | None:
        """Return the file of a result whose loading runs code. Only of an archive the bytes are needed."""
        from dispatch.formats import runs_code

        where = result.location
        if where.packed and list(result.manifest.content.files) == [where.subpath.rpartition("/")[2]]:
            with self.copies.using(result) as place:
                return runs_code(place)
        with tempfile.TemporaryDirectory() as directory:
            for path in result.manifest.content.files:
                if "/" not in path:
                    (Path(directory) / path).touch()
            return runs_code(directory)

    def _fetch_apart(self, result: Result) -> None:
        with tempfile.TemporaryDirectory(dir=self._scratch()) as directory:
            self.copies.fetch(result, Path(directory) / "result")

    def _scratch(self) -> Path:
        scratch = self._site.directory / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        return scratch

    def _compare(self, result: Result) -> None:
        where, files = result.location, result.manifest.content.files
        prefix = where.subpath.rpartition("/")[0] if where.packed else where.subpath
        prefix = f"{prefix}/" if prefix else ""
        if where.packed and where.subpath[len(prefix) :] not in files:
            # What is in the archive only its bytes tell.
            wanted: Mapping[str, tuple[int, str] | None] = {where.subpath: None}
        else:
            wanted = {f"{prefix}{path}": facts for path, facts in files.items()}
        datasets = self._site.door.datasets
        if _difference(datasets.files(where.id, where.subpath), wanted):
            # Before a result is called damaged, it is looked at with more care.
            difference = _difference(datasets.agreed_files(where.id, where.subpath), wanted)
            if difference:
                raise _damaged(result, difference)


def _difference(listed: list[DatasetFile], wanted: Mapping[str, tuple[int, str] | None]) -> str:
    """What is not as it should be; empty where all is."""
    found = {each.path: (each.size, each.sha256) for each in listed}
    for path, facts in wanted.items():
        if path not in found:
            return f"{path}: is missing"
        if facts is not None and found[path][0] != facts[0]:
            return f"{path}: has {found[path][0]} bytes instead of {facts[0]}"
        if facts is not None and found[path] != facts:
            return f"{path}: has other bytes"
    return ""


class _Values:
    """Small values, the latest that were read, as pickles: each read is to make a new object."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pickles: OrderedDict[str, bytes] = OrderedDict()

    def get(self, dataset: str) -> bytes | None:
        """Return the pickle of a result's value, if it is here."""
        with self._lock:
            found = self._pickles.get(dataset)
            if found is not None:
                self._pickles.move_to_end(dataset)
            return found

    def put(self, result: Result, value: Any) -> None:
        """Keep a value, if it is small and can be pickled."""
        if sum(size for size, _ in result.manifest.content.files.values()) > _SMALL:
            return
        try:
            pickled = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
        except Exception:
            return
        with self._lock:
            self._pickles[result.dataset.id] = pickled
            while len(self._pickles) > _VALUES:
                self._pickles.popitem(last=False)


def _damaged(result: Result, fact: str) -> DamagedError:
    return DamagedError(
        f"dataset {result.dataset.name} ({result.dataset.id})",
        f"the result is damaged: {fact}",
        "`dispatch repair` sets the damaged result aside, as `dispatch remove` does; it is computed again",
    )
