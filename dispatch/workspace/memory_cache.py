"""Results in memory: copies, so that what one caller changes no other sees.

A plain value of the format ``auto`` is kept as its pickle, and nothing becomes a file; everything else goes
through its format, into the ledger's temporary directory.
"""

from __future__ import annotations

import pickle
import warnings
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from dispatch.formats import AUTO, read_result
from dispatch.workspace import manifest as manifests
from dispatch.workspace import records
from dispatch.workspace.base import StepCache, StepCompletedError
from dispatch.workspace.cache import is_used_up, store
from dispatch.workspace.ledger import Ledger

if TYPE_CHECKING:
    from dispatch.formats import Format
    from dispatch.info import StepRecord
    from dispatch.workspace.base import StepLike


def _now() -> datetime:
    return datetime.now(timezone.utc)


@StepCache.register("memory")
class MemoryStepCache(StepCache):
    """Results in memory. Each cache has its own; ``ledger`` is given by the workspace that it belongs to."""

    def __init__(self, ledger: Ledger | None = None) -> None:
        self._ledger = ledger or Ledger(_now)

    def __contains__(self, step: object) -> bool:
        """Say whether the step has a result here that is to be used again."""
        unique_id = getattr(step, "unique_id", None)
        return isinstance(unique_id, str) and self._ledger.is_completed(unique_id)

    def __getitem__(self, step: StepLike) -> Any:
        """Return the step's result, made anew each time. KeyError where there is none."""
        stored = self._ledger.stored(step.unique_id)
        if stored is None:
            raise KeyError(step.unique_id)
        if stored.pickled is not None:
            return pickle.loads(stored.pickled)
        assert stored.directory is not None
        manifests.verify(stored.directory / "result", stored.manifest, deep=True)
        # Nobody but this process could put a pickle there.
        return read_result(stored.directory / "result", trust_pickle=True)

    def __setitem__(self, step: StepLike, value: Any) -> None:
        """Store a result. ValueError where the step has one; a step that is not to be cached is ignored."""
        record = records.record_of(step)
        if not record.cacheable:
            warnings.warn(
                f"step {record.unique_id} is not to be cached: its result is not stored", stacklevel=2
            )
            return
        started = self._ledger.now()
        try:
            number = self._ledger.begin(record, "")
        except StepCompletedError as error:
            raise ValueError(error.message) from error
        try:
            self.keep(record, number, started, value, getattr(step, "format", AUTO))
        except BaseException as error:
            facts = records.facts_of_process(started, self._ledger.now(), error)
            self._ledger.end(record.unique_id, number, facts)
            raise

    def __delitem__(self, step: StepLike) -> None:
        """Remove a step's result. KeyError where there is none."""
        if step not in self:
            raise KeyError(step.unique_id)
        self._ledger.drop(step.unique_id)

    def __len__(self) -> int:
        """Return the number of results."""
        return sum(1 for unique_id in self._ledger.unique_ids() if self._ledger.is_completed(unique_id))

    def keep(
        self, record: StepRecord, number: int, started: datetime, value: Any, format: Format[Any]
    ) -> None:
        """Take in the value that an attempt made here; FormatError if the format cannot hold it."""
        pickled = _pickled(value, format)
        if pickled is None:
            attempt = self._ledger.attempt(record.unique_id, number)
            attempt.result.mkdir()
            store(value, format, attempt, self._ledger.work_path(record.unique_id))
        facts = records.facts_of_process(started, self._ledger.now())
        if pickled is None:
            self._ledger.commit(attempt, record, facts, records.format_facts(format))
        else:
            self._ledger.keep(record, number, facts, format, pickled)


def _pickled(value: Any, format: Format[Any]) -> bytes | None:
    """Return a value's bytes, or None where only the format can tell what is to be stored of it."""
    if format.NAME != AUTO.NAME or is_used_up(value):
        return None
    try:
        return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:
        # The format says what is wrong with it, in the words that every workspace uses.
        return None
